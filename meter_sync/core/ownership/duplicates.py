"""One usage, one item: finding items that would bill the same usage."""

from collections.abc import Collection, Mapping, Sequence

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.ownership.billed_usage import BilledUsage


def billed_twice(usages: Sequence[BilledUsage], others: Collection[BilledUsage]) -> dict[str, tuple[str, ...]]:
    """Given what items bill, return for each whose usage another item bills too, those items.

    `others` are of items beside these. Those of a `shared = true` row are left out: they may bill what others bill.
    """
    ours = {one.item for one in usages}
    by_usage: dict[tuple[str, str], list[BilledUsage]] = {}
    for usage in (*usages, *(other for other in others if other.item not in ours)):
        for subject in () if usage.shared else usage.subjects:
            by_usage.setdefault((usage.meter, subject), []).append(usage)
    twice: dict[str, dict[str, None]] = {}
    for same_usage in by_usage.values():
        for one, other in _overlapping(same_usage):
            twice.setdefault(one, {})[other] = None
            twice.setdefault(other, {})[one] = None
    return {item: tuple(others) for item, others in twice.items() if item in ours}


def on_one_meter(items: Sequence[SubscriptionItem], others: Collection[BilledUsage]) -> dict[str, tuple[str, ...]]:
    """Given items, return for each on a billing meter the other items of its customer on that meter.

    Usage on a billing meter belongs to the customer: each of these items bills the customer's whole total (reported by
    users), whatever it is mapped to, and also where this program has nothing to do with it.
    """
    ours = {item.id for item in items}
    owners = [(item.id, item.subscription.customer.id, item.price.stripe_meter) for item in items]
    owners += [(one.item, one.customer, one.stripe_meter) for one in others if one.item not in ours]
    together: dict[tuple[str, str], list[str]] = {}
    for item_id, customer, stripe_meter in owners:
        if stripe_meter:
            together.setdefault((customer, stripe_meter), []).append(item_id)
    return {
        item_id: tuple(other for other in ids if other != item_id)
        for ids in together.values()
        for item_id in ids
        if len(ids) > 1 and item_id in ours
    }


def _overlapping(usages: Sequence[BilledUsage]) -> list[tuple[str, str]]:
    """Return the pairs of items whose usage of one subject of one meter overlaps in time and filter."""
    pairs = []
    by_start = sorted(usages, key=lambda usage: usage.start)
    for position, one in enumerate(by_start):
        for other in by_start[position + 1 :]:
            if other.start >= one.end:
                break
            if not _disjoint(dict(one.filter), dict(other.filter)):
                pairs.append((one.item, other.item))
    return pairs


def _disjoint(one: Mapping[str, tuple[str, ...]], other: Mapping[str, tuple[str, ...]]) -> bool:
    shared_dimensions = one.keys() & other.keys()
    return any(set(one[name]).isdisjoint(other[name]) for name in shared_dimensions)
