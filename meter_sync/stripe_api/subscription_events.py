"""What Stripe's events say about subscriptions that ended, and items that were removed, between two runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.connection import StripeReader, StripeRefused
from meter_sync.stripe_api.wire import Page, SubscriptionEvent, instant, read

DELETED = "customer.subscription.deleted"
UPDATED = "customer.subscription.updated"

_PAGE_SIZE = 100


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
        "limit": _PAGE_SIZE,
    }
    subscriptions: set[str] = set()
    items: dict[str, datetime] = {}
    after: dict[str, str] = {}
    while True:
        answer = await stripe.get("/v1/events", "events", {**filters, **after})
        page = _page(answer.data)
        for row in page.data:
            event = _event(row)
            if event is None:
                continue
            if event.type == DELETED:
                subscriptions.add(event.data.object.id)
            else:
                items |= dict.fromkeys(event.removed_items, instant(event.created))
        if not page.has_more or not page.data:
            return Removals(frozenset(subscriptions), items)
        after = {"starting_after": str(page.data[-1].get("id"))}


def _page(data: Mapping[str, Any]) -> Page[dict[str, Any]]:
    try:
        return read(Page[dict[str, Any]], data, "events")
    except MeterSyncError as error:
        raise StripeRefused(error.message, None) from error


def _event(row: Mapping[str, Any]) -> SubscriptionEvent | None:
    """Return an event, or None for one of a shape that no version has: it is one item's matter, not the run's."""
    try:
        return SubscriptionEvent.model_validate(row)
    except ValidationError:
        return None
