"""Items of Stripe's rows, made page by page: a row has several thousand bytes, what a run needs of it some hundred.

Of an account of 100,000 items the rows alone would take more memory than all else in a run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meter_sync.core.billing.item import Price, SubscriptionItem
from meter_sync.stripe_api.not_understood import LICENSED, Oddities, usage_type
from meter_sync.stripe_api.shapes import NotUnderstood
from meter_sync.stripe_api.subscriptions import (
    ItemData,
    NamedItem,
    NamedSubscription,
    changes_of,
    to_item,
    to_subscription,
)

_NOT_LIVING = frozenset({"incomplete", "incomplete_expired", "canceled"})

_MOST_ALIKE = 1000
"""Where there are more different metadata than these, each is another one, and looking for equal ones costs memory."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription, as far as it was listed for its metered items."""

    id: str
    is_living: bool
    items: Sequence[SubscriptionItem] = ()
    """Their prices have nothing but their ids yet."""
    unread: NamedSubscription | None = None
    """The subscription itself, where it has more items than came with it."""


class ItemRows:
    """Makes items of rows, and keeps why some of them could not be named."""

    def __init__(self, oddities: Oddities) -> None:
        self._oddities = oddities
        self._prices: dict[str, Price] = {}
        self._metadata: dict[tuple[tuple[str, str], ...], Mapping[str, str]] = {}
        self.unreadable: dict[str, str] = {}
        """Subscriptions that cannot even be named, or have an item that cannot be, and why."""

    def subscribed(self, subscription: NamedSubscription) -> Subscribed:
        """Return a subscription with its items, as far as these came with it."""
        return (
            self.with_items(subscription) if is_living(subscription) else Subscribed(subscription.id, is_living=False)
        )

    def with_items(self, subscription: NamedSubscription) -> Subscribed:
        """Return a subscription with its items, as far as these came with it, whether it lives or not."""
        id, lives, page = subscription.id, is_living(subscription), subscription.items
        if page.has_more:
            return Subscribed(id, lives, unread=subscription)
        return Subscribed(id, lives, items=self.items(subscription, page.data))

    def items(self, subscription: NamedSubscription, rows: Iterable[Mapping[str, Any]]) -> tuple[SubscriptionItem, ...]:
        """Given the rows of a subscription's items, return those that are not known to need no usage.

        What was not understood of one, or its subscription, is among the oddities.
        """
        core = to_subscription(subscription, self._alike)
        changes = changes_of(subscription)
        found = []
        for row in rows:
            if usage_type(row) == LICENSED:
                continue
            try:
                item = self._item(row, subscription)
            except NotUnderstood as error:
                self._oddities.note(str(row.get("id")), error.why)
                self.unreadable[subscription.id] = error.why
                continue
            found.append(to_item(item, core, self._price(item.price.id), *changes, alike=self._alike))
        return tuple(found)

    def _item(self, row: Mapping[str, Any], subscription: NamedSubscription) -> NamedItem:
        """Return an item, as far as it is understood. Raise NotUnderstood for one that cannot even be named."""
        id = row.get("id")
        try:
            item = ItemData.read(row, f"item {id}")
            if item.subscription != subscription.id:
                raise NotUnderstood(f"the items of {subscription.id}", "it has an item of another subscription")
            if not item.price.is_metered:
                raise NotUnderstood(f"item {item.id}", "its price is neither metered nor licensed")
        except NotUnderstood as error:
            named = NamedItem.read(row, f"an item of {subscription.id}")
            self._oddities.note(named.id, error.why)
            return named
        return item

    def _price(self, id: str) -> Price:
        return self._prices.setdefault(id, Price(id, ""))

    def _alike(self, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """Return equal metadata as one: most items of an account say the same."""
        key = tuple(metadata.items())
        if len(self._metadata) < _MOST_ALIKE:
            return self._metadata.setdefault(key, metadata)
        return self._metadata.get(key, metadata)


def is_living(subscription: NamedSubscription) -> bool:
    """Say whether a subscription is a customer's: one that is incomplete is not yet, one that was canceled no more."""
    return str(subscription.status) not in _NOT_LIVING
