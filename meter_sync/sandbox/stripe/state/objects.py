"""What the embedded Stripe holds: plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple

Metadata = Mapping[str, str]
Interval = Literal["day", "week", "month", "year"]
UsageType = Literal["metered", "licensed"]
Aggregation = Literal["sum", "last_during_period", "last_ever", "max"]
Rounding = Literal["up", "down"]
Formula = Literal["sum", "count", "last"]
WindowSize = Literal["hour", "day"]
TiersMode = Literal["graduated", "volume"]
"""Whether each unit costs what its own tier says, or all of them what the tier of the last one says."""
Payload = Literal["snapshot", "thin"]
"""Whether an event brings its object, or only its name."""
InvoiceStatus = Literal["draft", "open", "paid", "uncollectible", "void"]
BillingMode = Literal["classic", "flexible"]
CollectionPause = Literal["keep_as_draft", "mark_uncollectible", "void"]
BillingReason = Literal["subscription_cycle", "subscription_update", "upcoming"]
"""Why an invoice was drafted: of Stripe's reasons (invoice object, billing_reason) those that bill usage."""


@dataclass(frozen=True, slots=True)
class Period:
    """A billing period: from `start` until just before `end`, in Unix seconds."""

    start: int
    end: int

    def strictly_contains(self, timestamp: int) -> bool:
        """Whether a usage record may lie here: not at the start, not at the end."""
        return self.start < timestamp < self.end


@dataclass(slots=True)
class Customer:
    """A customer; deleted ones remain as a stub."""

    id: str
    created: int
    metadata: dict[str, str]
    name: str | None = None
    email: str | None = None
    description: str | None = None
    test_clock: str | None = None
    deleted: bool = False


@dataclass(slots=True)
class TestClock:
    """A time of its own, for the customers that were made with it and all that is theirs; it only moves forward."""

    id: str
    created: int
    frozen_time: int
    name: str | None = None
    status: Literal["advancing", "internal_failure", "ready"] = "ready"
    due: "list[Due]" = field(default_factory=list)
    """What falls due by it: a heap, the next one first."""
    settled_until: int = 0
    """The instant until which everything that was due by it has happened."""


@dataclass(slots=True)
class Product:
    """A product, which prices belong to."""

    id: str
    created: int
    name: str
    metadata: dict[str, str]
    active: bool = True


@dataclass(frozen=True, slots=True)
class TransformQuantity:
    """Usage is divided, and the quotient rounded, before it is multiplied by the unit amount."""

    divide_by: int
    round: Rounding


@dataclass(frozen=True, slots=True)
class Tier:
    """What each unit of a stretch of the quantity costs."""

    up_to: int | None
    """The last unit of the stretch; None for the last stretch, which has no end."""
    unit_amount_decimal: Decimal
    """In cents."""
    flat_amount_decimal: Decimal
    """What the stretch costs beside that, in cents."""


@dataclass(slots=True)
class Price:
    """A recurring price per unit, the same for each or by tiers."""

    id: str
    created: int
    product: str
    currency: str
    unit_amount_decimal: Decimal
    """In cents; 0 where there are tiers."""
    usage_type: UsageType
    aggregate_usage: Aggregation | None
    """None for licensed prices and for those on a billing meter."""
    meter: str | None
    interval: Interval
    interval_count: int
    active: bool
    metadata: dict[str, str]
    lookup_key: str | None
    transform_quantity: TransformQuantity | None
    nickname: str | None = None
    tiers: tuple[Tier, ...] = ()
    tiers_mode: TiersMode | None = None

    @property
    def takes_usage_records(self) -> bool:
        """Whether this is a price of the legacy metered billing system."""
        return self.usage_type == "metered" and self.meter is None


@dataclass(slots=True)
class Meter:
    """A billing meter."""

    id: str
    created: int
    display_name: str
    event_name: str
    formula: Formula
    window: WindowSize | None
    customer_key: str
    value_key: str
    updated: int
    deactivated_at: int | None = None


@dataclass(slots=True)
class MeterEvent:
    """A meter event that was taken; what came of it is decided later."""

    identifier: str
    event_name: str
    payload: dict[str, str]
    timestamp: int
    received: int
    value: Decimal = Decimal(0)
    """What it adds on a meter that sums, and 1 on one that counts events."""
    cancelled_at: int | None = None
    rejected: str | None = None
    """The code of the error, if it does not count."""

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled, and so counts nowhere any more."""
        return self.cancelled_at is not None


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """A thin event about meter events that were rejected."""

    id: str
    created: int
    type: str
    meter: str | None
    rejected: tuple[MeterEvent, ...]


@dataclass(slots=True)
class EventDestination:
    """Where events of some types are delivered to: here a webhook endpoint always."""

    id: str
    created: int
    updated: int
    name: str
    description: str
    url: str
    payload: Payload
    events: tuple[str, ...]
    events_from: tuple[str, ...]
    snapshot_api_version: str | None
    """The version in which objects are shown; None for thin events, which have none."""
    metadata: dict[str, str]
    is_disabled: bool = False


@dataclass(slots=True)
class InvoiceLine:
    """What one metered item used in one period, and what it costs."""

    item: str
    price: str
    quantity: int
    amount_cents: Decimal
    """Whole cents."""
    period: Period
    invoice_item: str | None = None
    """The invoice item that it comes from, where it is for what was used before a change in mid-period."""


@dataclass(slots=True)
class InvoiceItem:
    """What is to be billed with the next invoice of a subscription: usage from before a change in mid-period."""

    id: str
    created: int
    customer: str
    subscription: str
    currency: str
    line: InvoiceLine
    invoice: str | None = None
    """The invoice that has it; None while it is pending."""


@dataclass(slots=True)
class Invoice:
    """The invoice of a subscription's ended period."""

    id: str
    created: int
    subscription: str
    customer: str
    currency: str
    period: Period
    lines: list[InvoiceLine]
    billing_reason: BillingReason
    finalizes_at: int | None = None
    """When the draft is finalized by itself; None for one that is not."""
    status: InvoiceStatus = "draft"
    finalized_at: int | None = None
    collection: CollectionPause | None = None
    """How it was to be treated when it was drafted; None where payment was to be collected."""

    @property
    def total_cents(self) -> Decimal:
        """The sum of the lines."""
        return sum((line.amount_cents for line in self.lines), Decimal(0))


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """A period that has ended."""

    period: Period
    invoice: str | None
    """None for a period that is billed nowhere: canceled without an invoice, or paused."""
    price: str
    """The price at its end: that is what it is billed by."""
    free: bool
    """Usage during a trial is not billed."""
    billed_since: int | None = None
    """As the item's."""


@dataclass(slots=True)
class Item:
    """A subscription item."""

    id: str
    created: int
    subscription: str
    price: str
    period: Period
    metadata: dict[str, str]
    quantity: int | None = None
    """For licensed prices."""
    records: dict[int, int] = field(default_factory=dict)
    """Usage: timestamp to quantity."""
    closed: list[ClosedPeriod] = field(default_factory=list)
    """Oldest first."""
    deleted: bool = False
    billed_since: int | None = None
    """From when on it bills events of its billing meter: its creation in mid-period, or its last change of price."""


@dataclass(frozen=True, slots=True)
class PauseCollection:
    """Payment is not collected for the invoices of a subscription, whose periods go on turning."""

    behavior: CollectionPause
    resumes_at: int | None


@dataclass(frozen=True, slots=True)
class PendingUpdate:
    """Prices of items that a subscription gets once an invoice is paid, or not at all."""

    expires_at: int
    prices: Mapping[str, str]
    """By the ids of the items."""


@dataclass(slots=True)
class Subscription:
    """A subscription."""

    id: str
    created: int
    customer: str
    status: str
    metadata: dict[str, str]
    anchor: int
    """The billing cycle anchor, in Unix seconds."""
    start_date: int
    items: list[str] = field(default_factory=list)
    """Ids of the items that are not deleted, oldest first."""
    billing_thresholds: dict[str, object] | None = None
    trial_start: int | None = None
    trial_end: int | None = None
    pauses_after_trial: bool = False
    cancel_at: int | None = None
    cancel_at_period_end: bool = False
    canceled_at: int | None = None
    """When it was asked to be canceled."""
    ended_at: int | None = None
    pause_collection: PauseCollection | None = None
    latest_invoice: str | None = None
    test_clock: str | None = None
    billing_mode: BillingMode = "classic"
    """What becomes of usage before a change in mid-period."""
    schedule: str | None = None
    """The id of the schedule that changes it, if there is one."""
    pending_update: PendingUpdate | None = None

    @property
    def ended(self) -> bool:
        """Whether billing has stopped for good."""
        return self.status in ENDED_STATUSES


ENDED_STATUSES = frozenset({"canceled", "incomplete_expired"})
STATUSES = ENDED_STATUSES | {"active", "incomplete", "past_due", "paused", "trialing", "unpaid"}


@dataclass(frozen=True, slots=True)
class SubscriptionSnapshot:
    """A subscription and its items as they were at one instant."""

    subscription: Subscription
    items: dict[str, Item]


@dataclass(frozen=True, slots=True)
class StripeEvent:
    """Something that happened, as Stripe tells of it: with the object as it was right after it."""

    id: str
    created: int
    type: str
    api_version: str
    """The account's version at that time, in which the event is shown for ever."""
    subject: SubscriptionSnapshot | Invoice
    before: SubscriptionSnapshot | None = None
    """What an updated subscription was before."""


Happening = Literal["period", "draft", "final", "upcoming", "collection", "phase", "expiry"]
"""What falls due: a period's end or a cancellation, a finalization, the notice of an invoice, collection again, the
end of a schedule's phase, the end of a pending update."""


class Due(NamedTuple):
    """What happens by itself at an instant; may be out of date by then."""

    at: int
    number: int
    """In the order in which things were scheduled, which decides among those of one second."""
    what: Happening
    id: str
    """Of the subscription or of the invoice."""
