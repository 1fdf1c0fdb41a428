"""How subscription items come into being, and how arguments become what Stripe stores."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from meter_sync.sandbox.stripe.rules.billing_periods import Period, period_at
from meter_sync.sandbox.stripe.state.objects import STATUSES, Item, Price, Subscription, TransformQuantity
from meter_sync.sandbox.stripe.state.state import StripeState


def period_beside(state: StripeState, subscription: Subscription, price: Price, now: int) -> Period:
    """Return the period of a new item: that of its neighbours with the same interval, if any."""
    for identifier in subscription.items:
        item = state.items[identifier]
        other = state.price_of(item)
        if (other.interval, other.interval_count) == (price.interval, price.interval_count):
            return item.period
    return period_at(subscription.anchor, price.interval, price.interval_count, now)


def new_item(
    state: StripeState,
    subscription: Subscription,
    price: Price,
    *,
    start: int,
    end: int | None,
    created: int,
    metadata: dict[str, str],
    quantity: int | None,
) -> Item:
    """Add an item whose period ends at `end`, or where its price's interval ends."""
    if end is None:
        end = period_at(subscription.anchor, price.interval, price.interval_count, start).end
    item = Item(
        id=state.new_id("si"),
        created=created,
        subscription=subscription.id,
        price=price.id,
        period=Period(start, end),
        metadata=metadata,
        quantity=None if price.usage_type == "metered" else quantity or 1,
    )
    state.items.add(item, f"subscription:{subscription.id}")
    state.subscriptions.put_on(f"price:{price.id}", subscription.id)
    subscription.items.append(item.id)
    return item


def unix_seconds(instant: datetime) -> int:
    """Return an aware datetime in whole Unix seconds."""
    if instant.tzinfo is None:
        raise ValueError("the sandbox takes aware datetimes only")
    return int(instant.timestamp())


def known_status(status: str) -> str:
    """Return a subscription status; raise ValueError if Stripe has none of that name."""
    if status not in STATUSES:
        raise ValueError(f"not a subscription status: {status!r}")
    return status


def transform_of(
    given: TransformQuantity | Mapping[str, object] | None,
) -> TransformQuantity | None:
    """Return a transformation given as such or as Stripe's JSON."""
    if given is None or isinstance(given, TransformQuantity):
        return given
    rounding = given["round"]
    if rounding not in ("up", "down"):
        raise ValueError(f"not a way to round: {rounding!r}")
    return TransformQuantity(int(str(given["divide_by"])), "up" if rounding == "up" else "down")


def metadata_at(given: Mapping[str, str] | Sequence[Mapping[str, str]] | None, place: int) -> dict[str, str]:
    """Return the metadata of one of several items: the same for all, or one for each."""
    if given is None:
        return {}
    return dict(given if isinstance(given, Mapping) else given[place])
