"""Billing meters: what events are taken, which of them count, and what they add up to.

Sources: Stripe's API reference and guides of usage-based billing (meters, meter events, adjustments, summaries), its
changelog of 2026-04-22.dahlia (digits), and users' reports where the docstring says so.
"""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.rules.billing_periods import Period
from meter_sync.sandbox.stripe.state.objects import ErrorReport, Meter, MeterEvent
from meter_sync.sandbox.stripe.state.state import StripeState

OLDEST_SECONDS = 35 * 24 * 3600
NEWEST_SECONDS = 5 * 60
IDENTIFIER_SECONDS = 24 * 3600
"""How long an identifier is unique ("at least 24 hours"), and how long an event can be cancelled."""
MOST_DIGITS = 15
WINDOW_SECONDS = {"hour": 3600, "day": 24 * 3600}

ERROR_REPORT = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND = "v1.billing.meter.no_meter_found"

_NUMBER = re.compile(r"-?(\d+)(?:\.(\d+))?")


def check_timestamp(timestamp: int, now: int) -> None:
    """Raise Refusal unless an event of this time is taken: 35 days in the past to 5 minutes in the future."""
    if timestamp < now - OLDEST_SECONDS:
        raise Refusal("The timestamp must be within the past 35 days.", param="timestamp")
    if timestamp > now + NEWEST_SECONDS:
        raise Refusal("The timestamp must not be more than 5 minutes in the future.", param="timestamp")


def check_digits(meter: Meter | None, payload: dict[str, str]) -> None:
    """Raise Refusal for a value with more than 15 digits, which the synchronous API refuses at once."""
    value = payload.get(meter.value_key if meter else "value", "")
    match = _NUMBER.fullmatch(value)
    if match and len((match[1] + (match[2] or "")).lstrip("0")) > MOST_DIGITS:
        raise Refusal(
            f"The value in the event payload can have at most {MOST_DIGITS} digits. Received `{value}`.",
            code="meter_event_value_too_many_digits",
            param="payload",
        )


def check_identifier(state: StripeState, identifier: str, now: int) -> None:
    """Raise Refusal for an identifier that came within the last 24 hours; after that it counts again."""
    before = state.identifiers.get(identifier)
    if before is not None and now - before.received < IDENTIFIER_SECONDS:
        raise Refusal(f"An event already exists with identifier {identifier}.", param="identifier")


def receive(state: StripeState, meter: Meter | None, event: MeterEvent, reject_as: str | None) -> None:
    """Take an event. Whether it counts is found out later, and told by an error report if not.

    `reject_as` is the code of an error that no rule here explains.
    """
    event.rejected = reject_as or _why_rejected(state, meter, event)
    if meter is None or event.rejected:
        state.rejected.append((meter.id if meter else None, event))
    else:
        event.value = Decimal(1) if meter.formula == "count" else Decimal(event.payload[meter.value_key])
        state.meter_events[meter.id, event.payload[meter.customer_key]].append(event)
    state.identifiers[event.identifier] = event


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


def report_rejections(state: StripeState, now: int, processing_seconds: int) -> None:
    """Make the error reports of what was rejected so long ago: one for each meter, and one for events without."""
    due = [(meter, event) for meter, event in state.rejected if event.received <= now - processing_seconds]
    if not due:
        return
    state.rejected = [(meter, event) for meter, event in state.rejected if event.received > now - processing_seconds]
    for meter in dict.fromkeys(meter for meter, _ in due):
        rejected = tuple(event for of, event in due if of == meter)
        kind = NO_METER_FOUND if meter is None else ERROR_REPORT
        found_out = max(event.received for event in rejected) + processing_seconds
        report = ErrorReport(state.new_id("evt"), found_out, kind, meter, rejected)
        state.reports.append(report)
        state.news.append(report)


def cancel(state: StripeState, event_name: str, identifier: str, now: int) -> MeterEvent:
    """Cancel an event received within the last 24 hours, and return it; it counts nowhere from now on."""
    event = state.identifiers.get(identifier)
    if event is None or event.event_name != event_name:
        raise Refusal(f"No meter event found with identifier {identifier}.", param="cancel[identifier]")
    if event.is_cancelled:
        raise Refusal(f"The event with identifier {identifier} was cancelled already.", param="cancel[identifier]")
    if now - event.received >= IDENTIFIER_SECONDS:
        raise Refusal(
            "Events can only be cancelled within 24 hours of Stripe receiving them.", param="cancel[identifier]"
        )
    event.cancelled_at = now
    return event


def period_usage(state: StripeState, meter: Meter, customer: str, period: Period) -> Decimal:
    """Return what a customer's events on a meter bill in a period; a negative total bills nothing.

    Usage belongs to the customer: each item on the meter bills all of it (reported by users). Where the meter has
    windows, one that straddles the period's start belongs to it as a whole, and one that straddles its end to the
    next period (reported by one user from test clocks for days; presumably hours do likewise).
    """
    events = [event for event in state.meter_events[meter.id, customer] if not event.is_cancelled]
    if meter.window:
        seconds = WINDOW_SECONDS[meter.window]
        windows = latest_by_window(events, seconds)
        counted = [event for start, event in windows.items() if period.start < start + seconds <= period.end]
    else:
        counted = [event for event in events if period.start <= event.timestamp < period.end]
    return max(aggregated(meter, counted), Decimal(0))


def latest_by_window(events: Iterable[MeterEvent], seconds: int) -> dict[int, MeterEvent]:
    """Return the event that counts in each window: the one received last, whatever its timestamp."""
    return {event.timestamp - event.timestamp % seconds: event for event in events}


def aggregated(meter: Meter, events: Sequence[MeterEvent]) -> Decimal:
    """Return what some events add up to by the meter's formula."""
    if meter.window:
        events = list(latest_by_window(events, WINDOW_SECONDS[meter.window]).values())
    if meter.formula == "count":
        return Decimal(len(events))
    if meter.formula == "last":
        latest = max(enumerate(events), key=lambda each: (each[1].timestamp, each[0]), default=None)
        return latest[1].value if latest else Decimal(0)
    return sum((event.value for event in events), Decimal(0))


def summarized(state: StripeState, meter: Meter, customer: str, span: Period, until: int) -> list[MeterEvent]:
    """Return the events within a span that summaries show: those received, and not cancelled, until then."""
    return [
        event
        for event in state.meter_events[meter.id, customer]
        if span.start <= event.timestamp < span.end
        and event.received <= until
        and (event.cancelled_at is None or event.cancelled_at > until)
    ]
