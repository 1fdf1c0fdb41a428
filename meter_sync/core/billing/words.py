"""Words of Stripe's that this version knows: one that it does not know costs the items it is said of, not the run."""

from meter_sync.core.billing.item import SubscriptionItem

STATUSES = frozenset(
    {"active", "past_due", "trialing", "unpaid", "paused", "incomplete", "incomplete_expired", "canceled"}
)
"""Of a subscription (API reference); an item that has ended keeps that of its end."""
AGGREGATES = frozenset({"sum", "max", "last_during_period", "last_ever"})
"""Of a legacy price's usage records (API reference 2025-01-27.acacia)."""
FORMULAS = frozenset({"sum", "count", "last"})
"""Of a billing meter's events (API reference)."""


def unknown(item: SubscriptionItem) -> str | None:
    """Return what Stripe says of an item that may mean anything, in words, or None if all of it is known.

    What is stored of an item keeps such words, so that a later version, which knows them, goes on with it.
    """
    if item.not_understood is not None:
        return item.not_understood
    word = _unknown_word(item)
    return word and f"{word}, which this version of meter-sync does not know"


def _unknown_word(item: SubscriptionItem) -> str | None:
    subscription, price, meter = item.subscription, item.price, item.price.billing_meter
    if subscription.status not in STATUSES:
        return f"subscription {subscription.id} has the status {subscription.status!r}"
    if subscription.unknown_billing_mode is not None:
        return f"subscription {subscription.id} has the billing mode {subscription.unknown_billing_mode!r}"
    if price.stripe_meter is None and price.aggregate_usage not in AGGREGATES:
        return f"price {price.id} aggregates its usage by {price.aggregate_usage!r}"
    if meter is None:
        return None
    if meter.unknown_status is not None:
        return f"billing meter {meter.id} ({meter.event_name}) has the status {meter.unknown_status!r}"
    if meter.formula not in FORMULAS:
        return f"billing meter {meter.id} ({meter.event_name}) has the formula {meter.formula!r}"
    if meter.unknown_window is not None:
        return f"billing meter {meter.id} ({meter.event_name}) has windows of one {meter.unknown_window!r}"
    return None
