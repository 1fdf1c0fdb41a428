"""Reading from Stripe what it holds for a whole period of an item: one request, whatever the way of writing it."""

from collections.abc import Awaitable, Callable

from meter_sync.core.billing.span import summary_span, summary_windows
from meter_sync.core.billing.way import Way, meter_on, part_of
from meter_sync.core.planning.stages import Line, span_of
from meter_sync.stripe_api.connection import StripeReader
from meter_sync.stripe_api.meter_events import event_total
from meter_sync.stripe_api.usage_records import period_total


async def held_total(line: Line, stripe: StripeReader) -> int:
    """Return what Stripe holds for the line's item in its period.

    Summaries of meter events are eventually consistent: what was sent lately may be missing.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable, Interrupted or
    ConfigurationError.
    """
    return await _TOTALS[line.way](line, stripe)


async def _total_of_records(line: Line, stripe: StripeReader) -> int:
    return await period_total(stripe, line.item)


async def _total_of_events(line: Line, stripe: StripeReader) -> int:
    item = line.item
    return await event_total(stripe, meter_on(item).id, item.subscription.customer.id, summary_span(item.period))


async def _total_of_windows(line: Line, stripe: StripeReader) -> int:
    item, window = line.item, part_of(line.way, line.item.price)
    span = summary_windows(item.period, span_of(line).start, window)
    return await event_total(stripe, meter_on(item).id, item.subscription.customer.id, span)


_TOTALS: dict[Way, Callable[[Line, StripeReader], Awaitable[int]]] = {
    Way.RECORD: _total_of_records,
    Way.DAY_RECORDS: _total_of_records,
    Way.LAST: _total_of_events,
    Way.ADDITIONS: _total_of_events,
    Way.WINDOWS: _total_of_windows,
}
