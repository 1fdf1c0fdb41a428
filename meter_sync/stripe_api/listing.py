"""Finding the metered items of living subscriptions in as few requests as possible."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import quote

from meter_sync.core.billing.item import BillingMeter, Price, SubscriptionItem
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.connection import (
    USAGE_RECORD_VERSION,
    StripeReader,
    StripeRefused,
    StripeUnavailable,
    unreachable,
)
from meter_sync.stripe_api.paging import pages, refusing
from meter_sync.stripe_api.wire import (
    ItemData,
    MeterData,
    NotUnderstood,
    PriceData,
    SubscriptionData,
    instant,
    read,
    to_item,
    to_meter,
    to_price,
    to_subscription,
)

Found = TypeVar("Found", PriceData, SubscriptionData)

_LIVING = frozenset({"active", "past_due", "trialing", "unpaid", "paused"})
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


class Lister:
    """Lists metered items; `with_customers` fetches the customers' metadata along, in the same requests."""

    def __init__(self, stripe: StripeReader, *, with_customers: bool) -> None:
        self._stripe = stripe
        self._with_customers = with_customers

    async def find(self, selection: Selection, skip_prices: Collection[str]) -> Listing:
        """Return the metered items of living subscriptions, each once.

        A selected customer, subscription or price is asked for alone; else all metered prices are, the archived
        ones too, but for `skip_prices`. Raise TryAgainError, MeterSyncError or ConfigurationError.
        """
        try:
            if selection.customers:
                found = await self._of_customers(selection.customers)
                return Listing(await self._items(found))
            if selection.subscriptions:
                found = await self._subscriptions(selection.subscriptions)
                return Listing(await self._items(found))
            return await self._of_prices(await self._prices(selection, skip_prices))
        except StripeUnavailable as failure:
            raise unreachable(failure) from failure
        except StripeRefused as refusal:
            raise MeterSyncError(
                f"Stripe refused to list subscriptions: {refusal.message}; nothing was written",
                "correct what Stripe names; if it is nothing of yours, report it with this message",
                code="stripe_refused",
            ) from refusal

    async def fate(self, subscription: str) -> "Fate":
        """Return what has become of a subscription that a listing did not have, or not with all its items.

        Raise StripeRefused, StripeUnavailable or ConfigurationError.
        """
        expand: dict[str, Any] = {"expand": ["customer"]} if self._with_customers else {}
        path = f"/v1/subscriptions/{quote(subscription, safe='')}"
        answer = await self._stripe.get(path, "subscription", expand)
        with refusing():
            data = _asked_for(read(SubscriptionData, answer.data, f"subscription {subscription}"), subscription)
            items = await self._items([data])
        return Fate(None if data.ended_at is None else instant(data.ended_at), items)

    async def _prices(self, selection: Selection, skip_prices: Collection[str]) -> list[PriceData]:
        if selection.prices:
            return [price for price in await self._prices_by_id(selection.prices) if price.is_metered]
        metered = {"recurring": {"usage_type": "metered"}}
        listed = pages(self._stripe, "/v1/prices", "prices", metered, USAGE_RECORD_VERSION)
        prices = [_metered(read(PriceData, row, f"price {row['id']}")) async for row in listed]
        return [price for price in prices if price.active or price.id not in skip_prices]

    async def _of_prices(self, prices: Iterable[PriceData]) -> Listing:
        """List the subscriptions of each price, several prices at once.

        Only a price without any subscription is empty: an incomplete one may come to life within the day.
        """
        prices = list(prices)
        known = {price.id: to_price(price) for price in prices}
        found = await asyncio.gather(*(self._listed({"price": price.id}) for price in prices))
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
            try:
                rows = _living(await self._listed({"customer": customer}))
            except StripeRefused as refusal:
                if not refusal.is_missing:
                    raise
                raise nothing_selected("customer", customer) from refusal
            found.update((row.id, row) for row in rows)
        return list(found.values())

    async def _listed(self, filters: dict[str, Any]) -> list[SubscriptionData]:
        """Return the subscriptions of a filter. Without `status` Stripe answers all but canceled ones."""
        if self._with_customers:
            filters = {**filters, "expand": ["data.customer"]}
        return [
            read(SubscriptionData, row, f"subscription {row['id']}")
            async for row in pages(self._stripe, "/v1/subscriptions", "subscriptions", filters)
        ]

    async def _subscriptions(self, ids: Iterable[str]) -> list[SubscriptionData]:
        expand: dict[str, Any] = {"expand": ["customer"]} if self._with_customers else {}
        found = []
        for subscription in ids:
            path = f"/v1/subscriptions/{quote(subscription, safe='')}"
            try:
                answer = await self._stripe.get(path, "subscription", expand)
            except StripeRefused as refusal:
                if not refusal.is_missing:
                    raise
                raise nothing_selected("subscription", subscription) from refusal
            found.append(_asked_for(read(SubscriptionData, answer.data, f"subscription {subscription}"), subscription))
        return _living(found)

    async def _prices_by_id(self, ids: Iterable[str]) -> list[PriceData]:
        return list(await asyncio.gather(*(self._price(price) for price in ids)))

    async def _price(self, price: str) -> PriceData:
        path = f"/v1/prices/{quote(price, safe='')}"
        try:
            answer = await self._stripe.get(path, "price", {}, USAGE_RECORD_VERSION)
        except StripeRefused as refusal:
            if not refusal.is_missing:
                raise
            raise nothing_selected("price", price) from refusal
        return _asked_for(read(PriceData, answer.data, f"price {price}"), price)

    async def _meters(self) -> dict[str, BillingMeter]:
        """Return all billing meters, also the inactive ones: prices stay on them."""
        listed = pages(self._stripe, "/v1/billing/meters", "billing_meters", {})
        rows = [read(MeterData, row, f"billing meter {row['id']}") async for row in listed]
        active = [row.event_name for row in rows if row.status == "active"]
        if len(set(active)) < len(active):
            raise NotUnderstood("the billing meters", "two active ones have one event name")
        return {row.id: to_meter(row) for row in rows}

    async def _items(
        self, subscriptions: list[SubscriptionData], known: dict[str, Price] | None = None
    ) -> list[SubscriptionItem]:
        """Return the metered items of the subscriptions, with prices in the older version's full shape."""
        rows = [
            (subscription, item)
            for subscription in subscriptions
            for item in await self._items_of(subscription)
            if item.price.is_metered
        ]
        _check_each_once(item for _, item in rows)
        prices = dict(known or {})
        missing = {item.price.id for _, item in rows} - prices.keys()
        prices.update((price.id, to_price(_metered(price))) for price in await self._prices_by_id(sorted(missing)))
        if any(prices[item.price.id].stripe_meter for _, item in rows):
            meters = await self._meters()
            prices = {
                id: replace(price, billing_meter=meters.get(price.stripe_meter or "")) for id, price in prices.items()
            }
        cores = {subscription.id: to_subscription(subscription) for subscription in subscriptions}
        return [to_item(item, cores[subscription.id], prices[item.price.id]) for subscription, item in rows]

    async def _items_of(self, subscription: SubscriptionData) -> list[ItemData]:
        """Return all items of a subscription, also those beyond the page that comes with it."""
        if not subscription.items.has_more:
            return subscription.items.data
        filters = {"subscription": subscription.id}
        listed = pages(self._stripe, "/v1/subscription_items", "subscription_items", filters)
        items = [read(ItemData, row, f"an item of {subscription.id}") async for row in listed]
        if any(item.subscription != subscription.id for item in items):
            raise NotUnderstood(f"the items of {subscription.id}", "it has an item of another subscription")
        return items


def _asked_for(found: Found, id: str) -> Found:
    """Return what was asked for by its id. Raise NotUnderstood if something else came."""
    if found.id != id:
        raise NotUnderstood(id, f"it is about {found.id}")
    return found


def _metered(price: PriceData) -> PriceData:
    """Return a price that was asked for, or is subscribed to, as a metered one. Raise NotUnderstood if it is not."""
    if not price.is_metered:
        raise NotUnderstood(f"price {price.id}", "a metered price was expected")
    return price


def _check_each_once(items: Iterable[ItemData]) -> None:
    """Raise NotUnderstood if an item is there twice: only one of the two can be true."""
    seen: set[str] = set()
    for item in items:
        if item.id in seen:
            raise NotUnderstood("the items of subscriptions", f"it has {item.id} twice")
        seen.add(item.id)


def _living(rows: Iterable[SubscriptionData]) -> list[SubscriptionData]:
    return [row for row in rows if row.status in _LIVING]


def nothing_selected(kind: str, value: str) -> MeterSyncError:
    """Return the error of a selector that matches nothing: never a silent success."""
    return MeterSyncError(
        f"--{kind} {value} matches no metered item of a living subscription; nothing was written",
        "check the value, and that the key belongs to the same account and mode (live or sandbox)",
        code="nothing_selected",
    )
