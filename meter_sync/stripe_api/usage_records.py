"""Usage records of legacy metered prices: what Stripe holds, and setting it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import Field

from meter_sync.core.billing.item import Period, SubscriptionItem
from meter_sync.core.planning.memory import PastPeriod
from meter_sync.stripe_api.connection import USAGE_RECORD_VERSION, StripeReader, StripeRefused, StripeWriter
from meter_sync.stripe_api.paging import in_doubt, refusing
from meter_sync.stripe_api.shapes import (
    Identifier,
    NotUnderstood,
    Page,
    PathIdentifier,
    Quantity,
    Shape,
    UnixSeconds,
)

_SUMMARIES = 6
"""How far back a period is looked for: that of a month, half a year."""


class SummaryPeriod(Shape):
    """The period of a summary; Stripe may leave its bounds out, as the example in its API reference does."""

    start: UnixSeconds | None = None
    end: UnixSeconds | None = None


class UsageRecordSummary(Shape):
    """What Stripe holds for one period of an item."""

    subscription_item: PathIdentifier
    period: SummaryPeriod = SummaryPeriod()
    total_usage: Annotated[Quantity, Field(ge=0)]
    invoice: Identifier | None = None


class UsageRecordData(Shape):
    """A usage record as Stripe has taken it."""

    subscription_item: PathIdentifier
    quantity: Quantity
    timestamp: UnixSeconds


@dataclass(frozen=True, slots=True)
class RecordedPeriod:
    """A period of an item, as summaries tell it."""

    item: SubscriptionItem
    is_over: bool
    invoice: str | None = None
    """The invoice of its end, where that is known."""


async def period_total(stripe: StripeReader, recorded: RecordedPeriod) -> int:
    """Given an item's period, return what Stripe holds for it, over all records.

    Raise as `period_totals` does.
    """
    return (await period_totals(stripe, recorded))[0]


async def period_totals(stripe: StripeReader, recorded: RecordedPeriod) -> tuple[int, tuple[PastPeriod, ...]]:
    """Given an item's period, return what Stripe holds for it, over all records, and for those before it.

    Summaries come newest first, the first being the open period's; none means nothing yet (API reference
    2025-01-27.acacia).
    Raise StripeRefused, also for an answer that is not understood or does not say which period it is about,
    StripeUnavailable or ConfigurationError.
    """
    summaries, period = await _summaries(stripe, recorded.item), recorded.item.period
    past = tuple(
        PastPeriod(Period(start, end), summary.total_usage)
        for summary in summaries
        if (start := summary.period.start) and (end := summary.period.end) and start < end <= period.start
    )
    return (_ended(summaries, recorded) if recorded.is_over else _open(summaries, period)), past


def _open(summaries: Sequence[UsageRecordSummary], period: Period) -> int:
    """Return the total of an open period: the newest, whether or not it has bounds, that begins before its end."""
    for summary in summaries:
        start = summary.period.start
        if start is None or start < period.end:
            return summary.total_usage
    if summaries:
        raise StripeRefused("its period is too long ago")
    return 0


def _ended(summaries: Sequence[UsageRecordSummary], recorded: RecordedPeriod) -> int:
    """Return the total of a period that has ended, found by its invoice or its bounds.

    One without bounds may be of any period: of the open one, or of an earlier one.
    """
    period = recorded.item.period
    for summary in summaries:
        if recorded.invoice and summary.invoice == recorded.invoice:
            return summary.total_usage
    for summary in summaries:
        start, end = summary.period.start, summary.period.end
        if start is not None and start < period.end and (end is None or end > period.start):
            return summary.total_usage
    if any(summary.period.start is None for summary in summaries):
        raise StripeRefused("its summaries do not say which periods they are about")
    if summaries and all((summary.period.start or period.end) >= period.end for summary in summaries):
        raise StripeRefused("its period is too long ago")
    return 0


async def _summaries(stripe: StripeReader, item: SubscriptionItem) -> list[UsageRecordSummary]:
    path = f"/v1/subscription_items/{item.id}/usage_record_summaries"
    answer = await stripe.get(path, "usage_record_summaries", {"limit": _SUMMARIES}, USAGE_RECORD_VERSION)
    with refusing():
        summaries = Page[UsageRecordSummary].read(answer, f"the usage record summaries of {item.id}").data
    if any(summary.subscription_item != item.id for summary in summaries):
        raise StripeRefused(f"it answered with a summary of another item than {item.id}")
    return summaries


async def set_quantity(
    stripe: StripeWriter, item: str, anchor: datetime, quantity: int, before_each: Callable[[], None] = lambda: None
) -> str | None:
    """Set the quantity at the anchor, an instant in UTC and whole seconds, and return Stripe's request id.

    `set` overwrites what is held at that timestamp and nothing else, so repeating it changes nothing. `before_each` is
    called before each attempt.
    Raise StripeRefused, StripeUnavailable, also for an answer that is about anything else, or ConfigurationError.
    """
    path = f"/v1/subscription_items/{item}/usage_records"
    params = {"quantity": quantity, "timestamp": int(anchor.timestamp()), "action": "set"}
    answer = await stripe.post(path, "usage_records", params, USAGE_RECORD_VERSION, before_each)
    with in_doubt():
        taken = UsageRecordData.read(answer.data, f"the usage record of {item}")
        if (taken.subscription_item, taken.quantity, taken.timestamp) != (item, quantity, anchor):
            raise NotUnderstood(f"the usage record of {item}", "it is about another record")
    return answer.request_id
