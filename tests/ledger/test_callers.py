"""Which runs ask Stripe at this moment: the ledger knows it, also of those that were killed."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection

from meter_sync.errors import TryAgainError
from meter_sync.ledger import RunRecord, Scope, open_ledger
from meter_sync.ledger.callers import COUNTS_FOR_SECONDS, LIVES_FOR_SECONDS, Callers, enter, leave
from meter_sync.ledger.database import Database
from meter_sync.ledger.schema import callers, metadata
from meter_sync.ledger.sqlite import SqliteStore
from meter_sync.ledger.store import Marker
from meter_sync.net.shares import Caller, Part
from tests.core.builders import AS_OF

FULL = RunRecord("full", AS_OF, AS_OF, "hourly", everything=True)
CLOSING = replace(FULL, id="closing", is_alone=False, everything=False)
PARTS = {"*": Part(25, 20), "post usage_records": Part(25, 10)}


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = sa.create_engine("sqlite://")
    metadata.create_all(engine)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


class Books:
    """The book as one process sees it, at a time of its own."""

    def __init__(self, connection: Connection, account: str = "", mode: str = "live") -> None:
        self.database = Database(connection, SqliteStore(Path("ledger")), Scope(account, mode), marker=Marker())
        self.now = 1_800_000_000.0
        self.callers = Callers(self.database, lambda: self.now)

    def enter(self, run: RunRecord) -> None:
        with self.database.transaction():
            enter(self.database, run, lambda: self.now)

    def leave(self, run: RunRecord) -> None:
        with self.database.transaction():
            leave(self.database, run.id, lambda: self.now)

    def others(self, run: RunRecord, after_seconds: float = 0.0) -> list[Caller]:
        self.now += after_seconds
        return self.callers.others(run)


def test_a_run_knows_who_else_asks_and_what_of_the_limits_they_take(connection: Connection) -> None:
    books = Books(connection)
    books.enter(FULL)
    books.enter(CLOSING)
    books.callers.renew(FULL, PARTS)

    assert books.others(CLOSING) == [Caller("full", False, PARTS)]
    assert books.others(FULL) == [Caller("closing", True, {})]


def test_a_run_that_has_ended_does_not_come_back_by_what_it_still_says(tmp_path: Path) -> None:
    """As one that looked at the others once more while it ended, after it had packed the ledger for seconds."""
    now = 1_800_000_000.0
    with open_ledger(tmp_path / "ledger.sqlite3", Scope("", "live")) as ledger:
        database = ledger.callers.database
        book = Callers(database, lambda: now)
        ledger.runs.begin(FULL)
        with database.transaction():
            for one in (CLOSING, FULL):
                database.delete_where(callers, callers.c.run == one.id)
                enter(database, one, lambda: now)
        book.renew(FULL, PARTS)
        assert [one.run for one in book.others(CLOSING)] == ["full"]
        ledger.runs.finish(FULL.id, AS_OF, 0, {})
        with database.transaction():
            leave(database, FULL.id, lambda: now)

        now += 0.9
        book.renew(FULL, PARTS)

        now += COUNTS_FOR_SECONDS
        assert book.others(CLOSING) == []


def test_a_run_that_was_killed_holds_its_part_for_seconds(connection: Connection) -> None:
    books = Books(connection)
    books.enter(FULL)
    books.callers.renew(FULL, PARTS)
    books.enter(CLOSING)

    assert books.others(CLOSING, LIVES_FOR_SECONDS - 0.5)[0].part("*") == Part(0, 10)
    assert books.others(CLOSING, 0.5) == []
    books.callers.renew(FULL, PARTS)
    assert len(books.others(CLOSING)) == 1


@pytest.mark.parametrize("damaged", ["", "{", "[]", "7", '{"*": 1}', '{"*": [1]}', '{"*": ["a", null]}'])
def test_a_row_that_cannot_be_read_ends_nothing(connection: Connection, damaged: str) -> None:
    books = Books(connection)
    books.enter(FULL)
    with books.database.transaction():
        books.database.update(callers, [{"run": "full", "parts": damaged}], by=("run",))

    assert books.others(CLOSING) == [Caller("full", False, {})]


def test_while_another_program_writes_nobody_waits(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    with open_ledger(path, Scope("", "live")) as ledger, closing(sqlite3.connect(path, isolation_level=None)) as other:
        ledger.runs.begin(FULL)
        other.execute("BEGIN EXCLUSIVE")
        for ask in (lambda: ledger.callers.others(CLOSING), lambda: ledger.callers.renew(FULL, PARTS)):
            with pytest.raises(TryAgainError):
                ask()
        other.execute("ROLLBACK")
        ledger.callers.renew(FULL, PARTS)
        assert ledger.callers.others(CLOSING) == [Caller("full", False, PARTS)]


def test_the_next_run_that_holds_the_lock_knows_that_the_last_one_is_dead(connection: Connection) -> None:
    books = Books(connection)
    books.enter(FULL)
    books.callers.renew(FULL, PARTS)
    books.enter(CLOSING)
    again = replace(FULL, id="again")
    books.enter(again)

    assert [one.run for one in books.others(again)] == ["closing"]


def test_what_a_run_has_asked_counts_for_a_second_after_its_end(connection: Connection) -> None:
    books = Books(connection)
    books.enter(FULL)
    books.callers.renew(FULL, PARTS)
    books.leave(FULL)

    assert books.others(CLOSING, COUNTS_FOR_SECONDS / 2)[0].part("*") == Part(0, 10)
    assert books.others(CLOSING, COUNTS_FOR_SECONDS / 2) == []


def test_a_clock_that_was_set_back_lets_nobody_count_for_longer(connection: Connection) -> None:
    books = Books(connection)
    books.enter(FULL)

    assert books.others(CLOSING, -3600.0) == []


def test_what_is_on_a_test_clock_counts_with_its_account_but_not_what_is_of_another(connection: Connection) -> None:
    books = Books(connection, mode="sandbox")
    books.enter(FULL)
    clock, other, live = (
        Books(connection, "/clock_1", "sandbox"),
        Books(connection, "eu", "sandbox"),
        Books(connection, "", "live"),
    )
    clock.enter(CLOSING)

    assert [one.run for one in books.others(FULL)] == ["closing"]
    assert [one.run for one in clock.others(CLOSING)] == ["full"]
    assert other.others(CLOSING) == live.others(CLOSING) == []


def test_the_shadow_of_an_account_has_limits_of_its_own_and_what_is_on_a_test_clock_there_counts_with_it(
    connection: Connection,
) -> None:
    account = Books(connection, "eu", "sandbox")
    shadow = Books(connection, Scope("eu", "sandbox").shadow.account, "sandbox")
    clock = Books(connection, "eu/shadow/clock_1", "sandbox")
    account.enter(FULL)
    clock.enter(CLOSING)

    assert account.others(FULL) == []
    assert [one.run for one in shadow.others(FULL)] == ["closing"]
    assert clock.others(CLOSING) == []
