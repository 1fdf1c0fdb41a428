"""How Stripe shows billing meters (object types of stripe-python 16)."""

from meter_sync.sandbox.stripe.state.objects import Meter
from meter_sync.sandbox.stripe.views.view import Json, View


def show_meter(view: View, shown: Meter) -> Json:
    """Show a billing meter."""
    return {
        "id": shown.id,
        "object": "billing.meter",
        "created": shown.created,
        "customer_mapping": {"event_payload_key": shown.customer_key, "type": "by_id"},
        "default_aggregation": {"formula": shown.formula},
        "display_name": shown.display_name,
        "event_name": shown.event_name,
        "event_time_window": shown.window,
        "livemode": view.livemode,
        "status": "active" if shown.deactivated_at is None else "inactive",
        "status_transitions": {"deactivated_at": shown.deactivated_at},
        "updated": shown.updated,
        "value_settings": {"event_payload_key": shown.value_key},
    }
