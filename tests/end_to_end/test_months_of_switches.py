"""Months of one customer's subscriptions that follow, overlap and change: each unit is billed or named once."""

import itertools
import random
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import BillingMode
from tests.support.lives import Drawn, Life
from tests.support.ways import ALL_WAYS
from tests.support.world import World

BEGIN = datetime(2025, 3, 1, 9, 30, 17, tzinfo=UTC)
CARRYING = [(2, "record", "flexible"), (0, "days", "flexible"), (0, "additions", "classic")]
"""Lives in which something is late and can be carried: seed, way, mode."""
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))


@dataclass
class Switching(Drawn):
    """A customer who has one subscription or two at a time, and a run every few hours."""

    is_disturbed: bool = False
    latest: tuple[int, ...] = (4000,)
    """By how many seconds usage is late at most, each as often."""

    # -- what happens -------------------------------------------------------------------------------

    def end(self) -> None:
        if self.life.living:
            self.life.cancel(self.any_living(), invoice_now=self.random.random() < 0.5)

    def use(self) -> None:
        ago = self.random.choice((0, 0, 1, 90, *(self.random.randint(4000, each) for each in self.latest))) * SECOND
        self.life.use(self.world.now - ago, self.random.randrange(1, 100_000))

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
        self.life.run()
        until = self.world.now + days * DAY
        while self.world.now < until:
            for _ in range(self.random.randrange(1, 4)):
                self.random.choice(happenings)()
                self.world.sandbox.clock.advance(self.random.choice((SECOND, 7 * MINUTE, 3 * HOUR, 20 * HOUR)))
            self.disturb()
            self.life.run()
        self.life.end()


def is_anything_carried(world: World) -> bool:
    with closing(sqlite3.connect(world.ledger)) as connection:
        return connection.execute("SELECT 1 FROM carries WHERE quantity <> 0").fetchone() is not None


def lives() -> list[Any]:
    """Return what is played: seed, way, mode, days, whether servers fail, and what becomes of late usage.

    The fast tier plays one for some days.
    """
    drawn = itertools.product(range(3), ALL_WAYS, ("classic", "flexible"), (16,), (False,), ("name",))
    disturbed = itertools.product(range(2), ALL_WAYS, ("classic",), (10,), (True,), ("name",))
    carried = [(*one, 20, False, "carry") for one in CARRYING]
    slow = [pytest.param(*one, marks=pytest.mark.simulation) for one in (*drawn, *disturbed, *carried)]
    return [(4, "hours", "classic", 5, False, "name"), *slow]


@pytest.mark.no_cover
@pytest.mark.parametrize(("seed", "way", "mode", "days", "is_disturbed", "late_usage"), lives())
def test_every_unit_is_billed_once_or_named_once(
    tmp_path: Path, seed: int, way: str, mode: BillingMode, days: int, is_disturbed: bool, late_usage: str
) -> None:
    """Also one that is carried: there in periods of weeks, so that some end, with usage that comes days late."""
    world, is_carried = World(tmp_path, BEGIN, "v3" if seed % 2 else "v1"), late_usage == "carry"
    world.configure(f'late_usage = "{late_usage}"\n')
    with world.sandbox.in_background():
        drawn = random.Random(f"{seed}{way}{'' if is_disturbed else mode}")  # noqa: S311
        life = Life(world, way, mode, "week" if is_carried else "month")
        latest = (250_000,) * 4 if is_carried else (4000,)
        Switching(world, life, drawn, is_disturbed, latest).play(days)
        life.check()
    assert is_anything_carried(world) is is_carried
