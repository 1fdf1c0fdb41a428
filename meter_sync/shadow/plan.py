"""What a shadow account lacks, or has otherwise than its original. Nothing is asked here."""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from meter_sync.core.billing.item import BillingMeter, Customer, Price, SubscriptionItem
from meter_sync.core.metering.mapping import COPY_OF, COPY_OF_METER

Metadata = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Copy:
    """A price or a customer that is a copy."""

    id: str
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class There:
    """What the shadow account has."""

    meters: Mapping[str, BillingMeter]
    """The active billing meters, by their event names."""
    products: frozenset[str]
    """Copies have the ids of their originals."""
    prices: Mapping[str, Copy]
    """By the ids of their originals, as are the customers."""
    customers: Mapping[str, Copy]
    items: Sequence[SubscriptionItem]
    """The items of living subscriptions."""
    ended: Mapping[str, datetime] = field(default_factory=dict)
    """When the last copy of a subscription ended that is no more, by the id of its original."""


@dataclass(frozen=True, slots=True)
class Originals:
    """What the account itself has."""

    items: Sequence[SubscriptionItem]
    unreadable: frozenset[str] = frozenset()
    """Subscriptions of which it is not known what they have."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An item of the account that has no copy, and why."""

    item: SubscriptionItem
    why: str
    keeps_copy: bool = False
    """Whether one that it has stays: nothing is known against it."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription that is to be copied."""

    items: Sequence[SubscriptionItem]
    start: datetime | None
    """When the copy begins: with the period, so that it bills all of it; None for now, where another one was before."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made in the shadow account, changed, and taken away."""

    meters: Mapping[str, BillingMeter] = field(default_factory=dict)
    """Those that are to be made, by their event names."""
    event_names: Mapping[str, str] = field(default_factory=dict)
    """Those of all billing meters of prices, by the ids of the originals."""
    products: Sequence[str] = ()
    prices: Sequence[str] = ()
    customers: Mapping[str, Customer] = field(default_factory=dict)
    """By their ids."""
    subscriptions: Sequence[Subscribed] = ()
    added_items: Sequence[tuple[SubscriptionItem, str]] = ()
    """Items without a copy, and the copy of their subscription."""
    gone_items: Sequence[SubscriptionItem] = ()
    """Copies whose originals were removed from a subscription that goes on."""
    gone_subscriptions: Mapping[str, str] = field(default_factory=dict)
    """Copies that are to be ended, and why: their originals have ended, or are otherwise by now."""
    metadata: Sequence[tuple[str, str, Metadata]] = ()
    """Copies whose metadata are not their originals' any more: the kind of thing, its id, and what is to change."""
    left_out: Sequence[LeftOut] = ()
    copied: int = 0
    """How many items have a copy already."""


def plan(originals: Originals, there: There) -> Plan:
    """Given what the account has, and what its shadow has, return what is to be done there."""
    left_out, wanted = _sorted_out(originals.items, there)
    copies = {one.metadata[COPY_OF]: one for one in there.items if COPY_OF in one.metadata}
    copied_to = {one.subscription.metadata.get(COPY_OF, ""): one.subscription.id for one in copies.values()}
    kept = {one.item.id for one in left_out if one.keeps_copy}
    not_known = {one.item.subscription.id for one in left_out if one.keeps_copy} | originals.unreadable
    ended = dict(_ended(copied_to, wanted, copies, not_known))
    there_now = {original: copy for original, copy in copied_to.items() if copy not in ended}
    new = [_subscribed(items, there, is_again=id in copied_to) for id, items in wanted.items() if id not in there_now]
    added = [
        (item, there_now[id])
        for id, items in wanted.items()
        for item in items
        if id in there_now and item.id not in copies
    ]
    items = [*(item for one in new for item in one.items), *(item for item, _ in added)]
    every = {item.id for some in wanted.values() for item in some}
    gone = [
        copy
        for original, copy in copies.items()
        if copy.subscription.id in there_now.values() and original not in every | kept
    ]
    return Plan(
        **_stood_on(items, there),
        subscriptions=new,
        added_items=added,
        gone_items=gone,
        gone_subscriptions=ended,
        metadata=list(_other_metadata(wanted, there, copies, there_now)),
        left_out=left_out,
        copied=len(every & copies.keys()),
    )


def _sorted_out(
    items: Iterable[SubscriptionItem], there: There
) -> tuple[list[LeftOut], dict[str, list[SubscriptionItem]]]:
    """Return the items that cannot be copied, and the others by their subscription."""
    left_out, by_subscription = list[LeftOut](), defaultdict[str, list[SubscriptionItem]](list)
    for item in items:
        others = by_subscription[item.subscription.id]
        if item.not_understood:
            left_out.append(LeftOut(item, item.not_understood, keeps_copy=True))
        elif why := _why_left_out(item, others, there):
            left_out.append(LeftOut(item, why))
        else:
            others.append(item)
    return left_out, {id: some for id, some in by_subscription.items() if some}


def _why_left_out(item: SubscriptionItem, others: Sequence[SubscriptionItem], there: There) -> str | None:
    subscription, meter = item.subscription, item.price.billing_meter
    if subscription.customer.deleted:
        return "its customer was deleted"
    if subscription.status == "paused":
        return "its subscription is paused"
    if subscription.voids_invoices:
        return "the invoices of its subscription are voided at present (pause_collection)"
    if item.price.stripe_meter and (meter is None or not meter.is_active):
        return "its billing meter is inactive, or cannot be read"
    if meter and (other := there.meters.get(meter.event_name)) and not _is_like(meter, other):
        return (
            f"the sandbox has another billing meter of the event name {meter.event_name}: deactivate {other.id} there"
        )
    if others and others[0].period != item.period:
        return "its billing period is another one than its subscription's other items have"
    return None


def _is_like(one: BillingMeter, other: BillingMeter) -> bool:
    def counted(meter: BillingMeter) -> tuple[object, ...]:
        keys = meter.customer_key, meter.customer_mapping, meter.value_key
        return meter.formula, meter.window, meter.unknown_window, *keys

    return counted(one) == counted(other)


def _ended(
    copied_to: Mapping[str, str],
    wanted: Mapping[str, Sequence[SubscriptionItem]],
    copies: Mapping[str, SubscriptionItem],
    not_known: Container[str],
) -> Iterator[tuple[str, str]]:
    """Yield the copies of subscriptions that are to end, and why: nothing is ended for what is not known."""
    for original, copy in copied_to.items():
        if not original or original in not_known:
            continue
        if original not in wanted:
            yield copy, "its original has ended, or cannot be copied any more"
        elif why := next((said for item in wanted[original] if (said := _changed(item, copies.get(item.id)))), None):
            yield copy, f"its original has changed ({why}): another one takes its place from now on"


def _changed(original: SubscriptionItem, copy: SubscriptionItem | None) -> str | None:
    """Return what makes an item another one than its copy, in a way that no copy can follow."""
    if copy is None:
        return None
    if copy.price.metadata.get(COPY_OF) != original.price.id:
        return "its price"
    if (copy.subscription.status == "trialing") != (original.subscription.status == "trialing"):
        return "its trial"
    # One of the two may have turned a moment before the other.
    turns = copy.period.end == original.period.start or original.period.end == copy.period.start
    return None if turns or copy.period.end == original.period.end else "its billing period"


def _subscribed(items: Sequence[SubscriptionItem], there: There, *, is_again: bool) -> Subscribed:
    """Return how a subscription is copied: from its period's start on, unless an earlier copy has billed of that."""
    start = items[0].period.start
    ended = there.ended.get(items[0].subscription.id)
    return Subscribed(items, None if is_again or (ended is not None and ended > start) else start)


def _stood_on(items: Sequence[SubscriptionItem], there: There) -> dict[str, Any]:
    """Return what is to be made before items can be copied."""
    prices = [id for id in dict.fromkeys(item.price.id for item in items) if id not in there.prices]
    meters = {meter.id: meter for item in items if (meter := item.price.billing_meter)}
    products = dict.fromkeys(item.price.product for item in items if item.price.id in prices)
    customers = {item.subscription.customer.id: item.subscription.customer for item in items}
    return {
        "meters": {one.event_name: one for one in meters.values() if one.event_name not in there.meters},
        "event_names": {id: meter.event_name for id, meter in meters.items()},
        "products": [id for id in products if id not in there.products],
        "prices": prices,
        "customers": {id: customer for id, customer in customers.items() if id not in there.customers},
    }


def _other_metadata(
    wanted: Mapping[str, Sequence[SubscriptionItem]],
    there: There,
    copies: Mapping[str, SubscriptionItem],
    there_now: Mapping[str, str],
) -> Iterator[tuple[str, str, Metadata]]:
    """Yield the copies whose metadata are not their originals', each once, with what is to change."""
    found = dict[str, tuple[str, Metadata, Metadata]]()
    for id, items in wanted.items():
        for item in items:
            subscription, price, customer = item.subscription, item.price, item.subscription.customer
            if price.id in there.prices:
                found[there.prices[price.id].id] = "prices", of_price(price), there.prices[price.id].metadata
            if customer.id in there.customers:
                copy = there.customers[customer.id]
                found[copy.id] = "customers", {**customer.metadata, COPY_OF: customer.id}, copy.metadata
            if id in there_now and (copied := copies.get(item.id)):
                found[copied.id] = "subscription_items", {**item.metadata, COPY_OF: item.id}, copied.metadata
                of_subscription = copied.subscription.metadata
                found[there_now[id]] = "subscriptions", {**subscription.metadata, COPY_OF: id}, of_subscription
    for copy_id, (kind, wished, has) in found.items():
        if changes := _changes(wished, has):
            yield kind, copy_id, changes


def of_price(original: Price) -> Metadata:
    """Return the metadata of the copy of a price."""
    of_meter = {COPY_OF_METER: original.stripe_meter} if original.stripe_meter else {}
    return {**original.metadata, COPY_OF: original.id, **of_meter}


def _changes(wished: Metadata, has: Metadata) -> Metadata:
    """Return what is to be sent: Stripe keeps what is not named, and takes away what is empty (API reference)."""
    gone = {name: "" for name in has if name not in wished}
    return {**gone, **{name: value for name, value in wished.items() if has.get(name) != value}}
