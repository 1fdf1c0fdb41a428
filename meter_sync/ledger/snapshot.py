"""How the ledger keeps an item as it was listed: a shape of its own, whatever the core calls its fields.

The stored bytes are compared to see whether an item has changed. What is stored has every field, and no other: a field
that is read as its default in silence makes a price of the maximum one of the sum.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Row

from meter_sync.core.billing.item import (
    BillingMeter,
    Customer,
    Period,
    Price,
    Subscription,
    SubscriptionItem,
    WindowSize,
)
from meter_sync.errors import LedgerError


class _Shape(BaseModel):
    """Fields are stored in the order in which they stand here."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, from_attributes=True)


_UNKNOWN_WORD = Field(default=None, exclude_if=lambda word: word is None)
"""Is not stored where there is none, as hardly ever: so it was not by the versions that refused such a word."""


_UNUSUAL = Field(default=False, exclude_if=lambda is_so: not is_so)
"""Is not stored where it is not so: as it was by the versions that knew nothing of it."""

_NO_INSTANT = Field(default=None, exclude_if=lambda instant: instant is None)
"""So it is with these."""


class _Customer(_Shape):
    id: str
    deleted: bool
    metadata: Mapping[str, str]


class _Subscription(_Shape):
    id: str
    customer: _Customer
    status: str
    created: AwareDatetime
    metadata: Mapping[str, str]
    has_billing_thresholds: bool
    trial_end: AwareDatetime | None
    voids_invoices: bool = _UNUSUAL
    is_flexible: bool = _UNUSUAL
    unknown_billing_mode: str | None = _UNKNOWN_WORD


class _BillingMeter(_Shape):
    id: str
    event_name: str
    formula: str
    window: Literal["hour", "day"] | None
    unknown_window: str | None
    customer_key: str
    customer_mapping: str
    value_key: str
    is_active: bool
    unknown_status: str | None = _UNKNOWN_WORD


class _Price(_Shape):
    id: str
    product: str
    lookup_key: str | None
    aggregate_usage: str
    stripe_meter: str | None
    billing_meter: _BillingMeter | None
    metadata: Mapping[str, str]
    is_per_unit: bool = _UNUSUAL


class _Period(_Shape):
    start: AwareDatetime
    end: AwareDatetime


class _Item(_Shape):
    id: str
    subscription: _Subscription
    price: _Price
    period: _Period
    created: AwareDatetime
    metadata: Mapping[str, str]
    is_followed: bool
    is_cut: bool = _UNUSUAL
    cycle_start: AwareDatetime | None = _NO_INSTANT
    changes_at: AwareDatetime | None = _NO_INSTANT
    may_change_until: AwareDatetime | None = _NO_INSTANT
    not_understood: str | None = _UNKNOWN_WORD


def stored(item: SubscriptionItem) -> str:
    """Return what is stored of an item. Raise ValidationError where the core calls a field otherwise than here."""
    return _Item.model_validate(item).model_dump_json()


def item_from(snapshot: str) -> SubscriptionItem:
    """Return the item of which this was stored. Raise LedgerError for what no version of this program has stored."""
    try:
        one = _Item.model_validate_json(snapshot)
    except ValidationError as error:
        raise LedgerError(
            "an item in the ledger is not as this version of meter-sync stores it",
            "install the version again that wrote the ledger, or put a copy of the ledger back",
            details=[
                f"{'.'.join(str(name) for name in wrong['loc']) or 'all of it'}: {wrong['msg']}"
                for wrong in error.errors(include_url=False, include_input=False, include_context=False)
            ],
        ) from None
    subscription, customer, price = one.subscription, one.subscription.customer, one.price
    return SubscriptionItem(
        id=one.id,
        subscription=Subscription(
            id=subscription.id,
            customer=Customer(customer.id, deleted=customer.deleted, metadata=customer.metadata),
            status=subscription.status,
            created=subscription.created,
            metadata=subscription.metadata,
            has_billing_thresholds=subscription.has_billing_thresholds,
            trial_end=subscription.trial_end,
            voids_invoices=subscription.voids_invoices,
            is_flexible=subscription.is_flexible,
            unknown_billing_mode=subscription.unknown_billing_mode,
        ),
        price=Price(
            id=price.id,
            product=price.product,
            lookup_key=price.lookup_key,
            aggregate_usage=price.aggregate_usage,
            stripe_meter=price.stripe_meter,
            billing_meter=_meter(price.billing_meter) if price.billing_meter else None,
            metadata=price.metadata,
            is_per_unit=price.is_per_unit,
        ),
        period=Period(one.period.start, one.period.end),
        created=one.created,
        metadata=one.metadata,
        is_followed=one.is_followed,
        is_cut=one.is_cut,
        cycle_start=one.cycle_start,
        changes_at=one.changes_at,
        may_change_until=one.may_change_until,
        not_understood=one.not_understood,
    )


def item_of(row: Row[Any]) -> SubscriptionItem:
    """Return the item of a row; where what was stored of it cannot be read, only which one it is, and why."""
    try:
        return item_from(row.snapshot)
    except LedgerError as error:
        return unread(row, f"what the ledger has of {row.item} cannot be read: {error.message}; {error.hint}")


def nothing_but(item: str, why: str) -> SubscriptionItem:
    """Return an item of which nothing is known but its id: its period is one that never was."""
    never = datetime.fromtimestamp(0, UTC)
    subscription = Subscription("", Customer(""), "", never)
    return SubscriptionItem(item, subscription, Price("", ""), Period(never, never), never, not_understood=why)


def unread(row: Row[Any], why: str) -> SubscriptionItem:
    """Return what a row says by its columns of an item that could not be read."""
    subscription = Subscription(row.subscription, Customer(row.customer), "", row.period_start)
    price = Price("", "", stripe_meter=row.stripe_meter)
    period = Period(row.period_start, row.period_end)
    return SubscriptionItem(row.item, subscription, price, period, row.period_start, not_understood=why)


def _meter(one: _BillingMeter) -> BillingMeter:
    return BillingMeter(
        id=one.id,
        event_name=one.event_name,
        formula=one.formula,
        window=WindowSize(one.window) if one.window else None,
        unknown_window=one.unknown_window,
        customer_key=one.customer_key,
        customer_mapping=one.customer_mapping,
        value_key=one.value_key,
        is_active=one.is_active,
        unknown_status=one.unknown_status,
    )
