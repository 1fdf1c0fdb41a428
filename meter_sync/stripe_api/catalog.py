"""What is sold: products, billing meters and prices on them, as `setup` finds and makes them.

Sources: API reference, Products, Billing meters, Prices (lookup keys, tiers).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AliasPath, Field

from meter_sync.stripe_api.connection import StripeReader, StripeWriter
from meter_sync.stripe_api.paging import by_id, in_doubt, pages
from meter_sync.stripe_api.shapes import Identified, Identifier, Metadata, PathIdentifier, Quantity, Shape, Text

TiersMode = Literal["graduated", "volume"]
"""Whether each unit costs what its own tier says, or all of them what the tier of the last one says."""

LONGEST_LOOKUP_KEY = 200
MOST_DECIMALS = 12
"""How many decimal places of the minor unit an amount may have (API reference, unit_amount_decimal)."""

Amount = Annotated[Decimal, Field(strict=False, ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Tier:
    """What each unit of a stretch of the quantity costs, in the currency's minor unit."""

    up_to: int | None
    """The last unit of the stretch; None where it has no end."""
    unit_amount: Decimal


@dataclass(frozen=True, slots=True)
class NewPrice:
    """A recurring metered price that is to be made."""

    product: str
    stripe_meter: str
    currency: str
    tiers: Sequence[Tier]
    """One without an end is a price per unit."""
    tiers_mode: TiersMode | None
    interval: str
    lookup_key: str
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NewMeter:
    """A billing meter that is to be made, by default for customers by their ids in Stripe."""

    display_name: str
    event_name: str
    formula: str
    window: str | None
    customer_mapping: str = "by_id"
    customer_key: str = "stripe_customer_id"
    value_key: str = "value"


class ProductData(Identified):
    """A product."""

    name: Text
    active: bool


class CatalogMeter(Shape):
    """A billing meter, with all that cannot be changed any more."""

    id: PathIdentifier
    event_name: Identifier
    formula: Text = Field(validation_alias=AliasPath("default_aggregation", "formula"))
    event_time_window: Text | None = None
    customer_mapping: Text = Field(validation_alias=AliasPath("customer_mapping", "type"))
    status: Text


class TierData(Shape):
    """A tier of a price."""

    up_to: Quantity | None = None
    unit_amount_decimal: Amount | None = None
    flat_amount_decimal: Amount | None = None


class RecurringData(Shape):
    """How often a price recurs, and what says how much it was."""

    interval: Text
    interval_count: Quantity
    usage_type: Text
    aggregate_usage: Text | None = None
    """In the older version alone, where a legacy price has one."""
    meter: PathIdentifier | None = None


class CatalogPrice(Identified):
    """A price, with all that decides what is billed by it."""

    product: Identifier
    active: bool
    currency: Text
    metadata: Metadata
    recurring: RecurringData | None = None
    billing_scheme: Text
    unit_amount_decimal: Amount | None = None
    tiers: list[TierData] | None = None
    tiers_mode: Text | None = None
    transform_quantity: Any = None


async def products_named(stripe: StripeReader, name: str) -> list[ProductData]:
    """Return the active products that have a name: all are listed, since Stripe's search lags behind by minutes.

    Raise what StripeReader raises, or NotUnderstood.
    """
    found = [
        ProductData.read(row, "a product") async for row in pages(stripe, "/v1/products", "products", {"active": True})
    ]
    return [product for product in found if product.name == name]


async def product(stripe: StripeReader, id: str) -> ProductData:
    """Return the product of an id. Raise what StripeReader raises, or NotUnderstood."""
    return await by_id(ProductData, stripe, "product", id, {})


async def price_of(stripe: StripeReader, lookup_key: str) -> CatalogPrice | None:
    """Return the price that has a lookup key, an archived one too, or None: no two prices of an account have the same.

    Raise what StripeReader raises, or NotUnderstood.
    """
    asked = {"lookup_keys": [lookup_key], "expand": ["data.tiers"]}
    found = [CatalogPrice.read(row, "a price") async for row in pages(stripe, "/v1/prices", "prices", asked)]
    return found[0] if found else None


async def active_meter(stripe: StripeReader, event_name: str) -> CatalogMeter | None:
    """Return the active billing meter that has an event name, or None: no two active ones have the same.

    Raise what StripeReader raises, or NotUnderstood.
    """
    listed = pages(stripe, "/v1/billing/meters", "billing_meters", {"status": "active"})
    found = [CatalogMeter.read(row, "a billing meter") async for row in listed]
    return next((meter for meter in found if meter.event_name == event_name), None)


async def create_product(stripe: StripeWriter, name: str) -> str:
    """Make a product and return its id. Raise what StripeWriter raises."""
    return made(await stripe.create("/v1/products", "products", {"name": name}), "the product")


async def create_meter(stripe: StripeWriter, new: NewMeter) -> str:
    """Make a billing meter and return its id. Raise what StripeWriter raises."""
    asked: dict[str, Any] = {
        "display_name": new.display_name,
        "event_name": new.event_name,
        "default_aggregation": {"formula": new.formula},
        "customer_mapping": {"type": new.customer_mapping, "event_payload_key": new.customer_key},
        "value_settings": {"event_payload_key": new.value_key},
        **({"event_time_window": new.window} if new.window else {}),
    }
    return made(await stripe.create("/v1/billing/meters", "billing_meters", asked), "the billing meter")


async def create_price(stripe: StripeWriter, new: NewPrice) -> str:
    """Make a price and return its id. Raise what StripeWriter raises."""
    asked: dict[str, Any] = {
        "product": new.product,
        "currency": new.currency,
        "lookup_key": new.lookup_key,
        "metadata": dict(new.metadata),
        "recurring": {"interval": new.interval, "usage_type": "metered", "meter": new.stripe_meter},
    }
    if new.tiers_mode is None:
        (only,) = new.tiers
        asked |= {"billing_scheme": "per_unit", "unit_amount_decimal": f"{only.unit_amount:f}"}
    else:
        tiers = [
            {"up_to": "inf" if tier.up_to is None else tier.up_to, "unit_amount_decimal": f"{tier.unit_amount:f}"}
            for tier in new.tiers
        ]
        asked |= {"billing_scheme": "tiered", "tiers_mode": new.tiers_mode, "tiers": tiers}
    return made(await stripe.create("/v1/prices", "prices", asked), "the price")


def made(answer: object, what: str) -> str:
    """Return the id of what was made. Raise StripeUnavailable where the answer does not say it."""
    with in_doubt():
        return Identified.read(answer, what).id
