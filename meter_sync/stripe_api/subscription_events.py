"""What Stripe's events say about subscriptions that ended, and items that were removed, between two runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from meter_sync.stripe_api.connection import StripeReader
from meter_sync.stripe_api.paging import pages, refusing
from meter_sync.stripe_api.wire import SubscriptionEvent, instant

DELETED = "customer.subscription.deleted"
UPDATED = "customer.subscription.updated"


@dataclass(frozen=True, slots=True)
class Removals:
    """What went away."""

    subscriptions: frozenset[str] = frozenset()
    """Subscriptions that were canceled."""
    items: Mapping[str, datetime] = field(default_factory=dict)
    """When each item was removed from a subscription that goes on."""


async def removals(stripe: StripeReader, since: datetime) -> Removals:
    """Return what went away since an instant; Stripe keeps events for 30 days.

    Events are in the account's API version of their time, so only what all versions share is read off them.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    filters: dict[str, Any] = {
        "types": [DELETED, UPDATED],
        "created": {"gte": int(since.timestamp())},
    }
    subscriptions: set[str] = set()
    items: dict[str, datetime] = {}
    with refusing():
        async for row in pages(stripe, "/v1/events", "events", filters):
            event = _event(row)
            if event is None:
                continue
            if event.type == DELETED:
                subscriptions.add(event.data.object.id)
            elif event.type == UPDATED:
                items |= dict.fromkeys(event.removed_items, instant(event.created))
    return Removals(frozenset(subscriptions), items)


def _event(row: Mapping[str, Any]) -> SubscriptionEvent | None:
    """Return an event, or None for one of a shape that no version has: it is one item's matter, not the run's."""
    try:
        return SubscriptionEvent.model_validate(row)
    except ValidationError:
        return None
