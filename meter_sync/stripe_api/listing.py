"""Finding the metered items of living subscriptions in as few requests as possible."""

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import itemgetter
from typing import Any

from pydantic import AliasPath, Field, model_validator

from meter_sync.core.billing.item import Customer, Period, Price, Subscription, SubscriptionItem
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable, unreachable
from meter_sync.stripe_api.paging import by_id, pages, refusing
from meter_sync.stripe_api.prices import (
    RecurringPrice,
    billing_meters,
    checked_metered,
    metered_prices,
    prices_by_id,
    selecting,
    to_price,
)
from meter_sync.stripe_api.shapes import (
    Identified,
    Identifier,
    Metadata,
    NotUnderstood,
    Page,
    PathIdentifier,
    Text,
    UnixSeconds,
)

_NOT_LIVING = frozenset({"incomplete", "incomplete_expired", "canceled"})
"""Incomplete subscriptions are no customers yet; canceled ones are none any more."""
_BILLING_MODES = frozenset({"classic", "flexible"})


class CustomerData(Identified):
    """An expanded customer; a deleted one has little more than its id."""

    deleted: bool = False
    metadata: Metadata = Field(default_factory=dict)


class ItemData(Identified):
    """A subscription item, with its own billing period (API version basil and later)."""

    id: PathIdentifier
    subscription: PathIdentifier
    created: UnixSeconds
    current_period_start: UnixSeconds
    current_period_end: UnixSeconds
    metadata: Metadata
    price: RecurringPrice

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "ItemData":
        if self.current_period_end < self.current_period_start:
            raise ValueError("its period ends before it starts")
        return self


class SubscriptionData(Identified):
    """A subscription with the first page of its items."""

    id: PathIdentifier
    customer: Identifier | CustomerData
    status: Text
    billing_mode: Text | None = Field(default=None, validation_alias=AliasPath("billing_mode", "type"))
    pause_collection: Text | None = Field(default=None, validation_alias=AliasPath("pause_collection", "behavior"))
    created: UnixSeconds
    trial_end: UnixSeconds | None = None
    cancel_at: UnixSeconds | None = None
    ended_at: UnixSeconds | None = None
    metadata: Metadata
    test_clock: Identifier | None = None
    billing_thresholds: dict[str, Any] | None = None
    items: Page[ItemData]

    @model_validator(mode="after")
    def _has_its_own_items(self) -> "SubscriptionData":
        if any(item.subscription != self.id for item in self.items.data):
            raise ValueError("it has an item of another subscription")
        return self


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
    """Lists metered items; `with_customers` fetches the customers' metadata along, in the same requests.

    Given a test clock it lists what is on that one and nothing else, without one nothing that is on any.
    """

    def __init__(self, stripe: StripeReader, *, with_customers: bool, test_clock: str | None = None) -> None:
        self._stripe = stripe
        self._with_customers = with_customers
        self._test_clock = test_clock

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

    async def fate(self, subscription: str) -> Fate:
        """Return what has become of a subscription that a listing did not have, or not with all its items.

        Raise StripeRefused, StripeUnavailable or ConfigurationError.
        """
        with refusing():
            data = await self._subscription(subscription)
            if data.test_clock != self._test_clock:
                return Fate(None, [])
            return Fate(data.ended_at, await self._items([data]))

    async def canceled_on_clock(self, test_clock: str, since: datetime) -> frozenset[str]:
        """Return the subscriptions on a test clock that ended at an instant of its time or later.

        Raise StripeRefused, StripeUnavailable or ConfigurationError.
        """
        with refusing():
            listed = await self._listed({"test_clock": test_clock, "status": "canceled"})
        return frozenset(row.id for row in listed if row.ended_at is not None and row.ended_at >= since)

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
        if self._with_customers:
            filters = {**filters, "expand": ["data.customer"]}
        rows = [
            SubscriptionData.read(row, f"subscription {row['id']}")
            async for row in pages(self._stripe, "/v1/subscriptions", "subscriptions", filters)
        ]
        return [row for row in rows if row.test_clock == filters.get("test_clock", self._test_clock)]

    async def _subscriptions(self, ids: Iterable[str]) -> list[SubscriptionData]:
        found = []
        for subscription in ids:
            with selecting("subscription", subscription):
                found.append(await self._subscription(subscription))
        return [row for row in _living(found) if row.test_clock == self._test_clock]

    async def _subscription(self, id: str) -> SubscriptionData:
        expand: dict[str, Any] = {"expand": ["customer"]} if self._with_customers else {}
        return await by_id(SubscriptionData, self._stripe, "subscription", id, expand)

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
        prices = dict(known or {})
        missing = {item.price.id for _, item in rows} - prices.keys()
        asked = await prices_by_id(self._stripe, sorted(missing))
        prices.update((price.id, to_price(checked_metered(price))) for price in asked)
        if any(prices[item.price.id].stripe_meter for _, item in rows):
            meters = await billing_meters(self._stripe)
            prices = {
                id: replace(price, billing_meter=meters.get(price.stripe_meter or "")) for id, price in prices.items()
            }
        cores = {subscription.id: to_subscription(subscription) for subscription in subscriptions}
        return [
            to_item(item, cores[subscription.id], prices[item.price.id], subscription.cancel_at)
            for subscription, item in rows
        ]


def _living(rows: Iterable[SubscriptionData]) -> list[SubscriptionData]:
    return [row for row in rows if row.status not in _NOT_LIVING]


def to_subscription(data: SubscriptionData) -> Subscription:
    """Return a subscription as the core knows it."""
    customer = data.customer
    return Subscription(
        id=data.id,
        customer=Customer(id=customer)
        if isinstance(customer, str)
        else Customer(customer.id, customer.deleted, customer.metadata),
        status=data.status,
        created=data.created,
        metadata=data.metadata,
        has_billing_thresholds=bool(data.billing_thresholds),
        trial_end=data.trial_end,
        voids_invoices=data.pause_collection == "void",
        is_flexible=data.billing_mode == "flexible",
        unknown_billing_mode=None if data.billing_mode in _BILLING_MODES else data.billing_mode,
    )


def to_item(
    data: ItemData, subscription: Subscription, price: Price, cancel_at: datetime | None = None
) -> SubscriptionItem:
    """Return a subscription item as the core knows it.

    Where its subscription is to end within its period, at `cancel_at`, that is the end of its last one.
    """
    start, end = data.current_period_start, data.current_period_end
    is_last = cancel_at is not None and start < cancel_at <= end
    return SubscriptionItem(
        id=data.id,
        subscription=subscription,
        price=price,
        period=Period(start, cancel_at if cancel_at is not None and is_last else end),
        created=data.created,
        metadata=data.metadata,
        is_followed=not is_last,
    )
