"""Legacy usage records: which item takes one, and how it is written.

Sources: Stripe's API reference of 2025-01-27.acacia (usage records), its legacy guide to metered
billing, and the error message quoted in stripe-node#725.
"""

from typing import Literal

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.rules import invoices
from meter_sync.sandbox.stripe.rules.usage_record_timestamps import check_bounds
from meter_sync.sandbox.stripe.state.objects import Price, Subscription
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

Action = Literal["increment", "set"]

NOT_LEGACY = (
    "Cannot create a usage record for this subscription item because it is not on the legacy"
    " metered billing system. Call /v1/billing/meter_events instead."
)
# For the following refusals Stripe's own words were not found; the rules are Stripe's.
NOT_METERED = (
    "Cannot create a usage record for this subscription item because its price has recurring[usage_type]=licensed."
)
THRESHOLDS = "Cannot set usage on a subscription with billing thresholds: `increment` is the only allowed action."
CANCELED = "Cannot create a usage record for a subscription that has been canceled."


def create_usage_record(
    state: StripeState,
    item_id: str,
    quantity: int,
    timestamp: int | None,
    action: Action,
    *,
    now: float,
    grace_seconds: float,
) -> int:
    """Write a usage record and return its timestamp (given None: now), or raise Refusal.

    `set` overwrites the quantity at that timestamp, `increment` adds. In the grace after a period's end it changes the
    draft of that period's invoice.
    """
    item = state.item(item_id, param="subscription_item")
    _check_item(state.subscriptions[item.subscription], state.price_of(item), action)
    at = int(now) if timestamp is None else timestamp
    closed = check_bounds(state, item, at, now=now, grace_seconds=grace_seconds)
    before = item.records.get(at, 0) if action == "increment" else 0
    item.records[at] = before + quantity
    if closed is not None:
        invoices.redraft(state, item, closed)
    return at


def _check_item(subscription: Subscription, price: Price, action: Action) -> None:
    """Raise Refusal unless this item takes usage records with this action."""
    if price.meter is not None:
        raise Refusal(NOT_LEGACY)
    if not price.takes_usage_records:
        raise Refusal(NOT_METERED)
    if subscription.ended:
        raise Refusal(CANCELED)
    if action == "set" and subscription.billing_thresholds is not None:
        raise Refusal(THRESHOLDS, param="action")


def records(state: StripeState, item_id: str) -> dict[int, int]:
    """Return all usage records of an item: timestamp to quantity."""
    return dict(state.items[item_id].records)
