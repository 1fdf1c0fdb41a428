"""What a shadow account lacks, or has too much of, to be like its original. Nothing is asked here."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meter_sync.core.billing.item import BillingMeter, Customer, SubscriptionItem
from meter_sync.core.metering.mapping import COPY_OF


@dataclass(frozen=True, slots=True)
class There:
    """What the shadow account has: the ids of copies, by those of their originals."""

    meters: Mapping[str, str]
    """The active billing meters, by their event names."""
    products: frozenset[str]
    """Copies have the ids of their originals."""
    prices: Mapping[str, str]
    customers: Mapping[str, str]
    items: Sequence[SubscriptionItem]
    """The items of living subscriptions."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An item of the account that has no copy, and why."""

    item: SubscriptionItem
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made in the shadow account, and what is to be taken away."""

    meters: Mapping[str, BillingMeter] = field(default_factory=dict)
    """Those that are to be made, by their event names."""
    event_names: Mapping[str, str] = field(default_factory=dict)
    """Those of all billing meters of prices, by the ids of the originals."""
    products: Sequence[str] = ()
    prices: Sequence[str] = ()
    customers: Mapping[str, Customer] = field(default_factory=dict)
    """By their ids."""
    subscriptions: Sequence[Sequence[SubscriptionItem]] = ()
    """The items of each subscription that has no copy."""
    added_items: Sequence[tuple[SubscriptionItem, str]] = ()
    """Items without a copy, and the copy of their subscription."""
    gone_items: Sequence[SubscriptionItem] = ()
    """Copies whose originals were removed from a subscription that goes on."""
    gone_subscriptions: Sequence[str] = ()
    """Copies whose originals have ended."""
    left_out: Sequence[LeftOut] = ()
    copied: int = 0
    """How many items have a copy already."""


def plan(originals: Sequence[SubscriptionItem], there: There) -> Plan:
    """Given the metered items of the account, and what the shadow account has, return what is to be done there."""
    copies = {one.metadata[COPY_OF]: one for one in there.items if COPY_OF in one.metadata}
    copied_to = {one.subscription.metadata.get(COPY_OF, ""): one.subscription.id for one in copies.values()}
    left_out, by_subscription = _sorted_out(originals)
    new = [items for id, items in by_subscription.items() if id not in copied_to]
    added = [
        (item, copied_to[id])
        for id, items in by_subscription.items()
        for item in items
        if id in copied_to and item.id not in copies
    ]
    wanted = [*(item for items in new for item in items), *(item for item, _ in added)]
    prices = [id for id in dict.fromkeys(item.price.id for item in wanted) if id not in there.prices]
    living, kept = {one.subscription.id for one in originals}, {one.id for one in originals}
    meters = {meter.id: meter for item in wanted if (meter := item.price.billing_meter)}
    return Plan(
        meters={one.event_name: one for one in meters.values() if one.event_name not in there.meters},
        event_names={id: meter.event_name for id, meter in meters.items()},
        products=[
            id
            for id in dict.fromkeys(item.price.product for item in wanted if item.price.id in prices)
            if id not in there.products
        ],
        prices=prices,
        customers={
            customer.id: customer
            for customer in (item.subscription.customer for item in wanted)
            if customer.id not in there.customers
        },
        subscriptions=new,
        added_items=added,
        gone_items=[
            copy
            for original, copy in copies.items()
            if copy.subscription.metadata.get(COPY_OF) in living and original not in kept
        ],
        gone_subscriptions=[copy for original, copy in copied_to.items() if original and original not in living],
        left_out=left_out,
        copied=len(kept & copies.keys()),
    )


def _sorted_out(
    originals: Iterable[SubscriptionItem],
) -> tuple[list[LeftOut], dict[str, list[SubscriptionItem]]]:
    """Return the items that cannot be copied, and the others by their subscription."""
    left_out, by_subscription = list[LeftOut](), defaultdict[str, list[SubscriptionItem]](list)
    for item in originals:
        others = by_subscription[item.subscription.id]
        if why := _why_left_out(item, others):
            left_out.append(LeftOut(item, why))
        else:
            others.append(item)
    return left_out, {id: items for id, items in by_subscription.items() if items}


def _why_left_out(item: SubscriptionItem, others: Sequence[SubscriptionItem]) -> str | None:
    if item.not_understood:
        return item.not_understood
    if item.subscription.customer.deleted:
        return "its customer was deleted"
    if item.subscription.status == "paused":
        return "its subscription is paused"
    meter = item.price.billing_meter
    if item.price.stripe_meter and (meter is None or not meter.is_active):
        return "its billing meter is inactive, or cannot be read"
    if others and others[0].period != item.period:
        return "its billing period is another one than its subscription's other items have"
    return None
