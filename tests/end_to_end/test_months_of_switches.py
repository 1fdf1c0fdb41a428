"""Months of one customer's subscriptions that follow, overlap and change: each unit is billed or named once."""

import itertools
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_sync.core.metering.mapping import LateUsage
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import BillingMode, Interval
from tests.support.ways import ALL_WAYS, WAYS
from tests.support.world import METER, World

BEGIN = datetime(2025, 3, 1, 9, 30, 17, tzinfo=UTC)
CARRYING = [(2, "record", "flexible"), (0, "days", "flexible"), (0, "additions", "classic")]
"""Lives in which something is late and can be carried: seed, way, mode."""
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))


@dataclass
class Switching:
    """A customer who has one subscription or two at a time, and a run every few hours."""

    world: World
    way: str
    mode: BillingMode
    random: random.Random
    is_disturbed: bool = False
    late_usage: LateUsage = LateUsage.NAME
    living: list[str] = field(default_factory=list)
    began: dict[str, datetime] = field(default_factory=dict)
    ended: dict[str, datetime] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    """The items that a run has listed: of one that comes and goes between two runs nobody knows."""
    used: list[tuple[datetime, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stripe = self.world.stripe
        self.meter = self.stripe.add_meter("calls", **WAYS[self.way]) if self.way in WAYS else None  # type: ignore[arg-type]
        self.customer = self.stripe.add_customer()
        self.world.configure(f'late_usage = "{self.late_usage}"\n')

    @property
    def latest(self) -> int:
        """By how many seconds usage is late at most. What is to be carried comes days after its period's end."""
        return 4000 if self.late_usage is LateUsage.NAME else self.random.randrange(250_000)

    def price(self) -> str:
        """Add a price like all others of this life: of weeks, so that some of them end, where late usage is carried."""
        interval: Interval = "month" if self.late_usage is LateUsage.NAME else "week"
        return self.stripe.add_price(meter=self.meter, metadata={"om_meter_id": METER}, interval=interval)

    # -- what happens -------------------------------------------------------------------------------

    def begin(self) -> None:
        if len(self.living) < 2:
            view = self.stripe.add_subscription(self.customer, [self.price()], billing_mode=self.mode)
            self.living.append(view.id)
            self.began[view.id] = self.world.now

    def end(self) -> None:
        if self.living:
            gone = self.living.pop(self.random.randrange(len(self.living)))
            self.stripe.cancel(gone, invoice_now=self.random.random() < 0.5)
            self.ended[gone] = self.world.now

    def change_price(self) -> None:
        if self.living:
            self.stripe.change_price(self._an_item(), self.price())

    def replace_item(self) -> None:
        if not (self.living and self.meter):
            return
        item = self._an_item()
        if item in self.seen:
            new = self.stripe.add_item(self.stripe.state.items[item].subscription, self.price())
            self.stripe.delete_item(item)
            assert new

    def _an_item(self) -> str:
        return str(self.stripe.state.subscriptions[self.random.choice(self.living)].items[-1])

    def use(self) -> None:
        value = self.random.randrange(1, 9)
        at = self.world.now - self.random.choice((0, 0, 1, 90, self.latest)) * SECOND
        self.used.append((at, value))
        self.world.use(self.customer, value, at=at)

    def disturb(self) -> None:
        """Let some of the next run go wrong, or nothing."""
        faults = self.world.sandbox.faults
        faults.clear()
        if self.is_disturbed and self.random.random() < 0.5:
            skip, times = self.random.randrange(6), self.random.randrange(1, 6)
            what: dict[str, Any] = self.random.choice(({"drop": "after"}, {"status": 500}, {"drop": "before"}))
            where: dict[str, Any] = self.random.choice(
                ({"server": "stripe", "method": "POST"}, {"server": "stripe", "method": "GET"}, {"server": "openmeter"})
            )
            faults.add(Fault(skip=skip, times=times, **where, **what))

    def play(self, days: int) -> None:
        """Let things happen, one after the other, with a run from time to time; then end everything, and run on."""
        happenings = [self.use] * 12 + [self.begin] * 2 + [self.end, self.change_price, self.replace_item]
        self.begin()
        self.world.execute()
        until = self.world.now + days * DAY
        while self.world.now < until:
            for _ in range(self.random.randrange(1, 4)):
                self.random.choice(happenings)()
                self.world.sandbox.clock.advance(self.random.choice((SECOND, 7 * MINUTE, 3 * HOUR, 20 * HOUR)))
            self.disturb()
            self.seen |= set(self.world.execute())
        self.world.sandbox.faults.clear()
        self.world.execute()
        while self.living:
            self.end()
        for pause in (MINUTE, 2 * HOUR, 2 * HOUR, 4 * DAY, 4 * DAY, 35 * DAY):
            self.world.sandbox.clock.advance(pause)
            self.world.execute()

    # -- what came of it ----------------------------------------------------------------------------

    @property
    def to_be_paid(self) -> int:
        """What was used while there was any subscription."""
        lives = [(self.began[one], self.ended[one]) for one in self.began]
        return sum(value for at, value in self.used if any(start <= at < end for start, end in lives))

    @property
    def invoiced(self) -> int:
        lines = sum(line.quantity for invoice in self.stripe.invoices for line in invoice.lines)
        return lines + sum(one.line.quantity for one in self.stripe.state.invoice_items if one.invoice is None)

    @property
    def named(self) -> int:
        """What is named, once all is over: nothing waits any more."""
        with self.world.books() as ledger:
            return sum(one.open_quantity for one in ledger.remainders.unbilled() if not one.waits)

    @property
    def is_anything_carried(self) -> bool:
        with closing(sqlite3.connect(self.world.ledger)) as connection:
            return connection.execute("SELECT 1 FROM carries WHERE quantity <> 0").fetchone() is not None


def lives() -> list[Any]:
    """Return what is played: seed, way, mode, days, whether servers fail, and what becomes of late usage.

    The fast tier plays one for some days.
    """
    ways = [one for one in ALL_WAYS if one != "last"]
    drawn = itertools.product(range(3), ways, ("classic", "flexible"), (20,), (False,), (LateUsage.NAME,))
    disturbed = itertools.product(range(2), ways, ("classic",), (10,), (True,), (LateUsage.NAME,))
    carried = [(*one, 20, False, LateUsage.CARRY) for one in CARRYING]
    slow = [pytest.param(*one, marks=pytest.mark.simulation) for one in (*drawn, *disturbed, *carried)]
    return [(4, "hours", "classic", 5, False, LateUsage.NAME), *slow]


@pytest.mark.parametrize(("seed", "way", "mode", "days", "is_disturbed", "late_usage"), lives())
def test_every_unit_is_billed_once_or_named_once(
    tmp_path: Path, seed: int, way: str, mode: BillingMode, days: int, is_disturbed: bool, late_usage: LateUsage
) -> None:
    world = World(tmp_path, BEGIN)
    with world.sandbox.in_background():
        drawn = random.Random(f"{seed}{way}{'' if is_disturbed else mode}")  # noqa: S311
        switching = Switching(world, way, mode, drawn, is_disturbed, late_usage)
        switching.play(days)
        assert switching.invoiced + switching.named == switching.to_be_paid
        assert switching.is_anything_carried is (late_usage is LateUsage.CARRY)
