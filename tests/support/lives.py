"""A customer whose subscriptions to one meter follow, overlap and change, and what is to be paid for of their usage."""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from meter_sync.core.outcomes import ExitCode, Reason
from meter_sync.core.planning.selection import Selection
from meter_sync.ledger.remainders import Unbilled
from meter_sync.sandbox.stripe.state.objects import BillingMode, Interval
from tests.support.ways import WAYS
from tests.support.world import METER, World

MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("minutes", "hours", "days"))
LOOKBACK = 3 * DAY
"""How long periods are watched after their end."""
LIFTED = (Reason.DECREASE, Reason.JUMP)
"""What brakes would hold is named, like all that is held; here it is to be billed."""


@dataclass(slots=True)
class Spell:
    """The time of one subscription item."""

    item: str
    start: datetime
    """From when on it is to be paid for: where it is on trial at first, from the trial's end on."""
    removed: datetime | None = None


@dataclass
class Life:
    """A customer who has any number of subscriptions, and what they used."""

    world: World
    way: str
    mode: BillingMode
    interval: Interval = "month"
    living: list[str] = field(default_factory=list)
    """The subscriptions that nobody has canceled."""
    spells: dict[str, Spell] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    """The items that a run has listed: of one that comes and goes between two runs nobody knows."""
    used: list[tuple[datetime, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stripe = self.world.stripe
        self.meter = self.stripe.add_meter("calls", **WAYS[self.way]) if self.way in WAYS else None  # type: ignore[arg-type]
        self.customer = self.stripe.add_customer()

    def _price(self) -> str:
        return self.stripe.add_price(
            meter=self.meter, metadata={"om_meter_id": METER}, unit_amount_decimal="100", interval=self.interval
        )

    # -- what happens -------------------------------------------------------------------------------

    def subscribe(self, trial: timedelta | None = None) -> None:
        """Begin another subscription, perhaps with a trial."""
        start, trial_end = self.world.now, self.world.now + trial if trial else None
        view = self.stripe.add_subscription(self.customer, [self._price()], billing_mode=self.mode, trial_end=trial_end)
        self.living.append(view.id)
        for item in view.items:
            self.spells[item] = Spell(item, trial_end or start)

    def cancel(self, subscription: str, *, invoice_now: bool) -> None:
        """End a subscription at once."""
        self.living.remove(subscription)
        self.stripe.cancel(subscription, invoice_now=invoice_now)

    def cancel_at_period_end(self, subscription: str) -> None:
        """Plan a subscription's end."""
        self.living.remove(subscription)
        self.stripe.cancel_at_period_end(subscription)

    def change_price(self, subscription: str, price: str | None = None) -> str | None:
        """Put the newest item of a subscription on another price, by default a new one; return the one that it had."""
        items = self.items_of(subscription)
        if not items:
            return None
        before = self.stripe.state.items[items[-1]].price
        self.stripe.change_price(items[-1], price or self._price())
        return before

    def add_item(self, subscription: str) -> None:
        """Add an item to a subscription, in its period."""
        item = self.stripe.add_item(subscription, self._price())
        self.spells[item] = Spell(item, self._pays_from(subscription))

    def remove_item(self, subscription: str, place: int = 0) -> None:
        """Remove an item of a subscription, one that a run has seen."""
        items = self.items_of(subscription)
        if items and (item := items[place % len(items)]) in self.seen:
            self.stripe.delete_item(item, clear_usage=True)
            self.spells[item].removed = self.world.now

    def replace_item(self, subscription: str) -> None:
        """Put another item in the place of a subscription's oldest."""
        items = self.items_of(subscription)
        if items and items[0] in self.seen:
            self.add_item(subscription)
            self.remove_item(subscription)

    def use(self, at: datetime, value: int) -> None:
        self.used.append((at, value))
        self.world.use(self.customer, value, at=at)

    def items_of(self, subscription: str) -> list[str]:
        return list(self.stripe.state.subscriptions[subscription].items)

    def end_of(self, item: str) -> datetime:
        return _instant(self.stripe.period(item).end)

    def _pays_from(self, subscription: str) -> datetime:
        trial_end = self.stripe.state.subscriptions[subscription].trial_end
        return max(self.world.now, _instant(trial_end)) if trial_end else self.world.now

    # -- who reports --------------------------------------------------------------------------------

    def run(self, *subscriptions: str) -> None:
        """Run for the whole account, or only for some subscriptions."""
        self.seen |= set(self.world.execute(*LIFTED, selection=Selection(subscriptions=subscriptions)))

    def end(self) -> None:
        """Run undisturbed, once more while everything lives and until long after everything has ended."""
        self.world.sandbox.faults.clear()
        self.end_with(self.run)

    def end_with(self, run: Callable[[], None]) -> None:
        """Run once more while everything lives, and until long after everything has ended."""
        run()
        for place, subscription in enumerate(list(self.living)):
            self.cancel(subscription, invoice_now=place % 2 == 0)
        for pause in (MINUTE, 2 * HOUR, 2 * HOUR, 4 * DAY, 4 * DAY, 35 * DAY):
            self.world.sandbox.clock.advance(pause)
            run()

    # -- what came of it ----------------------------------------------------------------------------

    def check(self) -> None:
        """Hold it to its promise at its end: each unit is billed once or named once, also one that was carried."""
        assert self.invoiced + self.named == self.to_be_paid

    def check_what_is_known(self, last_troubled: datetime | None) -> None:
        """Hold it to its promise where reads failed: each unit is billed once, or named once, or not known.

        Not known is what `history --unbilled` lists as such, and only where something failed when a period was watched
        no more. The values of usage are powers of three, each once: what became of each is seen in the sum.
        """
        with self.world.books() as ledger:
            found = ledger.remainders.unbilled()
        not_known = [one for one in found if one.is_unknown]
        listed = self.world.meter_sync("history", "--unbilled", "--output", "json")
        assert listed.code == (ExitCode.ATTENTION if found else ExitCode.DONE)
        unknown_rows = [row for row in listed.document["unbilled"] if row["unbilled"] is None]
        assert [row["subscription_item"] for row in unknown_rows] == [one.item for one in not_known]
        watched_until = (last_troubled or self.world.now) - LOOKBACK
        assert [one for one in not_known if last_troubled is None or one.period.end >= watched_until] == []
        lacking = _in_powers_of_three(self.to_be_paid - self.invoiced - self.named, len(self.used))
        what_became = [(at, value, times) for (at, value), times in zip(self.used, lacking, strict=True) if times]
        assert [one for one in what_became if one[2] < 0 or not self._is_within(one[0], not_known)] == []

    def _is_within(self, at: datetime, periods: Iterable[Unbilled]) -> bool:
        """Say whether it was used in one of these periods, or in a window that straddles its bounds."""
        window = {"hours": HOUR, "days": DAY}.get(self.way, MINUTE)
        return any(one.period.start - window <= at < one.period.end + window for one in periods)

    @property
    def to_be_paid(self) -> int:
        """What was used while there was any item that is to be paid for."""
        paid = list(self._paid())
        return sum(value for at, value in self.used if any(start <= at < end for start, end in paid))

    def _paid(self) -> Iterator[tuple[datetime, datetime]]:
        for spell in self.spells.values():
            subscription = self.stripe.state.subscriptions[self.stripe.state.items[spell.item].subscription]
            ended = _instant(subscription.ended_at) if subscription.ended_at else self.world.now
            yield spell.start, min(ended, spell.removed or ended)

    @property
    def invoiced(self) -> int:
        """What invoices and invoice items bill; a trial's lines cost nothing."""
        lines = [line for invoice in self.stripe.invoices for line in invoice.lines if line.amount_cents]
        pending = [one.line for one in self.stripe.state.invoice_items if one.invoice is None]
        return sum(line.quantity for line in (*lines, *pending))

    @property
    def named(self) -> int:
        return sum(self.world.unbilled().values())


def _instant(timestamp: int) -> datetime:
    return datetime.fromtimestamp(timestamp, UTC)


def _in_powers_of_three(number: int, count: int) -> list[int]:
    """Return how often each of so many powers of three is in a number, from -1 to 1."""
    found = []
    for _ in range(count):
        found.append((number + 1) % 3 - 1)
        number = (number - found[-1]) // 3
    assert number == 0
    return found


@dataclass
class Drawn:
    """A life in which what happens is drawn."""

    world: World
    life: Life
    random: random.Random

    def begin(self) -> None:
        """Let the customer subscribe, who has one subscription or two at a time."""
        if len(self.life.living) < 2:
            self.life.subscribe()

    def change_price(self) -> None:
        """Let an item move to another price."""
        if self.life.living:
            self.life.change_price(self.any_living())

    def replace_item(self) -> None:
        """Let an item take another one's place."""
        if self.life.living:
            self.life.replace_item(self.any_living())

    def any_living(self) -> str:
        """Draw one of the subscriptions that go on."""
        return self.random.choice(self.life.living)
