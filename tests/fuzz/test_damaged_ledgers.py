"""Ledgers of which any one value is something else: no command ends with a traceback, and no bill is wrong.

The world is made once, and each case plays in a fork of this process, with a copy of its ledger.
"""

import os
import pickle
import sqlite3
import traceback
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from meter_sync.core.outcomes import Outcome
from meter_sync.ledger.schema import metadata
from tests.support.runs import executed
from tests.support.ways import ALL_WAYS, WAYS, metered_price
from tests.support.world import NOW, World

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""A value of each kind is in `tests/end_to_end/test_own_trouble.py`."""

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
VALUES: dict[str, object] = {
    "text": "by the minute",
    "blob": b"\x00\xff",
    "huge": 2**62,
    "negative": -7,
    "nothing": None,
}
KINDS = list(VALUES.items())
"""Each column gets two of them, in turn: a run for each of all would take half an hour."""
_OF_WHOM = frozenset({"account", "mode"})
"""Whose books a row is in: with another one it is another account's."""

_WAY_OF = {"additions": "additions", "past_additions": "additions", "parts": "hours", "past_parts": "hours"}
"""Tables that only items of one way have rows in."""


class Played:
    """A world with an item of each way over the end of a period, and one that is canceled."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder, NOW - 10 * DAY)
        world = self.world
        with world.sandbox.in_background():
            start = NOW - 33 * DAY
            prices = [world.price, *(metered_price(world, way) for way in WAYS)]
            self.subscriptions = [world.subscribe(price, period_start=start) for price in (*prices, *prices)]
            self.gone = world.subscribe(period_start=start)
            for _ in range(10):
                for one in (*self.subscriptions, self.gone):
                    world.use(one, 10, at=world.now - HOUR)
                world.execute()
                world.sandbox.clock.advance(DAY + HOUR)
            world.stripe.cancel(self.gone.id, invoice_now=True)
            world.execute()
        self.before = {one.id: world.billed(one) for one in self.subscriptions}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    return Played(tmp_path_factory.mktemp("played"))


def in_fork(play: Callable[[], str | None]) -> str | None:
    """Return what is wrong by a play in a fork of this process, which leaves nothing behind in it."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said: str | None = play()
        except BaseException:
            said = traceback.format_exc()
        with os.fdopen(writes, "wb") as pipe:
            pickle.dump(said, pipe)
        os._exit(0)
    os.close(writes)
    with os.fdopen(reads, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(told) if told else "it ended without a word"  # noqa: S301 our own fork


def damage(ledger: Path, table: str, column: str, value: object, item: str | None) -> bool:
    """Put a value into a column, of an item's rows where it is about items; return whether any row was changed."""
    where = f' WHERE item = "{item}"' if item else ""
    with closing(sqlite3.connect(ledger)) as connection, connection:
        statement = f'UPDATE OR IGNORE {table} SET "{column}" = ?{where}'  # noqa: S608
        try:
            return connection.execute(statement, [value]).rowcount > 0
        except sqlite3.IntegrityError:
            return False


COMMANDS = (("status",), ("doctor",), ("history",), ("history", "--unbilled"), ("verify",))


def play(played: Played, table: str, column: str, value: object, way: int) -> str | None:
    """Damage a value, run, and ask; return what is wrong with that, or None."""
    world, troubled = played.world, played.subscriptions[way]
    is_of_item = "item" in metadata.tables[table].c
    if not damage(world.ledger, table, column, value, troubled.items[0] if is_of_item else None):
        return None
    with world.sandbox.in_background():
        for arguments in COMMANDS if isinstance(value, str) else ():
            done = world.meter_sync(*arguments)
            if "Traceback" in done.stderr or done.code not in {0, 1, 3, 4, 75, 78}:
                return f"{' '.join(arguments)}: {done.code} {done.stderr[-2500:]}"
        for one in played.subscriptions:
            world.use(one, 5, at=world.now - HOUR)
        report = executed(world)
        # What ends a run may come before anything is written, or while it is recorded how it ended.
        wanted = {one.id: {played.before[one.id] + 5} for one in played.subscriptions}
        if report.error:
            wanted = {id: {*amounts, played.before[id]} for id, amounts in wanted.items()}
        results = {one.item.id: one for one in report.results if one.item.period.end > world.now}
        result = results.get(troubled.items[0])
        is_told = result is not None and (result.outcome in {Outcome.FAILED, Outcome.HELD})
        if is_told:
            wanted[troubled.id] |= {played.before[troubled.id]}
        billed = {one.id: world.billed(one) for one in played.subscriptions}
        wrong = {id: (amount, wanted[id]) for id, amount in billed.items() if amount not in wanted[id]}
        return f"billed: {wrong}, {result and (result.outcome, result.reason, result.message)}" if wrong else None


@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_no_value_that_is_something_else_ends_in_a_traceback_or_a_wrong_bill(played: Played, table: str) -> None:
    wrong = []
    columns = [one.name for one in metadata.tables[table].columns if one.name not in _OF_WHOM]
    kept = played.world.ledger.read_bytes()
    for number, column in enumerate(columns):
        way = ALL_WAYS.index(_WAY_OF[table]) if table in _WAY_OF else number % len(ALL_WAYS)
        for kind, value in (KINDS[(number + step) % len(KINDS)] for step in (0, 2)):
            said = in_fork(partial(play, played, table, column, value, way))
            played.world.ledger.write_bytes(kept)
            if said:
                wrong.append(f"{table}.{column} = {kind} ({ALL_WAYS[way]}): {said}")
    assert not wrong, "\n\n".join(wrong)
