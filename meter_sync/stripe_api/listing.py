"""Finding the metered items of living subscriptions in as few requests as possible."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import itemgetter
from typing import Any

import structlog

from meter_sync.core.billing.item import Price, SubscriptionItem
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.connection import (
    PermissionMissing,
    StripeReader,
    StripeRefused,
    StripeUnavailable,
    unreachable,
)
from meter_sync.stripe_api.paging import by_id, pages, refusing
from meter_sync.stripe_api.prices import (
    billing_meters,
    checked_metered,
    metered_prices,
    prices_by_id,
    selecting,
    to_price,
)
from meter_sync.stripe_api.shapes import NotUnderstood
from meter_sync.stripe_api.subscriptions import (
    ItemData,
    Removed,
    SubscriptionData,
    to_item,
    to_removed_item,
    to_subscription,
)

log = structlog.get_logger()

_NOT_LIVING = frozenset({"incomplete", "incomplete_expired", "canceled"})
"""Incomplete subscriptions are no customers yet; canceled ones are none any more."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found."""

    items: list[SubscriptionItem] = field(default_factory=list)
    asked_prices: frozenset[str] = frozenset()
    """The prices whose subscriptions were asked for."""
    empty_archived_prices: frozenset[str] = frozenset()
    """Those of them that are archived and have no subscription: not worth asking every time."""


@dataclass(frozen=True, slots=True)
class Fate:
    """What has become of a subscription."""

    ended_at: datetime | None
    """When it ended; None where it goes on."""
    items: Sequence[SubscriptionItem]
    """The metered items that it has, or had at its end."""
    removed: Sequence[SubscriptionItem] = ()
    """Those of the removed ones that were asked for, each in the billing period that it was in."""


class Lister:
    """Lists metered items; `with_customers` fetches the customers' metadata along, in the same requests.

    Given a test clock it lists what is on that one and nothing else, without one nothing that is on any.
    """

    def __init__(self, stripe: StripeReader, *, with_customers: bool, test_clock: str | None = None) -> None:
        self._stripe = stripe
        self._with_customers = with_customers
        self._test_clock = test_clock
        self._reads_schedules = True

    async def find(self, selection: Selection, skip_prices: Collection[str]) -> Listing:
        """Return the metered items of living subscriptions, each once.

        A selected customer, subscription or price is asked for alone; else all metered prices are, the archived
        ones too, but for `skip_prices`. Raise TryAgainError, MeterSyncError or ConfigurationError.
        """
        try:
            if selection.customers:
                return Listing(await self._items(await self._of_customers(selection.customers)))
            if selection.subscriptions:
                return Listing(await self._items(await self._subscriptions(selection.subscriptions)))
            if self._test_clock is not None and not selection.prices:
                return Listing(await self._items(_living(await self._listed({"test_clock": self._test_clock}))))
            return await self._of_prices(selection.prices, skip_prices)
        except StripeUnavailable as failure:
            raise unreachable(failure) from failure
        except StripeRefused as refusal:
            raise MeterSyncError(
                f"Stripe refused to list subscriptions: {refusal.message}; nothing was written",
                "correct what Stripe names; if it is nothing of yours, report it with this message",
                code="stripe_refused",
            ) from refusal

    async def fate(self, subscription: str, removed: Collection[Removed] = ()) -> Fate:
        """Return what has become of a subscription that a listing did not have, or not with all its items.

        Of `removed`, what events say of items that it has no more, return the metered ones.
        Raise StripeRefused, StripeUnavailable or ConfigurationError.
        """
        with refusing():
            data = await self._subscription(subscription)
            if data.test_clock != self._test_clock:
                return Fate(None, [])
            items = await self._items([data])
            was_living = data.status not in _NOT_LIVING or data.ended_at is not None
            return Fate(data.ended_at, items, await self._as_they_were(data, removed) if was_living else ())

    async def canceled_on_clock(self, test_clock: str, since: datetime) -> frozenset[str]:
        """Return the subscriptions on a test clock that ended at an instant of its time or later.

        Raise StripeRefused, StripeUnavailable or ConfigurationError.
        """
        with refusing():
            listed = await self._listed({"test_clock": test_clock, "status": "canceled"})
        return frozenset(row.id for row in listed if row.ended_at is not None and row.ended_at >= since)

    async def canceled_since(self, since: datetime) -> frozenset[str]:
        """Return the subscriptions with a metered item that ended at an instant or later.

        A list has no filter for that, but one for the end of their last periods, which is no earlier (API reference,
        List subscriptions: `current_period_end`).
        Raise StripeRefused, StripeUnavailable or ConfigurationError.
        """
        filters = {"status": "canceled", "current_period_end": {"gte": int(since.timestamp())}}
        with refusing():
            listed = await self._listed(filters)
        ended = [row for row in listed if row.ended_at is not None and row.ended_at >= since]
        return frozenset(row.id for row in ended if any(item.price.is_metered for item in row.items.data))

    async def count_on_clock(self, test_clock: str) -> int:
        """Return how many living subscriptions with a metered item are on a test clock.

        An item that is not on the first page of its subscription's is not seen.
        Raise StripeRefused, StripeUnavailable or ConfigurationError.
        """
        with refusing():
            living = _living(await self._listed({"test_clock": test_clock}))
        return sum(any(item.price.is_metered for item in row.items.data) for row in living)

    async def _of_prices(self, selected: Collection[str], skipped: Collection[str]) -> Listing:
        """List the subscriptions of each price, several prices at once.

        Only a price without any subscription is empty: an incomplete one may come to life within the day.
        """
        if selected:
            prices = [price for price in await prices_by_id(self._stripe, selected) if price.is_metered]
        else:
            prices = [price for price in await metered_prices(self._stripe) if price.active or price.id not in skipped]
        known = {price.id: to_price(price) for price in prices}
        clock = {} if self._test_clock is None else {"test_clock": self._test_clock}
        found = await asyncio.gather(*(self._listed({"price": price.id, **clock}) for price in prices))
        empty = [price.id for price, rows in zip(prices, found, strict=True) if not (rows or price.active)]
        subscriptions = {row.id: row for rows in found for row in _living(rows)}
        return Listing(
            items=await self._items(list(subscriptions.values()), known),
            asked_prices=frozenset(known),
            empty_archived_prices=frozenset(empty),
        )

    async def _of_customers(self, customers: Iterable[str]) -> list[SubscriptionData]:
        found: dict[str, SubscriptionData] = {}
        for customer in customers:
            with selecting("customer", customer):
                found |= {row.id: row for row in _living(await self._listed({"customer": customer}))}
        return list(found.values())

    async def _listed(self, filters: dict[str, Any]) -> list[SubscriptionData]:
        """Return the subscriptions of a filter. Without `status` Stripe answers all but canceled ones.

        Those of a customer are answered whether they are on a test clock or not, others only if it is named.
        """
        rows = [SubscriptionData.read(row, f"subscription {row['id']}") async for row in self._rows(filters)]
        return [row for row in rows if row.test_clock == filters.get("test_clock", self._test_clock)]

    async def _rows(self, filters: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the subscriptions of a filter; from the first one on that has a schedule, with their schedules.

        An account without schedules is asked for none, nor for the permission to read them.
        """
        after: dict[str, Any] = {}
        async for row in self._pages(filters):
            if self._reads_schedules and isinstance(row.get("schedule"), str):
                break
            after = {"starting_after": row["id"]}
            yield row
        else:
            return
        try:
            async for row in self._pages({**filters, **after}, "schedule"):
                yield row
        except PermissionMissing as error:  # said of the first page: nothing of it was yielded
            self._make_do_without_schedules(error)
            async for row in self._pages({**filters, **after}):
                yield row

    def _pages(self, filters: dict[str, Any], *expanded: str) -> AsyncIterator[dict[str, Any]]:
        expand = [f"data.{name}" for name in (*self._expanded, *expanded)]
        params = {**filters, "expand": expand} if expand else filters
        return pages(self._stripe, "/v1/subscriptions", "subscriptions", params)

    @property
    def _expanded(self) -> tuple[str, ...]:
        return ("customer",) if self._with_customers else ()

    def _make_do_without_schedules(self, error: PermissionMissing) -> None:
        if self._reads_schedules:
            said = "what schedules change is reported by the usual runs, not up to the instant of the change"
            log.warning("schedules_unread", message=f"{said}: {error.message}")
        self._reads_schedules = False

    async def _subscriptions(self, ids: Iterable[str]) -> list[SubscriptionData]:
        found = []
        for subscription in ids:
            with selecting("subscription", subscription):
                found.append(await self._subscription(subscription))
        return [row for row in _living(found) if row.test_clock == self._test_clock]

    async def _subscription(self, id: str) -> SubscriptionData:
        found = await self._expanded_subscription(id)
        if self._reads_schedules and isinstance(found.schedule, str):
            try:
                return await self._expanded_subscription(id, "schedule")
            except PermissionMissing as error:
                self._make_do_without_schedules(error)
        return found

    async def _expanded_subscription(self, id: str, *expanded: str) -> SubscriptionData:
        expand = [*self._expanded, *expanded]
        params: dict[str, Any] = {"expand": expand} if expand else {}
        return await by_id(SubscriptionData, self._stripe, "subscription", id, params)

    async def _items(
        self, subscriptions: list[SubscriptionData], known: dict[str, Price] | None = None
    ) -> list[SubscriptionItem]:
        """Return the metered items of the subscriptions, with prices in the older version's full shape."""
        rows: list[tuple[SubscriptionData, ItemData]] = []
        for subscription in subscriptions:
            items = subscription.items.data
            if subscription.items.has_more:  # than the page that comes with it
                filters = {"subscription": subscription.id}
                listed = pages(self._stripe, "/v1/subscription_items", "subscription_items", filters)
                items = [ItemData.read(row, f"an item of {subscription.id}") async for row in listed]
            if any(item.subscription != subscription.id for item in items):
                raise NotUnderstood(f"the items of {subscription.id}", "it has an item of another subscription")
            rows += [(subscription, item) for item in items if item.price.is_metered]
        id, times = max(Counter(item.id for _, item in rows).items(), key=itemgetter(1), default=("", 0))
        if times > 1:  # only one of the two can be true
            raise NotUnderstood("the items of subscriptions", f"it has {id} twice")
        prices = await self._prices({item.price.id for _, item in rows}, known or {})
        cores = {subscription.id: to_subscription(subscription) for subscription in subscriptions}
        return [
            to_item(item, cores[subscription.id], prices[item.price.id], subscription.cancel_at, subscription.planned)
            for subscription, item in rows
        ]

    async def _as_they_were(self, data: SubscriptionData, removed: Collection[Removed]) -> list[SubscriptionItem]:
        """Return the metered items that a subscription had, as far as events say enough of them."""
        metered = [(one, one.metered_price) for one in removed if one.metered_price]
        prices = await self._prices({price for _, price in metered}, {})
        now = to_subscription(data)
        found = (to_removed_item(one, now, prices[price]) for one, price in metered)
        return [item for item in found if item]

    async def _prices(self, ids: Collection[str], known: Mapping[str, Price]) -> dict[str, Price]:
        """Return metered prices, beside those that are known, with their billing meters if one of these has any."""
        asked = await prices_by_id(self._stripe, sorted(set(ids) - known.keys()))
        prices = {**known, **{price.id: to_price(checked_metered(price)) for price in asked}}
        if not any(prices[id].stripe_meter for id in ids):
            return prices
        meters = await billing_meters(self._stripe)
        return {id: replace(price, billing_meter=meters.get(price.stripe_meter or "")) for id, price in prices.items()}


def _living(rows: Iterable[SubscriptionData]) -> list[SubscriptionData]:
    return [row for row in rows if row.status not in _NOT_LIVING]
