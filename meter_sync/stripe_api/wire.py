"""The shapes of Stripe's answers, checked before anything is believed, and what they mean."""

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from meter_sync.core.billing.item import BillingMeter, Customer, Period, Price, Subscription, SubscriptionItem, Window
from meter_sync.errors import MeterSyncError

_LATEST_SECOND = 253_402_300_799  # the end of the year 9999, beyond which there is no datetime
_LARGEST_QUANTITY = 2**63 - 1  # what the ledger can hold, and more than any bill has

Text = Annotated[str, StringConstraints(max_length=5_000)]
"""Being checked at all refuses what is no Unicode, such as half a surrogate pair, which could not be printed."""
Identifier = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,255}$")]
PathIdentifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,255}$")]
"""The prefixes of identifiers say nothing: Stripe may change them at any time (API reference, Versioning)."""
UnixSeconds = Annotated[int, Field(ge=0, le=_LATEST_SECOND)]
Quantity = Annotated[int, Field(ge=-_LARGEST_QUANTITY, le=_LARGEST_QUANTITY)]
Instant = Annotated[AwareDatetime, Field(strict=False)]
"""Written as text, which is no datetime in strict checking."""
Metadata = dict[Text, Text]


class _Shape(BaseModel):
    """What is of another type than it should be is refused, also where it could be converted."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Recurring(_Shape):
    """How often and how a price recurs."""

    usage_type: Literal["licensed", "metered"]
    aggregate_usage: Text | None = None
    meter: PathIdentifier | None = None


class ItemPrice(_Shape):
    """As much of a price as an item needs to know."""

    id: Identifier
    recurring: Recurring | None = None

    @property
    def is_metered(self) -> bool:
        """Whether usage is billed through it."""
        return self.recurring is not None and self.recurring.usage_type == "metered"


class RecurringPrice(ItemPrice):
    """The price of an item: only what recurs is subscribed to."""

    recurring: Recurring


class PriceData(ItemPrice):
    """A price, in either API version."""

    product: Identifier
    active: bool
    lookup_key: Text | None = None
    metadata: Metadata


class CustomerData(_Shape):
    """An expanded customer; a deleted one has little more than its id."""

    id: Identifier
    deleted: bool = False
    metadata: Metadata = Field(default_factory=dict)


class ItemData(_Shape):
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


T = TypeVar("T")


class Page(_Shape, Generic[T]):
    """A page of a list."""

    data: list[T]
    has_more: bool


class SubscriptionData(_Shape):
    """A subscription with the first page of its items."""

    id: PathIdentifier
    customer: Identifier | CustomerData
    status: Literal[
        "incomplete", "incomplete_expired", "trialing", "active", "past_due", "canceled", "unpaid", "paused"
    ]
    created: UnixSeconds
    trial_end: UnixSeconds | None = None
    ended_at: UnixSeconds | None = None
    metadata: Metadata
    billing_thresholds: dict[str, Any] | None = None
    items: Page[ItemData]

    @model_validator(mode="after")
    def _has_its_own_items(self) -> "SubscriptionData":
        if any(item.subscription != self.id for item in self.items.data):
            raise ValueError("it has an item of another subscription")
        return self


class SummaryPeriod(_Shape):
    """The period of a summary; Stripe leaves the bounds of an open one out at times."""

    start: UnixSeconds | None = None
    end: UnixSeconds | None = None


class UsageRecordSummary(_Shape):
    """What Stripe holds for one period of an item."""

    subscription_item: PathIdentifier
    period: SummaryPeriod = SummaryPeriod()
    total_usage: Annotated[Quantity, Field(ge=0)]


class UsageRecordData(_Shape):
    """A usage record as Stripe has taken it."""

    subscription_item: PathIdentifier
    quantity: Quantity
    timestamp: UnixSeconds


class LinePeriod(_Shape):
    """The time that a line of an invoice bills."""

    start: UnixSeconds
    end: UnixSeconds


class LineItem(_Shape):
    """Which subscription item a line bills."""

    subscription_item: PathIdentifier | None = None


class LineParent(_Shape):
    """What a line comes from (API version basil and later)."""

    subscription_item_details: LineItem | None = None


class LinePrice(_Shape):
    """The price of a line."""

    price: Identifier


class LinePricing(_Shape):
    """How a line is priced (API version basil and later)."""

    price_details: LinePrice | None = None


class InvoiceLineData(_Shape):
    """A line of an invoice."""

    id: Identifier
    period: LinePeriod
    quantity: Quantity | None = None
    parent: LineParent | None = None
    pricing: LinePricing | None = None

    @property
    def price(self) -> str | None:
        """The price that it bills by."""
        details = self.pricing.price_details if self.pricing else None
        return details.price if details else None

    @property
    def item(self) -> str | None:
        """The subscription item that it bills, if it bills one."""
        details = self.parent.subscription_item_details if self.parent else None
        return details.subscription_item if details else None


class InvoiceData(_Shape):
    """An invoice with the first of its lines."""

    id: PathIdentifier
    status: Literal["draft", "open", "paid", "uncollectible", "void"]
    lines: Page[InvoiceLineData]

    @model_validator(mode="after")
    def _has_each_line_once(self) -> "InvoiceData":
        if len({line.id for line in self.lines.data}) < len(self.lines.data):
            raise ValueError("it has a line twice")
        return self


class AccountData(_Shape):
    """The account of a key."""

    object: Literal["account"]
    id: str


class Identified(_Shape):
    """Anything with an id."""

    id: Identifier


class SomethingNamed(_Shape):
    """Anything whose id stands in an address."""

    id: PathIdentifier


class ItemNames(_Shape):
    """The items of a subscription, as far as all API versions agree."""

    data: list[SomethingNamed]


class EventAttributes(_Shape):
    """What was different before, of a subscription in an event."""

    items: ItemNames | None = None


class EventObject(EventAttributes):
    """A subscription in an event."""

    id: PathIdentifier


class EventData(_Shape):
    """What an event is about, and what was different before."""

    object: EventObject
    previous_attributes: EventAttributes | None = None


class SubscriptionEvent(_Shape):
    """An event about a subscription."""

    id: Identifier
    type: Text
    created: UnixSeconds
    data: EventData

    @property
    def removed_items(self) -> list[str]:
        """The items that the subscription had before and has no more."""
        before, after = self.data.previous_attributes, self.data.object
        if before is None or before.items is None or after.items is None:
            return []
        left = {item.id for item in after.items.data}
        return [item.id for item in before.items.data if item.id not in left]


class MeterAggregation(_Shape):
    """How a billing meter makes one quantity of its events."""

    formula: Text


class MeterCustomer(_Shape):
    """How a billing meter finds the customer of an event."""

    event_payload_key: Identifier
    type: Text


class MeterValue(_Shape):
    """Where a billing meter finds the value of an event."""

    event_payload_key: Identifier


class MeterData(_Shape):
    """A billing meter."""

    id: PathIdentifier
    event_name: Identifier
    default_aggregation: MeterAggregation
    event_time_window: Text | None = None
    customer_mapping: MeterCustomer
    value_settings: MeterValue
    status: Literal["active", "inactive"]


class MeterEventData(_Shape):
    """A meter event as Stripe has taken it."""

    identifier: Identifier


class EventSummary(_Shape):
    """What the events of a customer add up to within some time."""

    id: Identifier
    meter: PathIdentifier
    start_time: UnixSeconds
    aggregated_value: Annotated[float, Field(allow_inf_nan=False)]


class SampleRequest(_Shape):
    """The request of a rejected event."""

    identifier: Identifier


class SampleError(_Shape):
    """An event that Stripe rejected."""

    error_message: Text
    request: SampleRequest


class ErrorType(_Shape):
    """Rejections for one cause, of which only samples are named."""

    code: Text
    error_count: Annotated[Quantity, Field(ge=0)]
    sample_errors: list[SampleError]


class ErrorReason(_Shape):
    """What was rejected, by cause."""

    error_types: list[ErrorType]


class ErrorData(_Shape):
    """What an error event reports."""

    reason: ErrorReason
    validation_start: Instant
    validation_end: Instant


class RelatedObject(_Shape):
    """What an event is about."""

    id: Identifier


class ErrorReport(_Shape):
    """An event of Stripe's that reports rejected meter events."""

    id: PathIdentifier
    created: Identifier
    related_object: RelatedObject | None = None
    data: ErrorData | None = None


class EventPage(_Shape):
    """A page of events, in the shape of Stripe's second API."""

    data: list[ErrorReport]
    next_page_url: Annotated[str, StringConstraints(pattern=r"^/v2/core/events[?]")] | None = None


Shape = TypeVar("Shape", bound=BaseModel)


class NotUnderstood(MeterSyncError):
    """An answer of Stripe's has not the shape that it should have, or contradicts the question or itself."""

    code = "stripe_answer"

    def __init__(self, what: str, why: str) -> None:
        self.why = f"Stripe's answer for {what} was not understood: {why}"
        super().__init__(
            f"{self.why}; nothing was written",
            "run again; if it stays so, report it with this message",
        )


def read(shape: type[Shape], data: object, what: str) -> Shape:
    """Given an answer, return it in its shape. Raise NotUnderstood if it does not have it.

    `what` names the thing for a person. The message has the place of the fault but never the answer's content.
    """
    try:
        return shape.model_validate(data)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise NotUnderstood(what, f"{where}: {fault['msg']}") from None


def instant(unix_seconds: int) -> datetime:
    """Given Unix seconds, return the instant, in UTC."""
    return datetime.fromtimestamp(unix_seconds, UTC)


def to_meter(data: MeterData) -> BillingMeter:
    """Return a billing meter as the core knows it."""
    return BillingMeter(
        id=data.id,
        event_name=data.event_name,
        formula=data.default_aggregation.formula,
        window=Window(known) if (known := data.event_time_window) in set(Window) else None,
        unknown_window=None if known in set(Window) else known,
        customer_key=data.customer_mapping.event_payload_key,
        customer_mapping=data.customer_mapping.type,
        value_key=data.value_settings.event_payload_key,
        is_active=data.status == "active",
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
        trial_end=None if data.trial_end is None else instant(data.trial_end),
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
