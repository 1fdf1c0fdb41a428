"""Items of subscriptions: how they come into being, change their price and are deleted."""

from datetime import datetime

from meter_sync.sandbox.instants import unix_seconds
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.rules import events, period_turns
from meter_sync.sandbox.stripe.rules.billing_periods import period_at
from meter_sync.sandbox.stripe.rules.invoice_items import bill_before_change
from meter_sync.sandbox.stripe.state.objects import Item, Metadata, Period, Price, Subscription
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def new_item(
    state: StripeState,
    subscription: Subscription,
    price: Price,
    period: Period,
    *,
    created: int,
    metadata: Metadata | None,
    quantity: int | None,
) -> Item:
    """Add an item to a subscription."""
    item = Item(
        id=state.new_id("si"),
        created=created,
        subscription=subscription.id,
        price=price.id,
        period=period,
        metadata=dict(metadata or {}),
        quantity=None if price.usage_type == "metered" else quantity or 1,
    )
    state.items.add(item, f"subscription:{subscription.id}")
    state.subscriptions.put_on(f"price:{price.id}", subscription.id)
    subscription.items.append(item.id)
    return item


def add_item(
    state: StripeState,
    subscription_id: str,
    price: str,
    created: datetime | None = None,
    metadata: Metadata | None = None,
    *,
    quantity: int | None = None,
) -> str:
    """Add an item to a subscription in mid-period, and return its id. It bills no meter event from before that."""
    with events.changing(state, subscription_id) as subscription:
        chosen = state.prices.find(price, param="price", status=400)
        item = new_item(
            state,
            subscription,
            chosen,
            _period_beside(state, subscription, chosen),
            created=state.now if created is None else unix_seconds(created),
            metadata=metadata,
            quantity=quantity,
        )
        item.billed_since = item.created
        period_turns.schedule(state, subscription)
        return item.id


def _period_beside(state: StripeState, subscription: Subscription, price: Price) -> Period:
    """Return the period of a new item: that of a neighbour with the same interval, or the one that contains now."""
    for item in state.items_of(subscription):
        other = state.price_of(item)
        if (other.interval, other.interval_count) == (price.interval, price.interval_count):
            return item.period
    return period_at(subscription.anchor, price, state.now)


def set_item_metadata(state: StripeState, item_id: str, metadata: Metadata) -> None:
    """Replace an item's metadata."""
    item = state.item(item_id)
    with events.changing(state, item.subscription):
        item.metadata = dict(metadata)


def change_price(state: StripeState, item_id: str, price: str) -> None:
    """Put an item on another price in mid-period; its id and its creation time stay.

    Usage records are billed with the period, by the price at its end; of meter events only those that are stamped from
    now on, while those from before are an invoice item, or nobody's (`invoice_items`). Another interval begins new
    periods now, and bills at once (Stripe documentation, Change subscription prices).
    """
    item = state.item(item_id)
    old, new = state.price_of(item), state.prices.find(price, param="price", status=400)
    with events.changing(state, item.subscription) as subscription:
        turned = (old.interval, old.interval_count) != (new.interval, new.interval_count)
        if turned:
            period_turns.close_all(state, subscription)
        elif old.meter or new.meter:
            bill_before_change(state, item, old)
            item.billed_since = state.now
        item.price = new.id
        if turned:
            period_turns.begin(state, subscription)
        state.subscriptions.put_on(f"price:{new.id}", subscription.id)
        _take_off_unused(state, subscription, old)


def delete_item(state: StripeState, item_id: str, *, clear_usage: bool = False) -> None:
    """Delete an item; with usage records in its open period only if they are cleared explicitly."""
    item = state.item(item_id)
    price = state.price_of(item)
    used = any(timestamp >= item.period.start for timestamp in item.records)
    if price.takes_usage_records and used and not clear_usage:
        raise Refusal(
            "This subscription item has usage in its current period: pass clear_usage=true"
            " to delete it together with its usage.",
            param="clear_usage",
        )
    with events.changing(state, item.subscription) as subscription:
        bill_before_change(state, item, price)
        item.deleted = True
        subscription.items.remove(item.id)
        state.items.take_off(f"subscription:{subscription.id}", item.id)
        _take_off_unused(state, subscription, price)
        period_turns.schedule(state, subscription)


def _take_off_unused(state: StripeState, subscription: Subscription, price: Price) -> None:
    """Find a subscription no more by a price that none of its items is on."""
    if all(item.price != price.id for item in state.items_of(subscription)):
        state.subscriptions.take_off(f"price:{price.id}", subscription.id)


def open_period(state: StripeState, item_id: str) -> Period:
    """Return the open period of an item."""
    return state.items[item_id].period
