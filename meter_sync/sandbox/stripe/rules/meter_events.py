"""Meter events: which are taken, which of them count, and how one is cancelled.

Sources: Stripe's API reference and guides of usage-based billing (meter events, adjustments) and its changelog of
2026-04-22.dahlia (digits).
"""

import re
from collections.abc import Mapping
from decimal import Decimal

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.rules import invoices, meter_event_identifiers
from meter_sync.sandbox.stripe.rules.meters import meter_named
from meter_sync.sandbox.stripe.state.objects import Meter, MeterEvent
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

OLDEST_SECONDS = 35 * 24 * 3600
NEWEST_SECONDS = 5 * 60
CANCELLABLE_SECONDS = 24 * 3600
MOST_DIGITS = 15

_NUMBER = re.compile(r"-?(\d+)(?:\.(\d+))?")


def create_meter_event(
    state: StripeState,
    event_name: str,
    payload: Mapping[str, str],
    timestamp: int | None = None,
    identifier: str | None = None,
    *,
    reject_as: str | None = None,
) -> MeterEvent:
    """Take a meter event (given None: now, and an identifier of Stripe's), or raise Refusal.

    Assumed: of a customer on a test clock, its time is what the timestamp is held against.
    Whether it counts is found out later, and told by an error report if not: with the code `reject_as` for a
    reason that no rule here explains.
    """
    event, meter, now = _event(state, event_name, payload, timestamp, identifier)
    meter_event_identifiers.check_length(event.identifier)
    _check_timestamp(event.timestamp, now)
    _check_digits(meter, event.payload)
    meter_event_identifiers.refuse_duplicate(state, event.identifier)
    _take(state, meter, event, reject_as)
    return event


def stream_meter_event(
    state: StripeState,
    event_name: str,
    payload: Mapping[str, str],
    timestamp: int | None = None,
    identifier: str | None = None,
    *,
    reject_as: str | None = None,
    reports_duplicates: bool = False,
) -> None:
    """Take a meter event of the stream, which finds out later also what is refused of others at once.

    Source: API reference, "Events are processed asynchronously, including validation". The codes are those of error
    reports. Assumed: one whose identifier came within 24 hours is dropped, and no report tells of it, unless it is to.
    """
    event, meter, now = _event(state, event_name, payload, timestamp, identifier)
    if meter_event_identifiers.is_duplicate(state, event.identifier):
        if reports_duplicates:
            event.rejected = "duplicate_meter_event"
            state.rejected.append((meter.id if meter else None, event))
        return
    try:
        _check_timestamp(event.timestamp, now)
        _check_digits(meter, event.payload)
    except Refusal as refusal:
        in_future = event.timestamp > now
        reject_as = refusal.code or ("timestamp_in_future" if in_future else "timestamp_too_far_in_past")
    _take(state, meter, event, reject_as)


def _event(
    state: StripeState, event_name: str, payload: Mapping[str, str], timestamp: int | None, identifier: str | None
) -> tuple[MeterEvent, Meter | None, int]:
    """Return an event as it comes, its meter if there is one, and the present of its customer."""
    meter = meter_named(state, event_name)
    now = state.now_of(state.clock_of(payload.get(meter.customer_key)) if meter else None)
    event = MeterEvent(
        identifier=identifier or state.new_id("evt_id"),
        event_name=event_name,
        payload=dict(payload),
        timestamp=now if timestamp is None else timestamp,
        received=state.now,
    )
    return event, meter, now


def _take(state: StripeState, meter: Meter | None, event: MeterEvent, reject_as: str | None) -> None:
    """Let an event count, or be reported as rejected."""
    event.rejected = reject_as or _why_rejected(state, meter, event)
    if meter is None or event.rejected:
        state.rejected.append((meter.id if meter else None, event))
    else:
        event.value = Decimal(1) if meter.formula == "count" else Decimal(event.payload[meter.value_key])
        state.meter_events[meter.id, event.payload[meter.customer_key]].append(event)
    state.identifiers[event.identifier] = event
    _redraft(state, meter, event)


def _check_timestamp(timestamp: int, now: int) -> None:
    """Raise Refusal unless an event of this time is taken: 35 days in the past to 5 minutes in the future."""
    if timestamp < now - OLDEST_SECONDS:
        raise Refusal("The timestamp must be within the past 35 days.", param="timestamp")
    if timestamp > now + NEWEST_SECONDS:
        raise Refusal("The timestamp must not be more than 5 minutes in the future.", param="timestamp")


def _check_digits(meter: Meter | None, payload: Mapping[str, str]) -> None:
    """Raise Refusal for a value with more than 15 digits, which the synchronous API refuses at once."""
    value = payload.get(meter.value_key if meter else "value", "")
    match = _NUMBER.fullmatch(value)
    if match and len((match[1] + (match[2] or "")).lstrip("0")) > MOST_DIGITS:
        raise Refusal(
            f"The value in the event payload can have at most {MOST_DIGITS} digits. Received `{value}`.",
            code="meter_event_value_too_many_digits",
            param="payload",
        )


def _why_rejected(state: StripeState, meter: Meter | None, event: MeterEvent) -> str | None:
    """Return the code of the error event, or None for an event that counts."""
    if meter is None:
        return "no_meter"
    if meter.deactivated_at is not None:
        return "archived_meter"
    if meter.customer_key not in event.payload:
        return "meter_event_no_customer_defined"
    customer = state.customers.get(event.payload[meter.customer_key])
    if customer is None or customer.deleted:
        return "meter_event_customer_not_found"
    if meter.formula != "count" and _NUMBER.fullmatch(event.payload.get(meter.value_key, "")) is None:
        return "meter_event_invalid_value"
    return None


def _redraft(state: StripeState, meter: Meter | None, event: MeterEvent) -> None:
    """Bring the customer's drafts up to date: late events count until an invoice is finalized."""
    customer = event.payload.get(meter.customer_key) if meter else None
    if customer is not None:
        invoices.redraft_customer(state, customer)


def cancel_meter_event(state: StripeState, event_name: str, identifier: str) -> MeterEvent:
    """Cancel an event received within the last 24 hours, and return it; it counts nowhere from now on."""
    event = state.identifiers.get(identifier)
    if event is None or event.event_name != event_name:
        raise Refusal(f"No meter event found with identifier {identifier}.", param="cancel[identifier]")
    if event.is_cancelled:
        raise Refusal(f"The event with identifier {identifier} was cancelled already.", param="cancel[identifier]")
    if state.now - event.received >= CANCELLABLE_SECONDS:
        raise Refusal(
            "Events can only be cancelled within 24 hours of Stripe receiving them.", param="cancel[identifier]"
        )
    event.cancelled_at = state.now
    _redraft(state, meter_named(state, event_name), event)
    return event


def received(state: StripeState, meter_id: str, customer: str) -> list[MeterEvent]:
    """Return what was received for a customer on a meter and counts, in order; cancelled ones too."""
    return list(state.meter_events[meter_id, customer])


def lock_of(state: StripeState, event_name: object, payload: object) -> tuple[str, str] | None:
    """Return whose events on which meter an event would be among, as far as its parameters say.

    Only one request at a time may be at them: "One concurrent call per customer per meter" (Stripe documentation,
    Rate limits).
    """
    if not isinstance(event_name, str) or not isinstance(payload, dict):
        return None
    meter = meter_named(state, event_name)
    customer = payload.get(meter.customer_key) if meter else None
    return (event_name, customer) if isinstance(customer, str) else None
