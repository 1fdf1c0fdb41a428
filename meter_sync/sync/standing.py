"""Reading from Stripe what stands there for whole periods of an item: one request each, whatever the way of writing."""

from meter_sync.core.billing.event_times import first_minute, summary_span, summary_windows
from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import Period, Target
from meter_sync.core.billing.period_before import period_before
from meter_sync.core.billing.way import Way, meter_on, window_of
from meter_sync.core.planning.memory import PastPeriod
from meter_sync.core.planning.stages import Listed, Metered
from meter_sync.stripe_api.connection import StripeReader
from meter_sync.stripe_api.meter_events import event_total, past_total
from meter_sync.stripe_api.usage_records import RecordedPeriod, period_total


async def standing_total(metered: Metered, stripe: StripeReader) -> int:
    """Return what stands in Stripe for an item in its period.

    Summaries of meter events are eventually consistent: what was sent lately may be missing.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable, Interrupted or
    ConfigurationError.
    """
    item = metered.item
    if metered.way.target is Target.USAGE_RECORD:
        return await period_total(stripe, recorded_period(metered.listed))
    summarized = _summarized(metered, metered.span.stamps, is_turn=metered.begins_with_turn)
    if summarized.end <= summarized.start:
        return 0  # nothing is ever stamped in less than a minute
    return await event_total(stripe, meter_on(item).id, item.subscription.customer.id, summarized)


async def past_of_events(metered: Metered, stripe: StripeReader) -> tuple[PastPeriod, ...]:
    """Return what Stripe's summary says of the period before that of an item on a billing meter, if it was there then.

    Raise as `standing_total` does.
    """
    item, before = metered.item, period_before(metered.item)
    summarized = before and _summarized(metered, before, is_turn=True)
    if not before or not summarized or summarized.start >= summarized.end:
        return ()
    total = await past_total(stripe, meter_on(item).id, item.subscription.customer.id, summarized)
    return (PastPeriod(before, total),)


async def foreign_at_start(metered: Metered, stripe: StripeReader) -> int:
    """Return what others' events add up to in the minute in which an item's period begins, where events only add up.

    Raise as `standing_total` does.
    """
    minute = first_minute(metered.span.stamps)
    if metered.way is not Way.ADDITIONS or minute.start == minute.end:
        return 0
    return await event_total(stripe, meter_on(metered.item).id, metered.item.subscription.customer.id, minute)


def recorded_period(listed: Listed) -> RecordedPeriod:
    """Return by what Stripe's summaries of usage records tell a listed period from the item's others."""
    return RecordedPeriod(listed.item, listed.intake is not Intake.RUNNING, listed.invoice)


def _summarized(metered: Metered, stamps: Period, *, is_turn: bool) -> Period:
    if metered.way is not Way.WINDOWS:
        return summary_span(stamps)
    return summary_windows(stamps, window_of(metered.way, metered.item.price), is_turn=is_turn)
