"""What Stripe's events say about subscriptions that ended, and items that were removed, between two runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import AliasPath, Field, ValidationError

from meter_sync.stripe_api.connection import StripeReader
from meter_sync.stripe_api.paging import pages, refusing
from meter_sync.stripe_api.shapes import Identified, PathIdentifier, Shape, Text, UnixSeconds

DELETED = "customer.subscription.deleted"
UPDATED = "customer.subscription.updated"


@dataclass(frozen=True, slots=True)
class Removals:
    """What went away."""

    subscriptions: frozenset[str] = frozenset()
    """Subscriptions that were canceled."""
    items: Mapping[str, datetime] = field(default_factory=dict)
    """When each item was removed from a subscription that goes on."""


class ItemName(Shape):
    """An item of a subscription, as far as all API versions agree."""

    id: PathIdentifier


Items = list[ItemName] | None


class SubscriptionEvent(Identified):
    """An event about a subscription, with the items that it has, and those that it had if they are others."""

    type: Text
    created: UnixSeconds
    subscription: PathIdentifier = Field(validation_alias=AliasPath("data", "object", "id"))
    before: Items = Field(None, validation_alias=AliasPath("data", "previous_attributes", "items", "data"))
    after: Items = Field(None, validation_alias=AliasPath("data", "object", "items", "data"))

    @property
    def removed_items(self) -> list[str]:
        """The items that the subscription had before and has no more."""
        if self.before is None or self.after is None:
            return []
        left = {item.id for item in self.after}
        return [item.id for item in self.before if item.id not in left]


async def removals(stripe: StripeReader, since: datetime) -> Removals:
    """Return what went away since an instant; Stripe keeps events for 30 days.

    Events are in the account's API version of their time, so only what all versions share is read off them.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    filters: dict[str, Any] = {"types": [DELETED, UPDATED], "created": {"gte": int(since.timestamp())}}
    subscriptions: set[str] = set()
    items: dict[str, datetime] = {}
    with refusing():
        async for row in pages(stripe, "/v1/events", "events", filters):
            event = _event(row)
            if event is None:
                continue
            if event.type == DELETED:
                subscriptions.add(event.subscription)
            elif event.type == UPDATED:
                items |= dict.fromkeys(event.removed_items, event.created)
    return Removals(frozenset(subscriptions), items)


def _event(row: Mapping[str, Any]) -> SubscriptionEvent | None:
    """Return an event, or None for one of a shape that no version has: it is one item's matter, not the run's."""
    try:
        return SubscriptionEvent.model_validate(row)
    except ValidationError:
        return None
