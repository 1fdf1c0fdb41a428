"""Usage records of legacy metered prices: what Stripe holds, and setting it."""

from datetime import datetime

from meter_sync.stripe_api.connection import USAGE_RECORD_VERSION, StripeReader, StripeWriter
from meter_sync.stripe_api.wire import Page, UsageRecordSummary, read


async def open_period_total(stripe: StripeReader, item: str) -> int:
    """Given a subscription item, return what Stripe holds for its open period, over all records.

    Summaries come newest first and the first is the open period's; none means nothing yet (API reference
    2025-01-27.acacia). Raise StripeRefused, StripeUnavailable, MeterSyncError or ConfigurationError.
    """
    answer = await stripe.get(
        f"/v1/subscription_items/{item}/usage_record_summaries",
        "usage_record_summaries",
        {"limit": 1},
        USAGE_RECORD_VERSION,
    )
    summaries = read(Page[UsageRecordSummary], answer.data, f"the usage record summaries of {item}").data
    return summaries[0].total_usage if summaries else 0


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
