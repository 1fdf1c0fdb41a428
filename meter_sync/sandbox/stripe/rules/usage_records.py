"""Legacy usage records: what is accepted, and what a period's records add up to.

Sources: Stripe's API reference of 2025-01-27.acacia (usage records), its legacy guide to metered
billing, and error messages quoted in authgear-server#2430 and stripe-node#725.
"""

from typing import Literal

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.rules.billing_periods import Period
from meter_sync.sandbox.stripe.state.objects import Aggregation, ClosedPeriod, Item, Price, Subscription

Action = Literal["increment", "set"]

TOO_OLD = (
    "Cannot create the usage record with this timestamp because timestamps must be after the"
    " subscription's last invoice period (or current period start time)."
)
NOT_LEGACY = (
    "Cannot create a usage record for this subscription item because it is not on the legacy"
    " metered billing system. Call /v1/billing/meter_events instead."
)
# For the following refusals Stripe's own words were not found; the rules are Stripe's.
IN_THE_FUTURE = "Cannot create the usage record with this timestamp because timestamps must not be in the future."
NOT_METERED = (
    "Cannot create a usage record for this subscription item because its price has recurring[usage_type]=licensed."
)
THRESHOLDS = "Cannot set usage on a subscription with billing thresholds: `increment` is the only allowed action."
CANCELED = "Cannot create a usage record for a subscription that has been canceled."


def check_item(subscription: Subscription, price: Price, action: Action) -> None:
    """Raise Refusal unless this item takes usage records with this action."""
    if price.meter is not None:
        raise Refusal(NOT_LEGACY)
    if not price.takes_usage_records:
        raise Refusal(NOT_METERED)
    if subscription.ended:
        raise Refusal(CANCELED)
    if action == "set" and subscription.billing_thresholds is not None:
        raise Refusal(THRESHOLDS, param="action")


def check_timestamp(
    item: Item, price: Price, timestamp: int, *, now: float, grace_seconds: float
) -> ClosedPeriod | None:
    """Return the closed period that a record falls into, None for the open one, or raise Refusal.

    A record lies strictly inside the current period and not in the future. For a few minutes after
    a period's end, and on `sum` prices only, it may lie strictly inside that period (Stripe's
    legacy guide: "we don't guarantee it").
    """
    if timestamp > now:
        raise Refusal(IN_THE_FUTURE, param="timestamp")
    if item.period.strictly_contains(timestamp):
        return None
    last = item.closed[-1] if item.closed else None
    if (
        last is not None
        and price.aggregate_usage == "sum"
        and last.period.strictly_contains(timestamp)
        and now <= last.period.end + grace_seconds
    ):
        return last
    raise Refusal(TOO_OLD, param="timestamp")


def record(item: Item, timestamp: int, quantity: int, action: Action) -> None:
    """Write a record: `set` overwrites the quantity at that timestamp, `increment` adds."""
    before = item.records.get(timestamp, 0) if action == "increment" else 0
    item.records[timestamp] = before + quantity


def total_usage(item: Item, aggregation: Aggregation | None, period: Period) -> int:
    """Return the usage of a period, as the price's `aggregate_usage` makes it from the records.

    `last_ever` takes the record of an earlier period if this one has none (API reference,
    recurring.aggregate_usage).
    """
    inside = {
        timestamp: quantity for timestamp, quantity in item.records.items() if period.start <= timestamp < period.end
    }
    if aggregation == "last_ever":
        inside = inside or {
            timestamp: quantity for timestamp, quantity in item.records.items() if timestamp < period.end
        }
    if not inside:
        return 0
    if aggregation == "sum":
        return sum(inside.values())
    if aggregation == "max":
        return max(inside.values())
    return inside[max(inside)]
