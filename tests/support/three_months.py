"""Three months of customers who come, use, change and go, and of whoever reports for them: drawn, and repeatable."""

import heapq
import json
import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

from meter_sync.core.billing.item import Period
from meter_sync.core.metering.mapping import LateUsage
from meter_sync.core.planning.selection import Selection
from meter_sync.sandbox.stripe.state.objects import BillingMode, ClosedPeriod, Item
from meter_sync.sandbox.stripe.webhooks import Attempt, Delivery
from meter_sync.sandbox.stripe.world import SubscriptionView
from meter_sync.webhook.events import understand
from meter_sync.webhook.reporting import FOLLOWED_FOR
from tests.support.world import METER, World, sampled_version

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
BEGIN = datetime(2025, 3, 1, tzinfo=UTC)
END = datetime(2025, 6, 5, tzinfo=UTC)
WITHIN = 3 * MINUTE
RUN_AT = timedelta(minutes=7, seconds=13)
"""When the full run comes, after each hour or after midnight."""

KINDS: dict[str, dict[str, Any]] = {
    "record": {},
    "day_records": {},
    "max": {"aggregate_usage": "max"},
    "last_during_period": {"aggregate_usage": "last_during_period"},
    "hours": {"formula": "sum", "window": "hour"},
    "days": {"formula": "sum", "window": "day"},
    "last": {"formula": "last"},
    "additions": {"formula": "sum"},
}
BILLING_MODES: tuple[BillingMode, ...] = ("classic", "flexible")
METERED = ("hours", "days", "last", "additions")
SUMS = ("record", "day_records")
"""Legacy prices whose records Stripe takes for some minutes after the end."""
WINDOWS = {"hours": HOUR, "days": DAY}


@dataclass(frozen=True)
class Setting:
    """Who reports, and how often, and what becomes of late usage."""

    schedule: str
    cron: bool
    closing: bool = False
    webhook: bool = False
    late_usage: LateUsage = LateUsage.NAME

    def __str__(self) -> str:
        is_carried = self.late_usage is LateUsage.CARRY
        parts = {
            f"{self.schedule} cron": self.cron,
            "closing runs": self.closing,
            "webhook": self.webhook,
            "late usage carried": is_carried,
        }
        return " and ".join(name for name, is_so in parts.items() if is_so)

    @property
    def comes_right_after_the_end(self) -> bool:
        return self.closing or self.webhook


SETTINGS = [
    *(Setting(schedule, cron=True) for schedule in ("hourly", "daily")),
    Setting("daily", cron=True, closing=True),
    Setting("daily", cron=True, webhook=True),
    Setting("hourly", cron=False, webhook=True),
]
CARRIED_BY_DAILY_RUNS = Setting("daily", cron=True, late_usage=LateUsage.CARRY)
CARRYING = [
    CARRIED_BY_DAILY_RUNS,
    Setting("daily", cron=True, webhook=True, late_usage=LateUsage.CARRY),
]


@dataclass(frozen=True)
class Used:
    """Something that was used."""

    at: datetime
    value: Decimal


@dataclass
class Account:
    """A customer with a subscription of one item, which may be replaced."""

    customer: str
    subscription: SubscriptionView
    kind: str
    is_tardy: bool
    """Whether its usage may arrive days late."""
    items: list[str]
    used: list[Used] = field(default_factory=list)
    is_gone: bool = False


@dataclass(frozen=True)
class Spell:
    """An item in a period, and what it used that is to be paid for."""

    item: str
    start: datetime
    end: datetime
    usage: int
    is_open: bool
    is_followed: bool = False
    """Whether it has an invoice that somebody pays, and the item goes on at the price of all of it."""


@dataclass(frozen=True)
class Found:
    """What was made of a spell."""

    invoiced: int
    named: int
    carried: int = 0
    """What was added to it of earlier ones, less what of it was added to later ones, or waits for the next."""


@dataclass(frozen=True)
class Whole:
    """What was made of all that a customer used, whatever the program says of where it was carried."""

    used: int
    invoiced: int
    open: int
    """What Stripe holds of open periods."""
    waiting: int
    """What waits for the next period of an item that has one."""
    named: int


class Simulation:
    """A sandbox whose clock runs through three months, from one thing that happens to the next."""

    def __init__(self, folder: Path, setting: Setting, seed: str, *, are_tardy: bool = False) -> None:
        self.world = World(folder, BEGIN, sampled_version(seed))
        self.stripe = self.world.stripe
        self.setting = setting
        self.are_tardy = are_tardy
        """Whether everybody's usage may arrive days late."""
        self.random = random.Random(f"{seed}, {setting}")  # noqa: S311
        self.prices = {kind: self._price(kind) for kind in KINDS}
        by_day = self.prices["day_records"]
        row = f'[[meters]]\nprice = "{by_day}"\nopenmeter = "{METER}"\nrecords = "day"\n'
        self.world.configure(f'late_usage = "{setting.late_usage}"\n{row}')
        self.accounts: list[Account] = []
        self.removed_at: dict[str, datetime] = {}
        self.added_at: dict[str, datetime] = {}
        self.moved_at: defaultdict[str, list[datetime]] = defaultdict(list)
        """When items came to a price on a billing meter, or left one: a stretch of its own begins there."""
        self._agenda: list[tuple[datetime, int, int, Callable[[], None]]] = []
        self._number = 0
        self._noted: set[tuple[str, datetime]] = set()
        self._held_back: set[str] = set()
        self._heard: set[str] = set()
        self.runs: Counter[str] = Counter()
        if setting.webhook:
            self.stripe.webhooks.add_endpoint("http://nowhere.test/webhook", events=("customer.*", "invoice.*"))

    def _price(self, kind: str, **details: Any) -> str:
        rules = dict(KINDS[kind])
        if kind in METERED:
            rules = {"meter": self.stripe.add_meter(kind, **rules)}
        return self.stripe.add_price(metadata={"om_meter_id": METER}, **rules, **details)

    def price_like(self, kind: str, **details: Any) -> str:
        """Add another price of a kind, on the same meter."""
        meter = self.stripe.state.prices[self.prices[kind]].meter
        rules = {"meter": meter} if meter else KINDS[kind]
        return self.stripe.add_price(metadata={"om_meter_id": METER}, **rules, **details)

    @property
    def now(self) -> datetime:
        return self.world.now

    # -- what happens -------------------------------------------------------------------------------

    def at(self, instant: datetime, happens: Callable[[], None], rank: int = 0) -> None:
        """Put something on the agenda; of what comes at one instant the lower rank is first."""
        self._number += 1
        heapq.heappush(self._agenda, (instant, rank, self._number, happens))

    def once(self, name: str, instant: datetime, happens: Callable[[], None], rank: int) -> None:
        if (name, instant) not in self._noted:
            self._noted.add((name, instant))
            self.at(instant, happens, rank)

    def subscribe(self, kind: str, at: datetime, *, is_tardy: bool = False, **details: Any) -> Account:
        """Add a customer whose subscription began at an instant; nothing of it was reported before."""
        customer, mode = self.stripe.add_customer(), self.random.choice(BILLING_MODES)
        subscription = self.stripe.add_subscription(
            customer, [self.prices[kind]], period_start=at, billing_mode=mode, **details
        )
        is_late = is_tardy or self.are_tardy
        account = Account(customer, subscription, kind, is_late, list(subscription.items))
        self.accounts.append(account)
        return account

    def subscribe_later(
        self, kind: str, at: datetime, then: Callable[[Account], None], *, is_tardy: bool = False, **details: Any
    ) -> None:
        def subscribe() -> None:
            then(self.subscribe(kind, at, is_tardy=is_tardy, **details))

        self.at(at, self.changing(subscribe))

    def changing(self, change: Callable[[], None]) -> Callable[[], None]:
        """Return a change that the next full run comes to see."""

        def changed() -> None:
            change()
            self._run_after(self.now, self.now + HOUR)

        return changed

    def use(self, account: Account) -> None:
        """Let something be used: now, a little ahead of time, or of one who is tardy also days ago."""
        if account.is_gone:
            return
        lateness = self.random.choice([0, 0, 2, 4, -100])
        if account.is_tardy and self.random.random() < 0.5:
            lateness = self.random.randrange(3 * 86_400 - 4000)
        self.use_at(account, self.now - lateness * SECOND)

    def use_at(self, account: Account, at: datetime) -> None:
        value = Decimal(self.random.randrange(1, 40)) / 4
        account.used.append(Used(at, value))
        self.world.openmeter.add_event(METER, account.customer, at, value=str(value))
        self._run_after(self.now)

    def use_around(self, account: Account, instant: datetime) -> None:
        """Use something shortly before and after an instant, in the very last second too."""
        for seconds in (-5400, -80, -1, 0, 600):
            self.at(instant + seconds * SECOND, lambda: self.use(account))

    def move(self, account: Account, kind: str) -> None:
        """Put the item on a price of another kind."""
        self.change_price(account, self.prices[kind])

    def change_price(self, account: Account, price: str) -> None:
        item, prices = account.items[-1], self.stripe.state.prices
        if prices[self.stripe.state.items[item].price].meter or prices[price].meter:
            self.moved_at[item].append(self.now)
        self.stripe.change_price(item, price)

    def remove(self, account: Account) -> None:
        self.stripe.delete_item(account.items[-1], clear_usage=True)
        self.removed_at[account.items[-1]] = self.now

    def replace(self, account: Account, kind: str) -> None:
        """Put an item of a kind beside the one there is, and remove that one."""
        new = self.stripe.add_item(account.subscription.id, self.prices[kind])
        self.remove(account)
        self.added_at[new] = self.now
        account.items.append(new)

    # -- who reports --------------------------------------------------------------------------------

    def play(self) -> None:
        """Let everything happen until the end, and then let everybody report once more."""
        self._watch()
        if self.setting.cron:
            self.at(BEGIN, self._run)
        while self._agenda and self._agenda[0][0] <= END:
            instant, _, _, happens = heapq.heappop(self._agenda)
            self.world.sandbox.clock.move_to(max(instant, self.now))
            happens()
            self._watch()
            self._listen()
        self.world.sandbox.clock.move_to(END)
        if self.setting.cron:
            self._run()
        else:
            self._last_words()

    def _watch(self) -> None:
        """Note the ends of periods, about which somebody is to come."""
        for account in self.accounts:
            subscription = self.stripe.state.subscriptions[account.subscription.id]
            account.is_gone = subscription.ended
            ends = [] if subscription.ended else [self.stripe.period(item).end for item in subscription.items]
            if subscription.cancel_at and not subscription.ended:
                ends.append(subscription.cancel_at)
            for end in ends:
                self._note_end(account, datetime.fromtimestamp(end, UTC))

    def _note_end(self, account: Account, end: datetime) -> None:
        if ("end", end) not in self._noted and self.setting.closing:
            minute = (end - WITHIN).replace(second=0) + MINUTE
            while minute <= end + WITHIN:
                self.once("closing", minute, self._close, 2)
                minute += MINUTE
        if self.setting.webhook:
            self.once("upcoming", end - 7 * DAY, lambda: None, 0)
            for later in (70 * MINUTE, 3 * DAY + 10 * MINUTE):
                self.once("follow-up", end + later, self._follow_up, 2)
        self.once("end", end, lambda: self._run_after(end, end + HOUR), 0)
        if (account.customer, end) not in self._noted:
            self._noted.add((account.customer, end))
            self.use_around(account, end)

    def _run_after(self, *instants: datetime) -> None:
        """Let the next full run after each of these instants come. All others would find nothing new."""
        if not self.setting.cron:
            return
        step = HOUR if self.setting.schedule == "hourly" else DAY
        for instant in instants:
            since = instant - RUN_AT - BEGIN
            self.once("run", BEGIN + (since // step + 1) * step + RUN_AT, self._run, 3)

    def _run(self) -> None:
        self._execute("full")

    def _close(self) -> None:
        self.world.close_in_time(WITHIN, self.setting.schedule)
        self.runs["closing"] += 1

    def _follow_up(self) -> None:
        self._execute("follow-up", closing=FOLLOWED_FOR, is_beside=True)

    def _execute(self, name: str, **request: Any) -> None:
        self.world.execute(schedule=self.setting.schedule, **request)
        self.runs[name] += 1

    def _listen(self) -> None:
        if self.setting.webhook and self.stripe.webhooks.pending():
            self.once("delivery", self.now + self.random.randrange(6, 50) * SECOND, self._deliver, 1)

    def _deliver(self) -> None:
        """Deliver what is pending: each twice, in any order, and some of it only next time."""
        concerned: dict[str, None] = {}

        def take(attempt: Attempt) -> int:
            event = understand(json.loads(attempt.body))
            if event.subscription and event.id not in self._heard:
                concerned[event.subscription] = None
            self._heard.add(event.id)
            return 200

        def hold_back(delivery: Delivery) -> bool:
            is_first = delivery.event.id not in self._held_back
            self._held_back.add(delivery.event.id)
            return is_first and self.random.random() < 0.2

        self.stripe.webhooks.deliver(repeats=2, shuffled_by=self.random, hold_back=hold_back, signed_at=0, send=take)
        for subscription in concerned:
            self._report(subscription)

    def _report(self, subscription: str) -> None:
        self._execute("webhook", selection=Selection(subscriptions=(subscription,)), is_beside=True)

    def _last_words(self) -> None:
        for account in self.accounts:
            self._report(account.subscription.id)

    # -- what came of it ----------------------------------------------------------------------------

    def spells(self, account: Account) -> Iterator[Spell]:
        """Yield the periods that are to be paid for, with their usage as this module counts it."""
        for identifier in account.items:
            item = self.stripe.state.items[identifier]
            yield from self._spells_of(account, item)

    def _spells_of(self, account: Account, item: Item) -> Iterator[Spell]:
        began: datetime | None = self.added_at.get(item.id)
        last_end: datetime | None = None
        for closed in item.closed:
            start, end = _instants(closed)
            if last_end and last_end < start:
                yield self._standstill(account, item, began or last_end, Period(last_end, start))
                began = self._floor(start, closed.price)
            is_last = closed is item.closed[-1] and account.is_gone
            moved = max((at for at in self.moved_at[item.id] if start < at < end), default=start)
            until = end if is_last or closed.free else max(began or start, moved, self._floor(end, closed.price))
            if not closed.free:
                usage = self._usage_in_stretches(account, item.id, began or start, until, Period(start, end))
                is_followed = not is_last and self._goes_on(item, closed)
                yield Spell(item.id, start, end, usage, is_open=False, is_followed=is_followed)
            began, last_end = until, end
        if not account.is_gone:
            start = datetime.fromtimestamp(item.period.start, UTC)
            if last_end and last_end < start:
                yield self._standstill(account, item, began or last_end, Period(last_end, start))
                began = self._floor(start, item.price)
            end = self.removed_at.get(item.id, self.now)
            usage = self._usage_in_stretches(account, item.id, began or start, end, Period(start, end))
            yield Spell(item.id, start, end, usage, is_open=not item.deleted)

    def _goes_on(self, item: Item, closed: ClosedPeriod) -> bool:
        """Whether somebody pays for a period, and the item has the same price in all of it and after it."""
        start, end = _instants(closed)
        later = [one.price for one in item.closed if one.period.start >= closed.period.end]
        is_moved = any(start < at <= end for at in self.moved_at[item.id])
        is_paid = closed.invoice is not None and self.stripe.state.invoices[closed.invoice].status != "void"
        return is_paid and not is_moved and not item.deleted and (later or [item.price])[0] == closed.price

    def _standstill(self, account: Account, item: Item, began: datetime, pause: Period) -> Spell:
        """Return the time between two periods of a subscription that was paused."""
        until = self._floor(pause.end, item.price)
        return Spell(item.id, pause.start, pause.end, self._usage(account, began, until), is_open=False)

    def _floor(self, instant: datetime, price: str) -> datetime:
        """Return where the windows of a price end at an instant: Stripe moves one that straddles it to what follows."""
        meter = self.stripe.state.prices[price].meter
        window = meter and self.stripe.state.meters[meter].window
        if not window:
            return instant
        return instant - (instant - BEGIN) % (HOUR if window == "hour" else DAY)

    def _usage_in_stretches(self, account: Account, item: str, start: datetime, end: datetime, period: Period) -> int:
        """Return what was used by each price, each rounded by itself."""
        moved = [at for at in self.moved_at[item] if period.start < at < period.end and start < at < end]
        boundaries = [start, *sorted(moved), end]
        return sum(self._usage(account, one, other) for one, other in pairwise(boundaries))

    def _usage(self, account: Account, start: datetime, end: datetime) -> int:
        return int(sum((one.value for one in account.used if start <= one.at < end), Decimal(0)))

    def found(self) -> dict[tuple[str, datetime], Found]:
        """Return what is invoiced, what the ledger names, and what it says that was carried, of each item's period."""
        invoiced: defaultdict[tuple[str, datetime], int] = defaultdict(int)
        for invoice in self.stripe.invoices:
            # Nobody pays a voided one.
            for line in invoice.lines if invoice.status != "void" else ():
                start = datetime.fromtimestamp(line.period.start, UTC)
                invoiced[line.item, self._period_of(line.item, start)] += line.quantity
        named, waiting = self._unbilled(waits=False), self._unbilled(waits=True)
        carried = self._carried()
        carried.subtract(waiting)
        every = invoiced.keys() | named.keys() | carried.keys()
        return {key: Found(invoiced[key], named[key], carried[key]) for key in every}

    def whole(self, account: Account) -> Whole:
        """Return what was made of all that a customer used."""
        found, spells = self.found(), list(self.spells(account))
        waiting = self._unbilled(waits=True)
        # An invoice shows a trial's usage too, which costs nothing.
        paid = {(spell.item, spell.start) for spell in spells}
        open_items = {spell.item for spell in spells if spell.is_open}
        return Whole(
            used=sum(spell.usage for spell in spells),
            invoiced=sum(made.invoiced for place, made in found.items() if place in paid),
            open=sum(self.stripe.total(item) for item in open_items),
            waiting=sum(units for (item, _), units in waiting.items() if item in open_items),
            named=sum(made.named for (item, _), made in found.items() if item in account.items),
        )

    def _unbilled(self, *, waits: bool) -> Counter[tuple[str, datetime]]:
        found: Counter[tuple[str, datetime]] = Counter()
        with self.world.books() as ledger:
            for one in ledger.remainders.unbilled():
                if one.waits is waits:
                    found[one.item, self._period_of(one.item, one.period.start)] += one.open_quantity
        return found

    def _carried(self) -> Counter[tuple[str, datetime]]:
        """Return what was added to each period, less what was taken of it: by the rows, as they are in the ledger."""
        found: Counter[tuple[str, datetime]] = Counter()
        with closing(sqlite3.connect(self.world.ledger)) as connection:
            rows = connection.execute('SELECT item, period_start, "into", quantity FROM carries').fetchall()
        for item, start, into, quantity in rows:
            found[item, self._period_of(item, datetime.fromtimestamp(start, UTC))] -= quantity
            found[item, self._period_of(item, datetime.fromtimestamp(into, UTC))] += quantity
        return found

    def _period_of(self, item: str, start: datetime) -> datetime:
        """Return where the period of Stripe's begins in which a stretch of an item begins."""
        found = self.stripe.state.items[item]
        starts = [one.period.start for one in found.closed] + [found.period.start]
        inside = [begin for begin in starts if begin <= start.timestamp()]
        return datetime.fromtimestamp(max(inside), UTC) if start in {*self.moved_at[item]} and inside else start


def _instants(closed: ClosedPeriod) -> tuple[datetime, datetime]:
    return datetime.fromtimestamp(closed.period.start, UTC), datetime.fromtimestamp(closed.period.end, UTC)
