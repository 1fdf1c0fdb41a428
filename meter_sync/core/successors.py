"""An item that has taken another's place on the same billing meter in the middle of a period."""

from collections.abc import Iterable, Sequence

from meter_sync.core.model import SubscriptionItem

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


def _has_the_place_of(new: SubscriptionItem, old: SubscriptionItem) -> bool:
    return (
        new.id != old.id
        and new.subscription.id == old.subscription.id
        and new.price.stripe_meter is not None
        and new.price.stripe_meter == old.price.stripe_meter
        and new.period.start <= old.period.start
        and old.period.end < new.period.end
    )
