"""Prices, and the billing meters that they are on."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import AliasPath, Field

from meter_sync.core.billing.item import BillingMeter, Price, WindowSize
from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.connection import USAGE_RECORD_VERSION, StripeReader, StripeRefused
from meter_sync.stripe_api.not_understood import Oddities
from meter_sync.stripe_api.paging import by_id, pages
from meter_sync.stripe_api.shapes import Identified, Identifier, Metadata, NotUnderstood, PathIdentifier, Shape, Text

METERED = "metered"


class Recurring(Shape):
    """How often and how a price recurs."""

    usage_type: Text
    aggregate_usage: Text | None = None
    meter: PathIdentifier | None = None


class ItemPrice(Identified):
    """As much of a price as an item needs to know."""

    recurring: Recurring | None = None

    @property
    def is_metered(self) -> bool:
        """Whether usage is billed through it."""
        return self.recurring is not None and self.recurring.usage_type == METERED


class RecurringPrice(ItemPrice):
    """The price of an item: only what recurs is subscribed to."""

    recurring: Recurring


class PriceData(ItemPrice):
    """A price, in either API version."""

    product: Identifier
    active: bool
    lookup_key: Text | None = None
    metadata: Metadata
    billing_scheme: Any = None
    transform_quantity: Any = None


class MeterData(Shape):
    """A billing meter."""

    id: PathIdentifier
    event_name: Identifier
    formula: Text = Field(validation_alias=AliasPath("default_aggregation", "formula"))
    event_time_window: Text | None = None
    customer_key: Identifier = Field(validation_alias=AliasPath("customer_mapping", "event_payload_key"))
    customer_mapping: Text = Field(validation_alias=AliasPath("customer_mapping", "type"))
    value_key: Identifier = Field(validation_alias=AliasPath("value_settings", "event_payload_key"))
    status: Text


async def metered_prices(stripe: StripeReader, oddities: Oddities) -> list[PriceData]:
    """Return all metered prices, also the archived ones, in the older version's full shape.

    One that is not understood is noted, and has nothing but its id. Raise what StripeReader raises, or NotUnderstood
    for what is no list.
    """
    metered = {"recurring": {"usage_type": METERED}}
    found = []
    async for row in pages(stripe, "/v1/prices", "prices", metered, USAGE_RECORD_VERSION):
        price = named_only(row["id"])
        with oddities.noting(price.id):
            price = checked_metered(PriceData.read(row, f"price {price.id}"))
        found.append(price)
    return found


async def prices_by_id(stripe: StripeReader, ids: Iterable[str], oddities: Oddities) -> list[PriceData]:
    """Return the prices that are named, several asked for at once. One that is not understood has only its id.

    Raise what StripeReader raises, or MeterSyncError for one that there is not.
    """

    async def one(price: str) -> PriceData:
        with oddities.noting(price), selecting("price", price):
            return await by_id(PriceData, stripe, "price", price, {}, USAGE_RECORD_VERSION)
        return named_only(price)

    return list(await asyncio.gather(*map(one, ids)))


def named_only(id: str) -> PriceData:
    """Return a metered price of which nothing is known but its id."""
    return PriceData(id=id, product="unknown", active=True, metadata={}, recurring=Recurring(usage_type=METERED))


def checked_metered(price: PriceData) -> PriceData:
    """Return a price that was asked for, or is subscribed to, as a metered one. Raise NotUnderstood if it is not."""
    if not price.is_metered:
        raise NotUnderstood(f"price {price.id}", "a metered price was expected")
    return price


async def billing_meters(stripe: StripeReader, oddities: Oddities) -> dict[str, BillingMeter]:
    """Return all billing meters by their ids, also the inactive ones: prices stay on them.

    One that is not understood is noted and left out, and so are two active ones that have one event name. Raise what
    StripeReader raises, or NotUnderstood for what is no list.
    """
    rows = list[MeterData]()
    async for answered in pages(stripe, "/v1/billing/meters", "billing_meters", {}):
        with oddities.noting(answered["id"]):
            rows.append(MeterData.read(answered, f"billing meter {answered['id']}"))
    names = Counter(row.event_name for row in rows if row.status == "active")
    for row in rows:
        if row.status == "active" and names[row.event_name] > 1:
            oddities.note(row.id, NotUnderstood(f"billing meter {row.id}", "two active ones have its event name").why)
    return {row.id: _to_meter(row) for row in rows if oddities.of(row.id) is None}


def _to_meter(row: MeterData) -> BillingMeter:
    return BillingMeter(
        id=row.id,
        event_name=row.event_name,
        formula=row.formula,
        window=WindowSize(known) if (known := row.event_time_window) in set(WindowSize) else None,
        unknown_window=None if known in set(WindowSize) else known,
        customer_key=row.customer_key,
        customer_mapping=row.customer_mapping,
        value_key=row.value_key,
        is_active=row.status == "active",
        unknown_status=None if row.status in ("active", "inactive") else row.status,
    )


def to_price(data: PriceData) -> Price:
    """Return a price as the core knows it; `aggregate_usage` needs an answer of the older version."""
    recurring = data.recurring or Recurring(usage_type="licensed")
    return Price(
        id=data.id,
        product=data.product,
        lookup_key=data.lookup_key,
        aggregate_usage=recurring.aggregate_usage or "sum",
        stripe_meter=recurring.meter,
        metadata=data.metadata,
        is_per_unit=data.billing_scheme == "per_unit" and data.transform_quantity is None,
    )


@contextmanager
def selecting(kind: str, value: str) -> Iterator[None]:
    """Say of what Stripe does not have that a selector matches nothing. Raise MeterSyncError then."""
    try:
        yield
    except StripeRefused as refusal:
        if not refusal.is_missing:
            raise
        raise nothing_selected(kind, value) from refusal


def nothing_selected(kind: str, value: str) -> MeterSyncError:
    """Return the error of a selector that matches nothing: never a silent success."""
    return MeterSyncError(
        f"--{kind} {value} matches no metered item of a living subscription; nothing was written",
        "check the value, and that the key belongs to the same account and mode (live or sandbox); what is on a test "
        "clock is found with --test-clock only",
        code="nothing_selected",
    )
