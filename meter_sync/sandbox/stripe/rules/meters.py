"""Billing meters: of active ones, each has an event name of its own.

Source: Stripe's API reference of meters.
"""

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.state.objects import Formula, Meter, WindowSize
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def add_meter(
    state: StripeState,
    event_name: str = "api_requests",
    *,
    formula: Formula = "sum",
    window: WindowSize | None = None,
    customer_key: str = "stripe_customer_id",
    value_key: str = "value",
    display_name: str | None = None,
    id: str | None = None,
) -> str:
    """Add a billing meter and return its id."""
    _check_event_name(state, event_name, param="event_name")
    meter = Meter(
        id=id or state.new_id("mtr"),
        created=state.now,
        updated=state.now,
        display_name=display_name or event_name,
        event_name=event_name,
        formula=formula,
        window=window,
        customer_key=customer_key,
        value_key=value_key,
    )
    state.meters.add(meter)
    return meter.id


def deactivate_meter(state: StripeState, id: str) -> None:
    """Deactivate a meter: it takes no more events, but prices stay on it."""
    meter = state.meters.find(id)
    meter.deactivated_at = meter.updated = state.now


def reactivate_meter(state: StripeState, id: str) -> None:
    """Let a meter take events again, unless another active one has its event name."""
    meter = state.meters.find(id)
    if meter.deactivated_at is not None:
        _check_event_name(state, meter.event_name)
        meter.deactivated_at, meter.updated = None, state.now


def _check_event_name(state: StripeState, event_name: str, param: str | None = None) -> None:
    """Raise Refusal if an active meter has this event name."""
    if any(meter.event_name == event_name and meter.deactivated_at is None for meter in state.meters):
        raise Refusal(f"An active meter already exists with event name {event_name}.", param=param)


def meter_named(state: StripeState, event_name: str) -> Meter | None:
    """Return the meter for an event name, an active one first."""
    named = [meter for meter in state.meters if meter.event_name == event_name]
    return min(named, key=lambda meter: meter.deactivated_at is not None, default=None)
