"""Finding the metered items of living subscriptions in as few requests as possible."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypeVar

import structlog

from meter_sync.core.billing.item import Price, SubscriptionItem
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import MeterSyncError
from meter_sync.net.tasks import together
from meter_sync.stripe_api.connection import (
    PermissionMissing,
    StripeReader,
    StripeRefused,
    StripeUnavailable,
    unreachable,
)
from meter_sync.stripe_api.item_rows import ItemRows, Subscribed, is_living
from meter_sync.stripe_api.not_understood import Oddities, usage_type
from meter_sync.stripe_api.paging import by_id, list_at, page_of, pages, refusing
from meter_sync.stripe_api.prices import (
    METERED,
    billing_meters,
    checked_metered,
    metered_prices,
    prices_by_id,
    selecting,
    to_price,
)
from meter_sync.stripe_api.ranges import Row, RowPage
from meter_sync.stripe_api.shapes import Identified, NotUnderstood, Page
from meter_sync.stripe_api.subscriptions import (
    NamedSubscription,
    Removed,
    SubscriptionData,
    to_removed_item,
    to_subscription,
)
from meter_sync.stripe_api.walking import Walkers, keeping_rows

log = structlog.get_logger()

_PATH, _ENDPOINT = "/v1/subscriptions", "subscriptions"

Kept = TypeVar("Kept")


@dataclass(frozen=True, slots=True)
class Listing:
    """What was found."""

    items: list[SubscriptionItem] = field(default_factory=list)
    asked_prices: frozenset[str] = frozenset()
    """The prices whose subscriptions were asked for."""
    empty_archived_prices: frozenset[str] = frozenset()
    """Those of them that are archived and have no subscription: not worth asking every time."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Subscriptions that cannot even be named, or have an item that cannot be, and why."""


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

    Given a test clock it lists what is on that one and nothing else, without one nothing that is on any. Given a key,
    it lists only the items that have it in their metadata.
    """

    def __init__(
        self,
        stripe: StripeReader,
        *,
        with_customers: bool,
        test_clock: str | None = None,
        only_with_key: str | None = None,
    ) -> None:
        self._stripe = stripe
        self._with_customers = with_customers
        self._test_clock = test_clock
        self._only_with_key = only_with_key
        self._has_schedules = False
        self._reads_schedules = True
        self._walkers = Walkers(lambda: stripe.at_once(_ENDPOINT))
        self._oddities = Oddities()
        self._rows = ItemRows(self._oddities)

    async def find(self, selection: Selection, skip_prices: Collection[str]) -> Listing:
        """Return the metered items of living subscriptions, each once; what is not understood says so of itself.

        A selected customer, subscription or price is asked for alone; else all metered prices are, the archived
        ones too, but for `skip_prices`. Raise TryAgainError, ConfigurationError, or MeterSyncError, also where nothing
        at all of what there is was understood.
        """
        try:
            with keeping_rows():
                listing = await self._selected(selection, skip_prices)
        except StripeUnavailable as failure:
            raise unreachable(failure) from failure
        except StripeRefused as refusal:
            raise MeterSyncError(
                f"Stripe refused to list subscriptions: {refusal.message}; nothing was written",
                "correct what Stripe names; if it is nothing of yours, report it with this message",
                code="stripe_refused",
            ) from refusal
        if listing.unreadable and not listing.items:  # where nothing at all is understood, nobody else waits
            why = next(iter(listing.unreadable.values()))
            raise MeterSyncError(
                f"{why}; nothing was written",
                "run again; if it stays so, report it with this message",
                code=NotUnderstood.code,
            )
        return listing

    async def _selected(self, selection: Selection, skip_prices: Collection[str]) -> Listing:
        if selection.customers:
            return await self._items(await self._of_customers(selection.customers))
        if selection.subscriptions:
            found = await self._subscriptions(selection.subscriptions)
            return await self._items([self._rows.subscribed(one) for one in found])
        if self._test_clock is not None and not selection.prices:
            return await self._items(_living(await self._subscribed({"test_clock": self._test_clock})))
        return await self._of_prices(selection.prices, skip_prices)

    async def fate(self, subscription: str, removed: Collection[Removed] = ()) -> Fate:
        """Return what has become of a subscription that a listing did not have, or not with all its items.

        Of `removed`, what events say of items that it has no more, return the metered ones.
        Raise StripeRefused, also where it, or an item of it, cannot be read; StripeUnavailable or ConfigurationError.
        """
        with refusing():
            data = await self._subscription(subscription)
            if data.test_clock != self._test_clock:
                return Fate(None, [])
            listing = await self._items([self._rows.with_items(data)])
            if data.id in listing.unreadable:
                raise StripeRefused(listing.unreadable[data.id])
            was_living = is_living(data) or data.ended_at is not None
            return Fate(data.ended_at, listing.items, await self._as_they_were(data, removed) if was_living else ())

    async def canceled_on_clock(self, test_clock: str, since: datetime) -> frozenset[str]:
        """Return the subscriptions on a test clock that ended at an instant of its time or later.

        Raise StripeRefused, StripeUnavailable or ConfigurationError.
        """
        with refusing():
            listed = await self._listed({"test_clock": test_clock, "status": "canceled"}, itself)
            if odd := self._oddities.of(*(row.id for row in listed)):
                raise StripeRefused(odd)
        ended_at = {row.id: row.ended_at for row in listed if isinstance(row, SubscriptionData)}
        return frozenset(id for id, at in ended_at.items() if at is not None and at >= since)

    async def canceled_since(self, since: datetime) -> frozenset[str]:
        """Return the subscriptions with a metered item that ended at an instant or later.

        A list has no filter for that, but one for the end of their last periods, which is no earlier (API reference,
        List subscriptions: `current_period_end`).
        Raise StripeRefused, StripeUnavailable or ConfigurationError.
        """
        filters = {"status": "canceled", "current_period_end": {"gte": int(since.timestamp())}}
        with refusing():
            listed = await self._listed(filters, itself)
        understood = [row for row in listed if isinstance(row, SubscriptionData)]
        ended = [row for row in understood if row.ended_at is not None and row.ended_at >= since]
        return frozenset(row.id for row in ended if any(usage_type(item) == METERED for item in row.items.data))

    async def count_on_clock(self, test_clock: str) -> int:
        """Return how many living subscriptions with a metered item are on a test clock.

        An item that is not on the first page of its subscription's is not seen.
        Raise StripeRefused, StripeUnavailable or ConfigurationError.
        """
        with refusing():
            listed = await self._listed({"test_clock": test_clock}, itself)
        living = [row for row in listed if is_living(row)]
        return sum(any(usage_type(item) == METERED for item in row.items.data) for row in living)

    async def _of_prices(self, selected: Collection[str], skipped: Collection[str]) -> Listing:
        """List the subscriptions of each price, several prices at once.

        Only a price without any subscription is empty: an incomplete one may come to life within the day.
        """
        if selected:
            prices = [price for price in await prices_by_id(self._stripe, selected, self._oddities) if price.is_metered]
        else:
            every = await metered_prices(self._stripe, self._oddities)
            prices = [price for price in every if price.active or price.id not in skipped]
        known = {price.id: to_price(price) for price in prices}
        clock = {} if self._test_clock is None else {"test_clock": self._test_clock}
        found = await together(self._subscribed({"price": price.id, **clock}) for price in prices)
        empty = [price.id for price, rows in zip(prices, found, strict=True) if not (rows or price.active)]
        subscriptions = {row.id: row for rows in found for row in _living(rows)}
        listing = await self._items(subscriptions.values(), known)
        return replace(listing, asked_prices=frozenset(known), empty_archived_prices=frozenset(empty))

    async def _of_customers(self, customers: Iterable[str]) -> list[Subscribed]:
        async def of(customer: str) -> list[Subscribed]:
            with selecting("customer", customer):
                return _living(await self._subscribed({"customer": customer}))

        return list({row.id: row for rows in await together(map(of, customers)) for row in rows}.values())

    async def _subscribed(self, filters: dict[str, Any]) -> list[Subscribed]:
        """Return the subscriptions of a filter with their items, and nothing else of their rows."""
        return await self._listed(filters, self._rows.subscribed)

    async def _listed(self, filters: dict[str, Any], kept: Callable[[NamedSubscription], Kept]) -> list[Kept]:
        """Return what is kept of the subscriptions of a filter. Without `status` Stripe answers all but canceled ones.

        Those of a customer are answered whether they are on a test clock or not, others only if it is named.
        """
        test_clock = filters.get("test_clock", self._test_clock)

        def of_row(row: Mapping[str, Any]) -> Row[Kept | None]:
            id, created = Identified.read(row, list_at(_PATH)).id, row.get("created")
            read = self._subscription_of(row, id)
            is_asked_for = read is not None and read.test_clock == test_clock
            return Row(id, created if type(created) is int else None, kept(read) if read and is_asked_for else None)

        async def page(part: Mapping[str, Any]) -> RowPage[Kept | None]:
            answered = await self._page({**filters, **part})
            return RowPage([of_row(row) for row in answered.data], answered.has_more)

        return [one for one in await self._walkers.read(list_at(_PATH), page) if one is not None]

    async def _page(self, params: Mapping[str, Any]) -> Page[dict[str, Any]]:
        """Return a page of subscriptions; once one was seen that has a schedule, with their schedules.

        An account without schedules is asked for none, nor for the permission to read them. The page on which the first
        one is found is asked for again.
        """
        is_expanded = self._has_schedules and self._reads_schedules
        page = None if is_expanded else await self._page_with(params)
        if page is None or (self._reads_schedules and _has_schedules(page)):
            self._has_schedules = True
            try:
                page = await self._page_with(params, "schedule")
            except PermissionMissing as error:
                self._make_do_without_schedules(error)
                page = page or await self._page_with(params)
        return page

    async def _page_with(self, params: Mapping[str, Any], *expanded: str) -> Page[dict[str, Any]]:
        expand = [f"data.{name}" for name in (*self._expanded, *expanded)]
        return await page_of(self._stripe, _PATH, _ENDPOINT, {**params, "expand": expand} if expand else params)

    def _subscription_of(self, row: Mapping[str, Any], id: str) -> NamedSubscription | None:
        """Return a subscription; one that is not understood is noted, and returned as far as it names its items."""
        what = f"subscription {id}"
        with self._oddities.noting(id):
            return SubscriptionData.read(row, what)
        try:
            return NamedSubscription.read(row, what)
        except NotUnderstood as error:
            self._rows.unreadable[id] = error.why
        return None

    @property
    def _expanded(self) -> tuple[str, ...]:
        return ("customer",) if self._with_customers else ()

    def _make_do_without_schedules(self, error: PermissionMissing) -> None:
        if self._reads_schedules:
            said = "what schedules change is reported by the usual runs, not up to the instant of the change"
            log.warning("schedules_unread", message=f"{said}: {error.message}")
        self._reads_schedules = False

    async def _subscriptions(self, ids: Iterable[str]) -> list[NamedSubscription]:
        async def one(subscription: str) -> NamedSubscription:
            with selecting("subscription", subscription):
                with self._oddities.noting(subscription):
                    return await self._subscription(subscription)
                return await by_id(NamedSubscription, self._stripe, "subscription", subscription, {})

        return [row for row in await together(map(one, ids)) if row.test_clock == self._test_clock]

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

    async def _items(self, subscriptions: Iterable[Subscribed], known: Mapping[str, Price] | None = None) -> Listing:
        """Return the metered items of the subscriptions, with prices in the older version's full shape.

        What was not understood of an item, or of its subscription, its price or its billing meter, it says of itself.
        """
        found: dict[str, SubscriptionItem] = {}
        for subscription in subscriptions:
            unread = subscription.unread
            for item in await self._all_items(unread) if unread else subscription.items:
                if found.setdefault(item.id, item) is not item:  # only one of the two can be true
                    self._oddities.note(item.id, NotUnderstood(f"item {item.id}", "it is there twice").why)
        prices = await self._prices({item.price.id for item in found.values()}, known or {})
        items = [self._in_full(item, prices[item.price.id]) for item in found.values() if self._is_listed(item)]
        return Listing(items, unreadable=dict(self._rows.unreadable))

    async def _all_items(self, subscription: NamedSubscription) -> Sequence[SubscriptionItem]:
        """Return the items of a subscription that has more than the page of them that comes with it."""
        filters = {"subscription": subscription.id}
        listed = pages(self._stripe, "/v1/subscription_items", "subscription_items", filters)
        return self._rows.items(subscription, [row async for row in listed])

    def _in_full(self, item: SubscriptionItem, price: Price) -> SubscriptionItem:
        """Return an item with its price, that says what of it was not understood."""
        odd = self._oddities.of(item.id, item.subscription.id, item.price.id, price.stripe_meter)
        return replace(item, price=price, not_understood=odd)

    async def _as_they_were(self, data: SubscriptionData, removed: Collection[Removed]) -> list[SubscriptionItem]:
        """Return the metered items that a subscription had, as far as events say enough of them."""
        metered = [(one, one.metered_price) for one in removed if one.metered_price]
        prices = await self._prices({price for _, price in metered}, {})
        now = to_subscription(data)
        found = (to_removed_item(one, now, prices[price]) for one, price in metered)
        return [self._in_full(item, item.price) for item in found if item and self._is_listed(item)]

    def _is_listed(self, item: SubscriptionItem) -> bool:
        return self._only_with_key is None or self._only_with_key in item.metadata

    async def _prices(self, ids: Collection[str], known: Mapping[str, Price]) -> dict[str, Price]:
        """Return metered prices, beside those that are known, with their billing meters if one of these has any."""
        asked = await prices_by_id(self._stripe, sorted(set(ids) - known.keys()), self._oddities)
        for price in asked:
            with self._oddities.noting(price.id):
                checked_metered(price)
        prices = {**known, **{price.id: to_price(price) for price in asked}}
        if not any(prices[id].stripe_meter for id in ids):
            return prices
        meters = await billing_meters(self._stripe, self._oddities)
        return {id: replace(price, billing_meter=meters.get(price.stripe_meter or "")) for id, price in prices.items()}


def _living(found: Iterable[Subscribed]) -> list[Subscribed]:
    return [one for one in found if one.is_living]


def itself(row: NamedSubscription) -> NamedSubscription:
    """Return the row of a subscription, where all of it is looked at."""
    return row


def _has_schedules(page: Page[dict[str, Any]]) -> bool:
    return any(isinstance(row.get("schedule"), str) for row in page.data)
