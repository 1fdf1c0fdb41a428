"""Usage records of legacy metered prices: what Stripe holds, and setting it."""

from datetime import datetime

from meter_sync.core.model import SubscriptionItem
from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.connection import USAGE_RECORD_VERSION, StripeReader, StripeRefused, StripeWriter
from meter_sync.stripe_api.wire import Page, UsageRecordSummary, instant, read

_SUMMARIES = 6
"""How far back a period is looked for: that of a month, half a year."""


async def period_total(stripe: StripeReader, item: SubscriptionItem) -> int:
    """Given a subscription item, return what Stripe holds for its period, over all records.

    Summaries come newest first, the first being the open period's; none means nothing yet (API reference
    2025-01-27.acacia). The newest that begins before the item's period ends is that of the period.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    answer = await stripe.get(
        f"/v1/subscription_items/{item.id}/usage_record_summaries",
        "usage_record_summaries",
        {"limit": _SUMMARIES},
        USAGE_RECORD_VERSION,
    )
    try:
        summaries = read(Page[UsageRecordSummary], answer.data, f"the usage record summaries of {item.id}").data
    except MeterSyncError as error:
        raise StripeRefused(error.message, None) from error
    for summary in summaries:
        start = summary.period.start
        if start is None or instant(start) < item.period.end:
            return summary.total_usage
    if summaries:
        raise StripeRefused("its period is too long ago", None)
    return 0


async def set_quantity(stripe: StripeWriter, item: str, anchor: datetime, quantity: int) -> str | None:
    """Set the quantity at the anchor, an instant in UTC and whole seconds, and return Stripe's request id.

    `set` overwrites what is held at that timestamp and nothing else, so repeating it changes nothing.
    Raise StripeRefused, StripeUnavailable or ConfigurationError.
    """
    answer = await stripe.post(
        f"/v1/subscription_items/{item}/usage_records",
        "usage_records",
        {"quantity": quantity, "timestamp": int(anchor.timestamp()), "action": "set"},
        USAGE_RECORD_VERSION,
    )
    return answer.request_id
