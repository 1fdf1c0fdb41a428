"""Reading from Stripe what stands there for a whole period of an item: one request, whatever the way of writing it."""

from meter_sync.core.billing.event_times import summary_span, summary_windows
from meter_sync.core.billing.item import Period, Target
from meter_sync.core.billing.way import Way, meter_on, window_of
from meter_sync.core.planning.stages import Metered
from meter_sync.stripe_api.connection import StripeReader
from meter_sync.stripe_api.meter_events import event_total
from meter_sync.stripe_api.usage_records import period_total


async def standing_total(metered: Metered, stripe: StripeReader) -> int:
    """Return what stands in Stripe for an item in its period.

    Summaries of meter events are eventually consistent: what was sent lately may be missing.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable, Interrupted or
    ConfigurationError.
    """
    item = metered.item
    if metered.way.target is Target.USAGE_RECORD:
        return await period_total(stripe, item)
    summarized = _summarized(metered)
    if summarized.end <= summarized.start:
        return 0  # nothing is ever stamped in less than a minute
    return await event_total(stripe, meter_on(item).id, item.subscription.customer.id, summarized)


def _summarized(metered: Metered) -> Period:
    stamps = metered.span.stamps
    if metered.way is not Way.WINDOWS:
        return summary_span(stamps)
    window = window_of(metered.way, metered.item.price)
    return summary_windows(stamps, window, is_turn=metered.begins_with_turn)
