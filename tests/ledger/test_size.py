"""How large a ledger becomes in which every item is written by every run: the slow tier, since it lives for months."""

import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from string import ascii_letters, digits
from uuid import UUID

import pytest

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.billing.way import Way
from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.conclusion import Billed
from meter_sync.core.planning.memory import Addition
from meter_sync.core.planning.sends import Add, SetWindows, WindowQuantity
from meter_sync.core.planning.stages import Acknowledged, Write
from meter_sync.core.planning.windows import windows_of
from meter_sync.ledger import Ledger, RunRecord, Scope, open_ledger
from meter_sync.ledger.conclusions import Conclusion
from meter_sync.ledger.rows import WindowTaken
from tests.core.builders import make_item, make_metered, make_method, make_write
from tests.ledger.steps import compacted

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""Months of what other tests cover."""

HOUR, DAY, MONTH = timedelta(hours=1), timedelta(days=1), timedelta(days=30)
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = 6
_CHARACTERS = ascii_letters + digits
MONTHS = 3
SHARED = ("runs", "run_numbers")
"""What all items of an account share: of ten thousand, it is next to nothing for each."""


class Account:
    """An account whose items begin at hours of their own, and of which each run writes every item."""

    def __init__(self, ledger: Ledger, way: str = "record", items: int = ITEMS) -> None:
        self.ledger = ledger
        self._items = items
        self._way = way
        self._listed: dict[str, SubscriptionItem] = {}
        self._last: dict[str, str] = {}
        self._drawn = Random(1)  # noqa: S311 - not for secrets
        self._totals = defaultdict[str, int](int)
        self._parts: dict[tuple[str, datetime], int] = {}

    def run(self, number: int) -> None:
        at = BEGINNING + number * HOUR + timedelta(minutes=7, seconds=1 + number % 37)
        run = RunRecord(str(UUID(int=self._drawn.getrandbits(128))), at, at, "hourly", everything=True)
        listed = [self._item(item, number) for item in range(self._items)]
        ended = [before for one in listed if (before := self._listed.get(one.id)) and before.key != one.key]
        self.ledger.runs.begin(run)
        self.ledger.listed.record(listed, at)
        self.ledger.listed.conclude([Conclusion(*one.key, closed_as=Billed()) for one in ended], at)
        writes = [self._write(one, at) for one in listed]
        for one in listed:
            self._listed[one.id], self._last[one.id] = one, run.id
        intended = self.ledger.writes.claim(run, [checked_before(one) for one in writes], at, 0)
        assert len(intended) == self._items
        for write in writes:
            taken = [WindowTaken(write, part, at, self._request()) for part in windows_of(write)]
            self.ledger.writes.acknowledge_windows(run, taken)
        self.ledger.writes.acknowledge(run, [Acknowledged(one, at, self._request()) for one in intended])
        self.ledger.writes.release(run, writes)
        self.ledger.runs.finish(run.id, at, 0, {"reported": self._items})
        compacted(self.ledger, at)

    def _request(self) -> str:
        return f"req_{''.join(self._drawn.choices(_CHARACTERS, k=14))}"

    def _write(self, item: SubscriptionItem, at: datetime) -> Write:
        is_new = self._listed.get(item.id, item).key != item.key
        before = 0 if is_new else self._totals[item.id]
        quantity = self._totals[item.id] = before + self._drawn.randrange(1, 3000)
        follows = None if is_new else self._last.get(item.id)
        write = make_write(quantity, metered=make_metered(item, as_of=at), follows=follows)
        found = replace(write.found, standing=before)
        if self._way == "record":
            return replace(write, found=found)
        if self._way == "additions":
            identifier = identifiers.of_addition(item, before, 0)
            addition = Addition(identifier, before, quantity - before, at, intended_at=at, as_of=at, attempted_at=at)
            method = make_method(way=Way.ADDITIONS, stripe_meter="mtr_1")
            return replace(write, found=found, method=method, sends=Add(addition))
        method = make_method(way=Way.WINDOWS, stripe_meter="mtr_1")
        windows = self._windows(item, before, quantity, at)
        return replace(write, found=found, method=method, sends=SetWindows(windows, 0, is_whole=False))

    def _windows(self, item: SubscriptionItem, before: int, quantity: int, at: datetime) -> tuple[WindowQuantity, ...]:
        """What the hour or day before was short of, and what the one that goes on has."""
        length = HOUR if self._way == "hours" else DAY
        now = at.replace(minute=0, second=0) if length == HOUR else at.replace(hour=0, minute=0, second=0)
        new = WindowQuantity(now, at, self._parts.get((item.id, now), 0), None, Decimal(quantity))
        if (item.id, now) in self._parts or now <= item.period.start:
            self._parts[item.id, now] = new.value + quantity - before
            return (replace(new, value=self._parts[item.id, now]),)
        middle = before + (quantity - before) * 9 // 10
        self._parts[item.id, now] = quantity - middle
        was = self._parts.get((item.id, now - length), 0)
        earlier = WindowQuantity(now - length, now - timedelta(seconds=1), was + middle - before, None, Decimal(middle))
        return earlier, replace(new, value=quantity - middle)

    @staticmethod
    def _item(number: int, hour: int) -> SubscriptionItem:
        began = number * 17 % 720
        start = BEGINNING + ((hour + began) // 720 * 720 - began) * HOUR
        return make_item(f"si_{number:014}", start=start, end=start + MONTH, created=BEGINNING - MONTH)


def bytes_of_items(path: Path) -> int:
    """How many bytes of a ledger its items have, without what all share."""
    with closing(sqlite3.connect(path)) as connection:
        if not connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'dbstat'").fetchone():
            pytest.skip("this SQLite was built without dbstat, which says how large tables are")
        every = connection.execute(
            "SELECT tbl_name, sum(pgsize) FROM dbstat JOIN sqlite_schema USING (name) GROUP BY tbl_name"
        )
        return sum(int(size) for table, size in every if table not in SHARED)


@pytest.mark.parametrize("way", ["record", "hours", "additions"])
def test_a_year_of_ten_thousand_items_that_every_hourly_run_writes_takes_less_than_1_5_gb(
    tmp_path: Path, way: str
) -> None:
    """After two months only what is left of earlier periods is added each month, and what all items share."""
    path = tmp_path / "ledger.sqlite3"
    sizes = []
    with open_ledger(path, Scope("", "live")) as ledger:
        empty, account = bytes_of_items(path), Account(ledger, way)
        for month in range(MONTHS):
            for hour in range(720):
                account.run(month * 720 + hour)
            sizes.append((bytes_of_items(path) - empty) / ITEMS)
        written = ledger.overview.size()["writes"] / ITEMS
    of_a_month = sizes[2] - sizes[1]
    assert 10_000 * (sizes[1] + 10 * of_a_month) < 1.5e9
    assert 1000 < written < 1800


@pytest.mark.parametrize("way", ["record", "hours", "additions"])
def test_items_take_as_much_of_a_ledger_as_there_are(tmp_path: Path, way: str) -> None:
    """So that ten thousand of them take what is measured of a few, so many times."""
    found = []
    for items in (10, 20):
        path = tmp_path / f"{items}.sqlite3"
        with open_ledger(path, Scope("", "live")) as ledger:
            empty, account = bytes_of_items(path), Account(ledger, way, items)
            for hour in range(120):
                account.run(hour)
        found.append(bytes_of_items(path) - empty)
    assert found[1] == pytest.approx(2 * found[0], rel=0.1)
