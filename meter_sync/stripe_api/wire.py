"""The shapes of Stripe's answers, checked before anything is believed, and what they mean."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from meter_sync.core.model import Customer, Period, Price, Subscription, SubscriptionItem
from meter_sync.errors import MeterSyncError

_LATEST_SECOND = 253_402_300_799  # the end of the year 9999, beyond which there is no datetime

Identifier = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]
PathIdentifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,255}$")]
UnixSeconds = Annotated[int, Field(strict=True, ge=0, le=_LATEST_SECOND)]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Recurring(_Shape):
    """How often and how a price recurs."""

    usage_type: str
    aggregate_usage: str | None = None
    meter: str | None = None


class ItemPrice(_Shape):
    """As much of a price as an item needs to know."""

    id: Identifier
    recurring: Recurring | None = None

    @property
    def is_metered(self) -> bool:
        """Whether usage is billed through it."""
        return self.recurring is not None and self.recurring.usage_type == "metered"


class PriceData(ItemPrice):
    """A price, in either API version."""

    product: Identifier
    active: bool
    lookup_key: str | None = None
    metadata: dict[str, str]


class CustomerData(_Shape):
    """An expanded customer; a deleted one has little more than its id."""

    id: Identifier
    deleted: bool = False
    metadata: dict[str, str] = Field(default_factory=dict)


class ItemData(_Shape):
    """A subscription item, with its own billing period (API version basil and later)."""

    id: PathIdentifier
    created: UnixSeconds
    current_period_start: UnixSeconds
    current_period_end: UnixSeconds
    metadata: dict[str, str]
    price: ItemPrice


T = TypeVar("T")


class Page(_Shape, Generic[T]):
    """A page of a list."""

    data: list[T]
    has_more: bool


class SubscriptionData(_Shape):
    """A subscription with the first page of its items."""

    id: PathIdentifier
    customer: Identifier | CustomerData
    status: str
    created: UnixSeconds
    metadata: dict[str, str]
    billing_thresholds: dict[str, Any] | None = None
    items: Page[ItemData]


class SummaryPeriod(_Shape):
    """The period of a summary; Stripe leaves the bounds of an open one out at times."""

    start: UnixSeconds | None = None


class UsageRecordSummary(_Shape):
    """What Stripe holds for one period of an item."""

    period: SummaryPeriod = SummaryPeriod()
    total_usage: Annotated[int, Field(strict=True)]


Shape = TypeVar("Shape", bound=BaseModel)


def read(shape: type[Shape], data: Mapping[str, Any], what: str) -> Shape:
    """Given an answer, return it in its shape. Raise MeterSyncError if it does not have it.

    `what` names the thing for a person. The message has the place of the fault but never the answer's content.
    """
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise MeterSyncError(
            f"Stripe's answer for {what} was not understood: {where}: {fault['msg']}; nothing was written",
            "run again; if it stays so, report it with this message",
            code="stripe_answer",
        ) from None


def instant(unix_seconds: int) -> datetime:
    """Given Unix seconds, return the instant, in UTC."""
    return datetime.fromtimestamp(unix_seconds, UTC)


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
    )


def to_subscription(data: SubscriptionData) -> Subscription:
    """Return a subscription as the core knows it."""
    customer = data.customer
    return Subscription(
        id=data.id,
        customer=Customer(id=customer)
        if isinstance(customer, str)
        else Customer(customer.id, customer.deleted, customer.metadata),
        status=data.status,
        created=instant(data.created),
        metadata=data.metadata,
        has_billing_thresholds=bool(data.billing_thresholds),
    )


def to_item(data: ItemData, subscription: Subscription, price: Price) -> SubscriptionItem:
    """Return a subscription item as the core knows it."""
    return SubscriptionItem(
        id=data.id,
        subscription=subscription,
        price=price,
        period=Period(instant(data.current_period_start), instant(data.current_period_end)),
        created=instant(data.created),
        metadata=data.metadata,
    )
