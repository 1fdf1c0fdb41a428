"""How Stripe shows test clocks (the object type of stripe-python 16)."""

from meter_sync.sandbox.stripe.state.objects import TestClock
from meter_sync.sandbox.stripe.views.view import Json, View

_KEPT_SECONDS = 30 * 86_400
"""When a test clock is deleted by itself (Stripe documentation, Test clocks)."""


def show_test_clock(view: View, clock: TestClock) -> Json:
    """Show a test clock."""
    return {
        "id": clock.id,
        "object": "test_helpers.test_clock",
        "created": clock.created,
        "deletes_after": clock.created + _KEPT_SECONDS,
        "frozen_time": clock.frozen_time,
        "livemode": view.livemode,
        "name": clock.name,
        "status": clock.status,
        "status_details": {},
    }
