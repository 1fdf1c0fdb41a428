"""Test clocks: how one comes into being, and how its time moves.

Source: Stripe's documentation of test clocks (API and advanced usage), and the API reference.
"""

from datetime import datetime

from meter_sync.sandbox.instants import unix_seconds
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.rules import timeline
from meter_sync.sandbox.stripe.state.objects import TestClock
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def add_test_clock(state: StripeState, frozen_time: datetime, id: str | None = None, name: str | None = None) -> str:
    """Add a test clock that stands at an instant, past or future, and return its id; customers are made with it."""
    frozen = unix_seconds(frozen_time)
    clock = TestClock(id or state.new_id("clock"), state.now, frozen, name, settled_until=frozen)
    state.test_clocks.add(clock)
    return clock.id


def advance_test_clock(state: StripeState, id: str, frozen_time: datetime) -> None:
    """Move a test clock forward; what falls due by then happens. Simplified: it is not on its way for any time."""
    clock, target = state.test_clocks.find(id), unix_seconds(frozen_time)
    if target <= clock.frozen_time:
        raise Refusal("The frozen time must be after the test clock's current frozen time.", param="frozen_time")
    clock.frozen_time = target
    timeline.settle(state, state.real_now)
