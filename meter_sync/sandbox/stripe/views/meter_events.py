"""How Stripe shows meter events, their cancellation and their summaries (object types of stripe-python 16)."""

from decimal import Decimal

from meter_sync.sandbox.instants import from_unix
from meter_sync.sandbox.stripe.protocol.event_sessions import EventSession
from meter_sync.sandbox.stripe.state.objects import Meter, MeterEvent
from meter_sync.sandbox.stripe.views.view import Json, View


def show_meter_event(view: View, shown: MeterEvent) -> Json:
    """Show a meter event as it was sent."""
    return {
        "object": "billing.meter_event",
        "created": shown.received,
        "event_name": shown.event_name,
        "identifier": shown.identifier,
        "livemode": view.livemode,
        "payload": shown.payload,
        "timestamp": shown.timestamp,
    }


def show_event_session(view: View, session: EventSession) -> Json:
    """Show a session of the meter event stream, with its token."""
    return {
        "id": session.id,
        "object": "v2.billing.meter_event_session",
        "authentication_token": session.token,
        "created": from_unix(session.created).isoformat(),
        "expires_at": from_unix(session.expires_at).isoformat(),
        "livemode": view.livemode,
    }


def show_adjustment(view: View, cancelled: MeterEvent) -> Json:
    """Show the cancellation of a meter event."""
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": {"identifier": cancelled.identifier},
        "event_name": cancelled.event_name,
        "livemode": view.livemode,
        "status": "pending",
        "type": "cancel",
    }


def show_meter_summary(view: View, of: Meter, start: int, end: int, value: Decimal) -> Json:
    """Show what events add up to; Stripe shows it as a float."""
    return {
        "id": f"mtrusg_1{of.id.removeprefix('mtr_1')}x{start}x{end}",
        "object": "billing.meter_event_summary",
        "aggregated_value": float(value),
        "end_time": end,
        "livemode": view.livemode,
        "meter": of.id,
        "start_time": start,
    }
