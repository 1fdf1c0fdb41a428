"""What the embedded Stripe holds: plain data, and lookups that refuse unknown ids."""

from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from meter_sync.sandbox.billing_periods import Interval, Period
from meter_sync.sandbox.stripe_errors import no_such
from meter_sync.sandbox.stripe_store import Store

UsageType = Literal["metered", "licensed"]
Aggregation = Literal["sum", "last_during_period", "last_ever", "max"]
Rounding = Literal["up", "down"]
Formula = Literal["sum", "count", "last"]
WindowSize = Literal["hour", "day"]
InvoiceStatus = Literal["draft", "open", "paid"]


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


@dataclass(slots=True)
class Price:
    """A recurring price per unit."""

    id: str
    created: int
    product: str
    currency: str
    unit_amount_decimal: Decimal
    """In cents."""
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
    is_cancelled: bool = False
    rejected: str | None = None
    """The code of the error, if it does not count."""


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """A thin event about meter events that were rejected."""

    id: str
    created: int
    type: str
    meter: str | None
    rejected: tuple[MeterEvent, ...]


@dataclass(slots=True)
class InvoiceLine:
    """What one metered item used in one period, and what it costs."""

    item: str
    price: str
    quantity: int
    amount_cents: Decimal
    """Whole cents."""
    period: Period


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
    status: InvoiceStatus = "draft"
    finalized_at: int | None = None

    @property
    def total_cents(self) -> Decimal:
        """The sum of the lines."""
        return sum((line.amount_cents for line in self.lines), Decimal(0))


@dataclass(frozen=True, slots=True)
class ClosedPeriod:
    """A period that has ended."""

    period: Period
    invoice: str
    price: str
    """The price at its end: that is what it is billed by."""
    free: bool
    """Usage during a trial is not billed."""


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
    canceled_at: int | None = None
    latest_invoice: str | None = None
    test_clock: str | None = None

    @property
    def ended(self) -> bool:
        """Whether billing has stopped for good."""
        return self.status in ENDED_STATUSES


ENDED_STATUSES = frozenset({"canceled", "incomplete_expired"})
STATUSES = ENDED_STATUSES | {"active", "incomplete", "past_due", "paused", "trialing", "unpaid"}


class StripeState:
    """Everything that the embedded Stripe holds, without a lock and without a clock."""

    def __init__(self) -> None:
        self.customers: Store[Customer] = Store()
        self.products: Store[Product] = Store()
        self.prices: Store[Price] = Store()
        self.subscriptions: Store[Subscription] = Store()
        self.items: Store[Item] = Store()
        self.invoices: Store[Invoice] = Store()
        self.due: list[tuple[int, str]] = []
        """A heap of (period end, subscription); entries may be out of date."""
        self.meters: Store[Meter] = Store()
        self.meter_events: defaultdict[tuple[str, str], list[MeterEvent]] = defaultdict(list)
        """What counts of each meter and customer, in the order received."""
        self.identifiers: dict[str, MeterEvent] = {}
        """The newest event with each identifier."""
        self.rejected: list[tuple[str | None, MeterEvent]] = []
        """Meter events that no error report has named yet, with their meter if there is one."""
        self.reports: list[ErrorReport] = []
        """Oldest first."""
        self.drafts: deque[str] = deque()
        """Invoices that are not finalized yet, oldest first."""
        self._counters: Counter[str] = Counter()

    def new_id(self, prefix: str) -> str:
        """Return the next id of a kind: deterministic, in Stripe's shape."""
        return f"{prefix}_1Sandbox{self.new_number(prefix):08d}"

    def new_number(self, kind: str) -> int:
        """Return the next number of a kind, from 1."""
        self._counters[kind] += 1
        return self._counters[kind]

    def customer(self, identifier: str, *, param: str = "id", status: int = 404) -> Customer:
        """Return a customer, deleted or not."""
        found = self.customers.get(identifier)
        if found is None:
            raise no_such("customer", identifier, param=param, status=status)
        return found

    def product(self, identifier: str, *, param: str = "id", status: int = 404) -> Product:
        """Return a product."""
        found = self.products.get(identifier)
        if found is None:
            raise no_such("product", identifier, param=param, status=status)
        return found

    def price(self, identifier: str, *, param: str = "price", status: int = 404) -> Price:
        """Return a price, active or not."""
        found = self.prices.get(identifier)
        if found is None:
            raise no_such("price", identifier, param=param, status=status)
        return found

    def meter(self, identifier: str, *, param: str = "id", status: int = 404) -> Meter:
        """Return a billing meter, active or not."""
        found = self.meters.get(identifier)
        if found is None:
            raise no_such("billing meter", identifier, param=param, status=status)
        return found

    def subscription(self, identifier: str, *, param: str = "id", status: int = 404) -> Subscription:
        """Return a subscription of any status."""
        found = self.subscriptions.get(identifier)
        if found is None:
            raise no_such("subscription", identifier, param=param, status=status)
        return found

    def item(self, identifier: str, *, param: str = "id", status: int = 404) -> Item:
        """Return a subscription item that is not deleted."""
        found = self.items.get(identifier)
        if found is None or found.deleted:
            raise no_such("subscription_item", identifier, param=param, status=status)
        return found

    def price_of(self, item: Item) -> Price:
        """Return the price of an item."""
        return self.prices[item.price]
