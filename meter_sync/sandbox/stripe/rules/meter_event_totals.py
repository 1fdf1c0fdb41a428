"""What meter events add up to: in a billing period, and in a summary.

Sources: Stripe's API reference and guides of usage-based billing (meters, summaries), and users' reports where the
docstring says so.
"""

from collections.abc import Sequence
from decimal import Decimal

from meter_sync.sandbox.stripe.rules.meter_windows import latest_by_window, of_invoiced_windows
from meter_sync.sandbox.stripe.state.objects import Meter, MeterEvent, Period
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def period_usage(state: StripeState, meter: Meter, customer: str, period: Period, since: int | None) -> Decimal:
    """Return what a customer's events on a meter bill in a period; a negative total bills nothing.

    Usage belongs to the customer: each item on the meter bills all of it (reported by users); but only what is stamped
    at or after `since`, when it was added in mid-period, or came to its price (Stripe documentation, billing modes).
    """
    events = [event for event in state.meter_events[meter.id, customer] if not event.is_cancelled]
    if meter.window:
        counted = of_invoiced_windows(events, meter.window, period)
    else:
        counted = [event for event in events if period.start <= event.timestamp < period.end]
    if since is not None and since > period.start:
        counted = [event for event in counted if event.timestamp >= since]
    return max(aggregated(meter, counted), Decimal(0))


def aggregated(meter: Meter, events: Sequence[MeterEvent]) -> Decimal:
    """Return what some events add up to by the meter's formula."""
    if meter.window:
        events = list(latest_by_window(events, meter.window).values())
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
