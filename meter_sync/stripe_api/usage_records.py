"""Usage records of legacy metered prices: what Stripe holds, and setting it."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from meter_sync.core.billing.item import Period, SubscriptionItem
from meter_sync.core.planning.memory import PastPeriod
from meter_sync.stripe_api.connection import USAGE_RECORD_VERSION, StripeReader, StripeRefused, StripeWriter
from meter_sync.stripe_api.paging import in_doubt, refusing
from meter_sync.stripe_api.shapes import NotUnderstood, Page, PathIdentifier, Quantity, Shape, UnixSeconds

_SUMMARIES = 6
"""How far back a period is looked for: that of a month, half a year."""


class SummaryPeriod(Shape):
    """The period of a summary; Stripe leaves the bounds of an open one out at times."""

    start: UnixSeconds | None = None
    end: UnixSeconds | None = None


class UsageRecordSummary(Shape):
    """What Stripe holds for one period of an item."""

    subscription_item: PathIdentifier
    period: SummaryPeriod = SummaryPeriod()
    total_usage: Annotated[Quantity, Field(ge=0)]


class UsageRecordData(Shape):
    """A usage record as Stripe has taken it."""

    subscription_item: PathIdentifier
    quantity: Quantity
    timestamp: UnixSeconds


async def period_total(stripe: StripeReader, item: SubscriptionItem) -> int:
    """Given a subscription item, return what Stripe holds for its period, over all records.

    Raise as `period_totals` does.
    """
    return (await period_totals(stripe, item))[0]


async def period_totals(stripe: StripeReader, item: SubscriptionItem) -> tuple[int, tuple[PastPeriod, ...]]:
    """Given a subscription item, return what Stripe holds for its period, over all records, and for those before it.

    Summaries come newest first, the first being the open period's; none means nothing yet (API reference
    2025-01-27.acacia). The newest that begins before the item's period ends is that of the period.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    summaries = await _summaries(stripe, item)
    past = tuple(
        PastPeriod(Period(start, end), summary.total_usage)
        for summary in summaries
        if (start := summary.period.start) and (end := summary.period.end) and start < end <= item.period.start
    )
    for summary in summaries:
        start = summary.period.start
        if start is None or start < item.period.end:
            return summary.total_usage, past
    if summaries:
        raise StripeRefused("its period is too long ago")
    return 0, ()


async def _summaries(stripe: StripeReader, item: SubscriptionItem) -> list[UsageRecordSummary]:
    path = f"/v1/subscription_items/{item.id}/usage_record_summaries"
    answer = await stripe.get(path, "usage_record_summaries", {"limit": _SUMMARIES}, USAGE_RECORD_VERSION)
    with refusing():
        summaries = Page[UsageRecordSummary].read(answer, f"the usage record summaries of {item.id}").data
    if any(summary.subscription_item != item.id for summary in summaries):
        raise StripeRefused(f"it answered with a summary of another item than {item.id}")
    return summaries


async def set_quantity(stripe: StripeWriter, item: str, anchor: datetime, quantity: int) -> str | None:
    """Set the quantity at the anchor, an instant in UTC and whole seconds, and return Stripe's request id.

    `set` overwrites what is held at that timestamp and nothing else, so repeating it changes nothing.
    Raise StripeRefused, StripeUnavailable, also for an answer that is about anything else, or ConfigurationError.
    """
    path = f"/v1/subscription_items/{item}/usage_records"
    params = {"quantity": quantity, "timestamp": int(anchor.timestamp()), "action": "set"}
    answer = await stripe.post(path, "usage_records", params, USAGE_RECORD_VERSION)
    with in_doubt():
        taken = UsageRecordData.read(answer.data, f"the usage record of {item}")
        if (taken.subscription_item, taken.quantity, taken.timestamp) != (item, quantity, anchor):
            raise NotUnderstood(f"the usage record of {item}", "it is about another record")
    return answer.request_id
