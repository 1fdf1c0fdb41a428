"""How the ledger keeps an item as it was listed: shapes of its own, whatever the core calls its fields.

The stored bytes are compared to see whether an item has changed, so fields are stored in the order in which they stand
here. What is stored has every field, and no other: a field that is read as its default in silence makes a price of the
maximum one of the sum. Where the core renames a field, its old name stays here, and is given beside `filled`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import AwareDatetime, ConfigDict, TypeAdapter, ValidationError

from meter_sync.core.billing.item import BillingMeter, Customer, Period, Price, Subscription, SubscriptionItem, Window
from meter_sync.errors import LedgerError
from meter_sync.ledger.filled import filled

_STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, slots=True)
class _Customer:
    __pydantic_config__ = _STRICT

    id: str
    deleted: bool
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Subscription:
    __pydantic_config__ = _STRICT

    id: str
    customer: _Customer
    status: str
    created: AwareDatetime
    metadata: Mapping[str, str]
    has_billing_thresholds: bool
    trial_end: AwareDatetime | None


@dataclass(frozen=True, slots=True)
class _BillingMeter:
    __pydantic_config__ = _STRICT

    id: str
    event_name: str
    formula: str
    window: Literal["hour", "day"] | None
    unknown_window: str | None
    customer_key: str
    customer_mapping: str
    value_key: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class _Price:
    __pydantic_config__ = _STRICT

    id: str
    product: str
    lookup_key: str | None
    aggregate_usage: str
    stripe_meter: str | None
    billing_meter: _BillingMeter | None
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Period:
    __pydantic_config__ = _STRICT

    start: AwareDatetime
    end: AwareDatetime


@dataclass(frozen=True, slots=True)
class _Item:
    __pydantic_config__ = _STRICT

    id: str
    subscription: _Subscription
    price: _Price
    period: _Period
    created: AwareDatetime
    metadata: Mapping[str, str]
    is_followed: bool


_SNAPSHOT = TypeAdapter(_Item)


def stored(item: SubscriptionItem) -> str:
    """Return what is stored of an item."""
    customer = filled(_Customer, item.subscription.customer)
    meter = item.price.billing_meter
    window = meter.window.value if meter and meter.window else None
    one = filled(
        _Item,
        item,
        subscription=filled(_Subscription, item.subscription, customer=customer),
        price=filled(_Price, item.price, billing_meter=filled(_BillingMeter, meter, window=window) if meter else None),
        period=filled(_Period, item.period),
    )
    return _SNAPSHOT.dump_json(one).decode()


def item_from(snapshot: str) -> SubscriptionItem:
    """Return the item of which this was stored. Raise LedgerError for what no version of this program has stored."""
    try:
        one = _SNAPSHOT.validate_json(snapshot)
    except ValidationError as error:
        raise _unreadable(error) from None
    customer = filled(Customer, one.subscription.customer)
    meter = one.price.billing_meter
    window = Window(meter.window) if meter and meter.window else None
    return filled(
        SubscriptionItem,
        one,
        subscription=filled(Subscription, one.subscription, customer=customer),
        price=filled(Price, one.price, billing_meter=filled(BillingMeter, meter, window=window) if meter else None),
        period=filled(Period, one.period),
    )


def _unreadable(error: ValidationError) -> LedgerError:
    wrong = [
        f"{'.'.join(str(name) for name in one['loc']) or 'all of it'}: {one['msg']}"
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return LedgerError(
        "an item in the ledger is not as this version of meter-sync stores it",
        "install the version again that wrote the ledger, or put a copy of the ledger back",
        details=wrong,
    )
