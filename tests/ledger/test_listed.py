"""Of an account in which nothing changes the ledger has nothing to write."""

import sqlite3
from contextlib import closing

from meter_sync.core.outcomes import Outcome
from tests.support.world import World


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
