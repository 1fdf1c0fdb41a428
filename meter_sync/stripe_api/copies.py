"""Copying what an account has into another one: prices, customers and subscriptions, each with the id of its original.

Prices and subscriptions are written in the older version of the API, in which legacy prices can still be made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from pydantic import Field

from meter_sync.core.billing.item import BillingMeter, Customer, SubscriptionItem
from meter_sync.core.metering.mapping import COPY_OF, COPY_OF_METER
from meter_sync.stripe_api import catalog
from meter_sync.stripe_api.catalog import CatalogPrice, NewMeter, RecurringData, TierData, made
from meter_sync.stripe_api.connection import (
    CURRENT_VERSION,
    USAGE_RECORD_VERSION,
    PermissionMissing,
    StripeReader,
    StripeWriter,
)
from meter_sync.stripe_api.paging import by_id, pages
from meter_sync.stripe_api.shapes import (
    Identified,
    Metadata,
    Quantity,
    Shape,
    Text,
    UnixSeconds,
)

_PAID_BY_INVOICE = {"collection_method": "send_invoice", "days_until_due": 365}
"""Copies have no means to pay with, and are not to be overdue."""


class _Transform(Shape):
    divide_by: Quantity
    round: Text


class PriceToCopy(CatalogPrice):
    """A metered price, with all that decides what is billed by it."""

    lookup_key: Text | None = None
    nickname: Text | None = None
    transform_quantity: _Transform | None = None
    recurring: RecurringData


class _WithMetadata(Identified):
    metadata: Metadata = Field(default_factory=dict)


class _Ended(_WithMetadata):
    ended_at: UnixSeconds | None = None


@dataclass(frozen=True, slots=True)
class FirstPeriod:
    """The period in which a copied subscription begins."""

    start: datetime | None
    """In the past; None begins now."""
    end: datetime
    is_trial: bool


async def price_to_copy(stripe: StripeReader, id: str) -> PriceToCopy:
    """Return a price in full. Raise what StripeReader raises, or NotUnderstood."""
    return await by_id(PriceToCopy, stripe, "price", id, {"expand": ["tiers"]}, USAGE_RECORD_VERSION)


async def product_name(stripe: StripeReader, id: str) -> str:
    """Return the name of a product, or its id where the key may not read it. Raise what StripeReader raises."""
    try:
        return (await catalog.product(stripe, id)).name
    except PermissionMissing:
        return id


async def products(stripe: StripeReader) -> frozenset[str]:
    """Return the ids of all products. Raise what StripeReader raises, or NotUnderstood."""
    return frozenset([row["id"] async for row in pages(stripe, "/v1/products", "products", {})])


async def copies_at(stripe: StripeReader, path: str, endpoint: str) -> list[tuple[str, dict[str, str]]]:
    """Return the id and the metadata of each copy in a list. Raise what StripeReader raises, or NotUnderstood."""
    rows = [_WithMetadata.read(row, f"a row of {path}") async for row in pages(stripe, path, endpoint, {})]
    return [(row.id, row.metadata) for row in rows if COPY_OF in row.metadata]


async def ended_copies(stripe: StripeReader) -> dict[str, datetime]:
    """Return when the last copy of a subscription ended that is no more, by the id of its original.

    Raise what StripeReader raises, or NotUnderstood.
    """
    listed = pages(stripe, "/v1/subscriptions", "subscriptions", {"status": "canceled"})
    rows = [_Ended.read(row, "a subscription") async for row in listed]
    found = dict[str, datetime]()
    for row in rows:
        if row.ended_at is not None and COPY_OF in row.metadata:
            original = row.metadata[COPY_OF]
            found[original] = max(row.ended_at, found.get(original, row.ended_at))
    return found


async def create_product(stripe: StripeWriter, id: str, name: str) -> None:
    """Make a product with the id of its original. Raise what StripeWriter raises."""
    await stripe.create("/v1/products", "products", {"id": id, "name": name})


async def create_meter(stripe: StripeWriter, original: BillingMeter) -> str:
    """Make a billing meter like another one, and return its id. Raise what StripeWriter raises."""
    name, formula = original.event_name, original.formula
    window = original.window.value if original.window else original.unknown_window
    keys = original.customer_mapping, original.customer_key, original.value_key
    return await catalog.create_meter(stripe, NewMeter(name, name, formula, window, *keys))


async def create_price(stripe: StripeWriter, original: PriceToCopy, meter: str | None) -> str:
    """Make a price like another one, on the copy of its billing meter, and return its id.

    Raise what StripeWriter raises.
    """
    recurring = original.recurring.model_dump(exclude_none=True)
    names = {COPY_OF: original.id}
    if original.recurring.meter is not None:
        recurring["meter"] = meter
        names[COPY_OF_METER] = original.recurring.meter
    asked = original.model_dump(
        exclude_none=True, include={"product", "currency", "lookup_key", "nickname", "billing_scheme"}
    )
    asked |= {"recurring": recurring, "metadata": {**original.metadata, **names}}
    if original.lookup_key is not None:
        asked["transfer_lookup_key"] = True  # it may have moved from another price, which has a copy too
    if original.tiers:
        tiers = [{**_amounts(tier), "up_to": tier.up_to or "inf"} for tier in original.tiers]
        asked |= {"tiers": tiers, "tiers_mode": original.tiers_mode}
    else:
        asked |= _amounts(original)
    if original.transform_quantity:
        asked["transform_quantity"] = original.transform_quantity.model_dump()
    return made(await stripe.create("/v1/prices", "prices", asked, USAGE_RECORD_VERSION), "the price")


def _amounts(of: CatalogPrice | TierData) -> dict[str, str]:
    """Return what is charged, as Stripe takes it: without an exponent."""
    known = of.model_dump(exclude_none=True, include={"unit_amount_decimal", "flat_amount_decimal"})
    return {name: f"{amount:f}" for name, amount in known.items()}


async def create_customer(stripe: StripeWriter, original: Customer) -> str:
    """Make a customer with another one's metadata, and nothing personal, and return its id.

    Who is billed by invoices needs an address, and this one is nobody's (RFC 2606): Stripe refuses an invoice that is
    sent to a customer without one ("Missing email", as users have reported).
    Raise what StripeWriter raises.
    """
    metadata = {**original.metadata, COPY_OF: original.id}
    asked = {"metadata": metadata, "email": f"{original.id.lower()}@example.com"}
    return made(await stripe.create("/v1/customers", "customers", asked), "the customer")


async def create_subscription(
    stripe: StripeWriter,
    items: Sequence[SubscriptionItem],
    prices: Mapping[str, str],
    customer: str,
    first: FirstPeriod,
) -> str:
    """Make a subscription with the metered items of another one, in the same period, and return its id.

    `prices` has the copies of prices. Raise what StripeWriter raises.
    """
    original = items[0].subscription
    # Legacy prices are there in the older version alone, and in it no other billing mode than the classic one.
    is_legacy = any(item.price.stripe_meter is None for item in items)
    mode = {} if is_legacy else {"billing_mode": {"type": "flexible" if original.is_flexible else "classic"}}
    start = {} if first.start is None else {"backdate_start_date": int(first.start.timestamp())}
    end = {"trial_end" if first.is_trial else "billing_cycle_anchor": int(first.end.timestamp())}
    asked = {
        "customer": customer,
        "items": [_item(item, prices) for item in items],
        "metadata": {**original.metadata, COPY_OF: original.id},
        "proration_behavior": "none",
        **mode,
        **start,
        **end,
        **_PAID_BY_INVOICE,
    }
    version = USAGE_RECORD_VERSION if is_legacy else CURRENT_VERSION
    answer = await stripe.create("/v1/subscriptions", "subscriptions", asked, version)
    return made(answer, "the subscription")


async def add_item(stripe: StripeWriter, item: SubscriptionItem, prices: Mapping[str, str], subscription: str) -> str:
    """Add the copy of an item to that of its subscription, and return its id. Raise what StripeWriter raises."""
    asked = {**_item(item, prices), "subscription": subscription, "proration_behavior": "none"}
    answer = await stripe.create("/v1/subscription_items", "subscription_items", asked, USAGE_RECORD_VERSION)
    return made(answer, "the subscription item")


async def remove_item(stripe: StripeWriter, item: str) -> None:
    """Remove the copy of an item that is gone, with its usage of this period. Raise what StripeWriter raises.

    An item on a legacy price cannot be removed otherwise (API reference, `clear_usage`).
    """
    asked = {"proration_behavior": "none", "clear_usage": True}
    await stripe.delete(f"/v1/subscription_items/{quote(item, safe='')}", "subscription_items", asked)


async def change_metadata(stripe: StripeWriter, kind: str, id: str, changes: Mapping[str, str]) -> None:
    """Change the metadata of a copy of a kind, such as `prices`. Raise what StripeWriter raises."""
    await stripe.post(f"/v1/{kind}/{quote(id, safe='')}", kind, {"metadata": dict(changes)})


async def cancel_subscription(stripe: StripeWriter, subscription: str) -> None:
    """Cancel the copy of a subscription that is gone, and bill its usage. Raise what StripeWriter raises."""
    await stripe.delete(f"/v1/subscriptions/{quote(subscription, safe='')}", "subscriptions", {"invoice_now": True})


def _item(item: SubscriptionItem, prices: Mapping[str, str]) -> dict[str, Any]:
    return {"price": prices[item.price.id], "metadata": {**item.metadata, COPY_OF: item.id}}
