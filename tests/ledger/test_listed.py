"""What the ledger knows of listed items: of an account in which nothing changes it has nothing to say, nor to write."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from meter_sync.core.outcomes import Outcome
from meter_sync.ledger import Scope, open_ledger
from tests.core.builders import make_item
from tests.support.world import NOW, World


def test_an_item_that_is_as_it_was_is_the_one_that_was_listed(tmp_path: Path) -> None:
    same, other, new = (make_item(f"si_{number}") for number in range(3))
    with open_ledger(tmp_path / "ledger.sqlite3", Scope("", "sandbox")) as ledger:
        ledger.listed.record([same, other], NOW)
        changed = replace(other, metadata={"plan": "pro"})
        known = ledger.listed.as_known([same, changed, new])
    assert known["si_0"] is same
    assert known == {"si_0": same, "si_1": other}


def test_where_nothing_changed_no_row_is_written_of_what_was_listed(world: World) -> None:
    for _ in range(3):
        world.use(world.subscribe(), 5)
    world.execute()
    with closing(sqlite3.connect(world.ledger)) as ledger, ledger:
        for change in ("INSERT", "UPDATE"):
            ledger.execute(
                f"CREATE TRIGGER no_{change} BEFORE {change} ON seen_periods"
                " BEGIN SELECT RAISE(ABORT, 'nothing is to be written'); END"
            )
    assert {one.outcome for one in world.execute().values()} == {Outcome.UNCHANGED}
