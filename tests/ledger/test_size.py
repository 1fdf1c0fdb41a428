"""How large a ledger becomes in which every item is written by every run: the slow tier, since it lives for months."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from string import ascii_letters, digits
from uuid import UUID

import pytest

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.conclusion import Billed
from meter_sync.core.planning.stages import Acknowledged, Write
from meter_sync.ledger import Ledger, RunRecord, Scope, open_ledger
from meter_sync.ledger.conclusions import Conclusion
from tests.core.builders import make_item, make_metered, make_write
from tests.ledger.steps import compacted

pytestmark = pytest.mark.simulation

HOUR, DAY, MONTH = timedelta(hours=1), timedelta(days=1), timedelta(days=30)
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
ITEMS = 40
_CHARACTERS = ascii_letters + digits
MONTHS = 4


class Account:
    """An account whose items begin at hours of their own, and of which each run writes every item."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._listed: dict[str, SubscriptionItem] = {}
        self._last: dict[str, str] = {}
        self._drawn = Random(1)  # noqa: S311 - not for secrets

    def run(self, number: int) -> None:
        at = BEGINNING + number * HOUR + timedelta(seconds=1 + number % 37)
        run = RunRecord(str(UUID(int=self._drawn.getrandbits(128))), at, at, "hourly", everything=True)
        listed = [self._item(item, number) for item in range(ITEMS)]
        ended = [before for one in listed if (before := self._listed.get(one.id)) and before.key != one.key]
        self.ledger.runs.begin(run)
        self.ledger.listed.record(listed, at)
        self.ledger.listed.conclude([Conclusion(*one.key, closed_as=Billed()) for one in ended], at)
        writes: list[Write] = []
        for one in listed:
            follows = self._last.get(one.id) if self._listed.get(one.id, one).key == one.key else None
            quantity = (number * 397 + len(writes) * 31) % 90000
            writes.append(make_write(quantity, metered=make_metered(one, as_of=at), follows=follows))
            self._listed[one.id], self._last[one.id] = one, run.id
        intended = self.ledger.writes.claim(run, [checked_before(one) for one in writes], at, 0)
        assert len(intended) == ITEMS
        done = [Acknowledged(one, at, f"req_{''.join(self._drawn.choices(_CHARACTERS, k=14))}") for one in intended]
        self.ledger.writes.acknowledge(run, done)
        self.ledger.writes.release(run, writes)
        self.ledger.runs.finish(run.id, at, 0, {"reported": ITEMS})
        compacted(self.ledger, at)

    @staticmethod
    def _item(number: int, hour: int) -> SubscriptionItem:
        began = number * 17 % 720
        start = BEGINNING + ((hour + began) // 720 * 720 - began) * HOUR
        return make_item(f"si_{number:014}", start=start, end=start + MONTH, created=BEGINNING - MONTH)


def test_after_two_months_a_ledger_grows_by_little_though_every_run_writes_every_item(tmp_path: Path) -> None:
    """Without compaction it would grow by 200,000 bytes a month for each item."""
    path = tmp_path / "ledger.sqlite3"
    sizes = []
    with open_ledger(path, Scope("", "live")) as ledger:
        account = Account(ledger)
        for month in range(MONTHS):
            for hour in range(720):
                account.run(month * 720 + hour)
            sizes.append(path.stat().st_size / ITEMS)
        written = ledger.overview.size()["writes"] / ITEMS
    assert sizes[1] < 100_000
    grown = [later - before for before, later in pairwise(sizes[1:])]
    # Of that the runs are most, which are shared by all items of an account.
    assert all(one < 8_000 for one in grown)
    assert 1000 < written < 1800
