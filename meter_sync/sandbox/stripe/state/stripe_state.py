"""Everything that the embedded Stripe holds, without a lock and without a clock."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from meter_sync.sandbox.stripe.protocol.errors import no_such
from meter_sync.sandbox.stripe.protocol.versions import ACCOUNT_DEFAULT
from meter_sync.sandbox.stripe.state.accounts import Account
from meter_sync.sandbox.stripe.state.objects import (
    Customer,
    Due,
    ErrorReport,
    EventDestination,
    Happening,
    Invoice,
    InvoiceItem,
    Item,
    Meter,
    MeterEvent,
    Price,
    Product,
    StripeEvent,
    Subscription,
    TestClock,
)
from meter_sync.sandbox.stripe.state.schedules import Schedule
from meter_sync.sandbox.stripe.state.store import Store


class StripeState:
    """Everything that the embedded Stripe holds of one account."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.now = 0
        """The present, in Unix seconds: that of the clock when this was settled last, or within a test clock's time."""
        self.real_now = 0
        """The present whatever a test clock says."""
        self.test_clocks: Store[TestClock] = Store("test clock")
        self.customers: Store[Customer] = Store("customer")
        self.products: Store[Product] = Store("product")
        self.prices: Store[Price] = Store("price")
        self.subscriptions: Store[Subscription] = Store("subscription")
        self.items: Store[Item] = Store("subscription_item")
        self.schedules: Store[Schedule] = Store("subscription_schedule")
        self.phases_change_prices = False
        """Whether a phase puts an item on its new price, rather than replacing the item."""
        self.invoices: Store[Invoice] = Store("invoice")
        self.invoice_items: Store[InvoiceItem] = Store("invoiceitem")
        self.events: Store[StripeEvent] = Store("event")
        self.destinations: Store[EventDestination] = Store("event destination")
        self.news: list[StripeEvent | ErrorReport] = []
        """All events of both APIs, in the order in which they were recorded."""
        self.due: list[Due] = []
        """A heap, the next one first."""
        self.settled_until = 0
        """The instant until which everything that was due has happened."""
        self.noticed: dict[str, int] = {}
        """The period end for which a subscription's upcoming invoice was told of last."""
        self.changing: set[str] = set()
        """Subscriptions in the middle of a change, which is told of once it is complete."""
        self.meters: Store[Meter] = Store("billing meter")
        self.meter_events: defaultdict[tuple[str, str], list[MeterEvent]] = defaultdict(list)
        """What counts of each meter and customer, in the order received."""
        self.identifiers: dict[str, MeterEvent] = {}
        """The newest event with each identifier."""
        self.rejected: list[tuple[str | None, MeterEvent]] = []
        """Meter events that no error report has named yet, with their meter if there is one."""
        self.reports: list[ErrorReport] = []
        """Oldest first."""
        self.drafts: defaultdict[str, list[str]] = defaultdict(list)
        """The invoices of each customer that are not finalized yet, oldest first."""
        self.api_version = ACCOUNT_DEFAULT
        self.seconds_until_draft = 0
        self.seconds_from_draft_to_final = 3600
        self.seconds_before_upcoming: int | None = 7 * 86_400
        self._counters: Counter[str] = Counter()

    def new_id(self, prefix: str) -> str:
        """Return the next id of a kind: deterministic, in Stripe's shape, and in no other account."""
        return f"{prefix}_{self.account.mark}{self.new_number(prefix):08d}"

    def new_number(self, kind: str) -> int:
        """Return the next number of a kind, from 1."""
        self._counters[kind] += 1
        return self._counters[kind]

    def schedule(self, at: int, what: Happening, identifier: str) -> None:
        """Note that something falls due: by the test clock of whom it is about, if there is one."""
        clock = self.clock_of(identifier)
        due = self.due if clock is None else self.test_clocks[clock].due
        heapq.heappush(due, Due(at, self.new_number("due"), what, identifier))

    def clock_of(self, identifier: object) -> str | None:
        """Return the test clock of a customer or of what is theirs, by its id; None for others."""
        name = str(identifier)
        customer = self.customers.get(name)
        owned = self.items.get(name) or self.invoices.get(name) or self.schedules.get(name)
        owner = owned.subscription if owned else name
        subscription = self.subscriptions.get(owner)
        return customer.test_clock if customer else subscription.test_clock if subscription else None

    def now_of(self, test_clock: str | None) -> int:
        """Return the present of a test clock, in Unix seconds; for None, that of everybody else."""
        return self.now if test_clock is None else self.test_clocks[test_clock].frozen_time

    @contextmanager
    def in_time_of(self, test_clock: str | None) -> Iterator[None]:
        """Let now be the present of a test clock within; for None it stays as it is."""
        if test_clock is None:
            yield
            return
        clock, before = self.test_clocks[test_clock], (self.now, self.settled_until)
        self.now, self.settled_until = clock.frozen_time, clock.settled_until
        try:
            yield
        finally:
            clock.settled_until = self.settled_until
            self.now, self.settled_until = before

    @contextmanager
    def at(self, instant: int) -> Iterator[None]:
        """Let now be the instant at which something fell due within."""
        before, self.now = self.now, instant
        try:
            yield
        finally:
            self.now = before

    def items_of(self, subscription: Subscription) -> list[Item]:
        """Return the items of a subscription that are not deleted, oldest first."""
        return [self.items[identifier] for identifier in subscription.items]

    def item(self, identifier: str, *, param: str = "id", status: int = 404) -> Item:
        """Return a subscription item that is not deleted."""
        found = self.items.find(identifier, param=param, status=status)
        if found.deleted:
            raise no_such(self.items.kind, identifier, param=param, status=status)
        return found

    def price_of(self, item: Item) -> Price:
        """Return the price of an item."""
        return self.prices[item.price]
