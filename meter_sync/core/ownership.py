"""Which item bills which usage, where several could: duplicates, and items that take another's place."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.metering.mapping import Filter, MappingRules, meter_row, subjects

CustomersMeter = tuple[str, str | None]
"""A customer and a billing meter: usage on it is the customer's."""


@dataclass(frozen=True, slots=True)
class BilledUsage:
    """Usage that an item bills, as far as another item's could be the same."""

    item: str
    meter: str
    filter: Filter
    subjects: tuple[str, ...]
    start: datetime
    end: datetime
    customer: str = ""
    stripe_meter: str | None = None
    """The customer's usage of a billing meter is billed by each item on it (reported by users)."""
    shared: bool = False
    """Whether it may bill what others bill."""


def billed_twice(usages: Sequence[BilledUsage], others: Collection[BilledUsage]) -> dict[str, tuple[str, ...]]:
    """Given what items bill, return for each whose usage another item bills too, those items.

    `others` are of items beside these. Those of a `shared = true` row are left out: they may bill what others bill.
    """
    ours = {one.item for one in usages}
    by_usage: defaultdict[tuple[str, str], list[BilledUsage]] = defaultdict(list)
    for usage in (*usages, *(other for other in others if other.item not in ours)):
        for subject in () if usage.shared else usage.subjects:
            by_usage[usage.meter, subject].append(usage)
    twice: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for same_usage in by_usage.values():
        for one, other in _overlapping(same_usage):
            twice[one][other] = None
            twice[other][one] = None
    return {item: tuple(others) for item, others in twice.items() if item in ours}


def _overlapping(usages: Sequence[BilledUsage]) -> Iterator[tuple[str, str]]:
    """Yield the pairs of items whose usage of one subject of one meter overlaps in time and filter."""
    by_start = sorted(usages, key=lambda usage: usage.start)
    for position, one in enumerate(by_start):
        for other in by_start[position + 1 :]:
            if other.start >= one.end:
                break
            if not _disjoint(one.filter, other.filter):
                yield one.item, other.item


def _disjoint(one: Filter, other: Filter) -> bool:
    """Say whether there is a dimension of which the two filters admit nothing in common."""
    admitted = dict(other)
    return any(name in admitted and set(values).isdisjoint(admitted[name]) for name, values in one)


def on_one_meter(items: Sequence[SubscriptionItem], others: Collection[BilledUsage]) -> dict[str, tuple[str, ...]]:
    """Given items, return for each on a billing meter the other items of its customer on that meter.

    Usage on a billing meter belongs to the customer: each of these items bills the customer's whole total (reported by
    users), whatever it is mapped to, and also where this program has nothing to do with it.
    """
    ours = {item.id for item in items}
    owners = [(item.id, _customers_meter(item)) for item in items]
    owners += [(one.item, (one.customer, one.stripe_meter)) for one in others if one.item not in ours]
    together: defaultdict[CustomersMeter, list[str]] = defaultdict(list)
    for item_id, (customer, stripe_meter) in owners:
        if stripe_meter:
            together[customer, stripe_meter].append(item_id)
    return {
        item_id: tuple(other for other in ids if other != item_id)
        for ids in together.values()
        for item_id in ids
        if len(ids) > 1 and item_id in ours
    }


def successions(
    gone: Iterable[SubscriptionItem], there: Sequence[SubscriptionItem]
) -> list[tuple[SubscriptionItem, SubscriptionItem]]:
    """Given removed items and all items of their subscriptions, in their periods, return each with who has its place.

    The oldest removal comes first: what took a place may have been removed as well.

    Usage on a billing meter belongs to the customer, and each item on the meter bills all that is stamped inside its
    period (reported by users). What was reported for the removed item is therefore billed with the one that its
    subscription has on the meter now, and what is still to come belongs to the same total. Within one subscription
    only: where a subscription ends, an invoice of its own may bill its usage.
    """
    found = []
    for item in sorted(gone, key=lambda one: one.period.end):
        candidates = [
            one
            for one in there
            if one.id != item.id
            and one.subscription.id == item.subscription.id
            and one.price.stripe_meter is not None
            and one.price.stripe_meter == item.price.stripe_meter
            and one.period.start == item.period.start
            and item.period.end < one.period.end
        ]
        if candidates:
            found.append((item, min(candidates, key=lambda one: (one.created, one.id))))
    return found


def is_reported(item: SubscriptionItem, rules: MappingRules) -> bool:
    """Say whether this program reports the item's usage."""
    row = meter_row(item, rules)
    return row is not None and not row.ignore and row.report


def is_billed_alike(new: SubscriptionItem, old: SubscriptionItem, rules: MappingRules) -> bool:
    """Say whether this program reports the new item's usage, in the very way in which the old one's was metered."""
    now, then = meter_row(new, rules), meter_row(old, rules)
    if now is None or then is None or not is_reported(new, rules):
        return False
    return (now.openmeter, now.filter, now.scale, now.rounding) == (
        then.openmeter,
        then.filter,
        then.scale,
        then.rounding,
    )


@dataclass(frozen=True, slots=True)
class GoingOn:
    """What goes on while other periods end: the listed items, and those that the ledger knows beside them."""

    items: Sequence[SubscriptionItem]
    meters: frozenset[CustomersMeter]
    """The billing meters on which a customer has an item whose period is open…"""
    our_meters: frozenset[CustomersMeter]
    """… and those on which this program reports one."""

    def has_meter_of(self, item: SubscriptionItem) -> bool:
        """Say whether an item of the customer goes on on the item's billing meter."""
        return _customers_meter(item) in self.meters

    def reports_meter_of(self, item: SubscriptionItem) -> bool:
        """Say whether this program reports one of these."""
        return _customers_meter(item) in self.our_meters

    def bills_all_of(self, item: SubscriptionItem, rules: MappingRules) -> bool:
        """Say whether an item that was never reported has ended, because another one bills the same.

        That one is on the same meter, metered in the same way, and was there before: the two were held as duplicates.
        """
        if item.is_followed or not self.reports_meter_of(item):
            return False
        return any(
            other.id != item.id
            and _customers_meter(other) == _customers_meter(item)
            and other.created <= item.created
            and other.period.start <= item.period.start
            and item.period.end < other.period.end
            and subjects(other, rules.subject, {}) == subjects(item, rules.subject, {})
            and is_billed_alike(other, item, rules)
            for other in self.items
        )


def going_on(items: Sequence[SubscriptionItem], others: Iterable[BilledUsage], rules: MappingRules) -> GoingOn:
    """Given the listed items, and what the ledger knows of others, return what goes on."""
    on_meters = [item for item in items if item.price.stripe_meter]
    known = [one for one in others if one.stripe_meter]
    meters = [_customers_meter(item) for item in on_meters] + [(one.customer, one.stripe_meter) for one in known]
    ours = [_customers_meter(item) for item in on_meters if is_reported(item, rules)]
    ours += [(one.customer, one.stripe_meter) for one in known if one.meter]
    return GoingOn(items, frozenset(meters), frozenset(ours))


def _customers_meter(item: SubscriptionItem) -> CustomersMeter:
    return item.subscription.customer.id, item.price.stripe_meter
