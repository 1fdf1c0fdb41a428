"""An item that has taken another's place on the same billing meter in the middle of a period."""

from collections.abc import Iterable, Sequence

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.metering.mapping import MappingRules, MeterRow, meter_row, subjects

Succession = tuple[SubscriptionItem, SubscriptionItem]
"""An item that was removed, and the one that has its place."""


def successions(gone: Iterable[SubscriptionItem], there: Sequence[SubscriptionItem]) -> list[Succession]:
    """Given removed items and all items of their subscriptions, in their periods, return who has whose place.

    The oldest removal comes first: what took a place may have been removed as well.

    Usage on a billing meter belongs to the customer, and each item on the meter bills all that is stamped inside its
    period (reported by users). What was reported for the removed item is therefore billed with the one that its
    subscription has on the meter now, and what is still to come belongs to the same total. Within one subscription
    only: where a subscription ends, an invoice of its own may bill its usage.
    """
    found = []
    for item in sorted(gone, key=lambda one: one.period.end):
        candidates = [one for one in there if _has_the_place_of(one, item)]
        if candidates:
            found.append((item, min(candidates, key=lambda one: (one.created, one.id))))
    return found


def is_billed_alike(new: SubscriptionItem, old: SubscriptionItem, rules: MappingRules) -> bool:
    """Say whether this program reports the new item's usage, in the very way in which the old one's was metered."""
    now, then = meter_row(new, rules), meter_row(old, rules)
    if now is None or then is None or now.ignore or not now.report:
        return False
    return _metering(now) == _metering(then)


def is_reported(item: SubscriptionItem, rules: MappingRules) -> bool:
    """Say whether this program reports the item's usage."""
    row = meter_row(item, rules)
    return row is not None and not row.ignore and row.report


def is_contained(old: SubscriptionItem, other: SubscriptionItem, rules: MappingRules) -> bool:
    """Say whether an item that was never reported had no usage but what another item of its customer bills.

    That one is on the same meter, metered in the same way, and was there before: the two were held as duplicates.
    """
    no_customers: dict[str, str] = {}
    subjects_of_both = [subjects(item, rules.subject, no_customers) for item in (old, other)]
    return (
        other.id != old.id
        and other.subscription.customer.id == old.subscription.customer.id
        and other.price.stripe_meter == old.price.stripe_meter
        and other.created <= old.created
        and other.period.start <= old.period.start
        and old.period.end < other.period.end
        and subjects_of_both[0] == subjects_of_both[1]
        and is_billed_alike(other, old, rules)
    )


def _metering(row: MeterRow) -> tuple[object, ...]:
    return row.openmeter, row.filter, row.scale, row.rounding


def _has_the_place_of(new: SubscriptionItem, old: SubscriptionItem) -> bool:
    return (
        new.id != old.id
        and new.subscription.id == old.subscription.id
        and new.price.stripe_meter is not None
        and new.price.stripe_meter == old.price.stripe_meter
        and new.period.start == old.period.start
        and old.period.end < new.period.end
    )
