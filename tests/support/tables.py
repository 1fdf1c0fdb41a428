"""Statements on a ledger's tables, as another program might carry them out, whatever kind of database it is."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from meter_sync.ledger import Ledger, Place
from meter_sync.ledger.postgres import PostgresStore
from meter_sync.ledger.sqlite import SqliteStore

FILE_ONLY = pytest.mark.parametrize("place", ["file"], indirect=True)
"""For what only SQLite can be brought to, such as a text in a column of numbers."""


def carry_out(place: Place, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Carry a statement out, with values in the place of `?`, and return the rows that it found."""
    if isinstance(place, Path):
        with closing(sqlite3.connect(place)) as file, file:
            return file.execute(statement, values).fetchall()
    with psycopg.connect(place.url, autocommit=True) as server:
        done = server.execute(statement.replace("?", "%s").encode(), values or None)
        return done.fetchall() if done.description else []


NEW_COLUMNS = (("runs", "pages"), *(("seen_periods", column) for column in ("usage", "due", "invoice")))
"""By their tables, those that `make_older` takes back."""


def make_older(place: Place) -> None:
    """Take back the last migrations, as if an earlier version had written the ledger."""
    for table in ("run_locks", "turns", "signatures"):
        carry_out(place, f"DROP TABLE {table}")
    for table, column in NEW_COLUMNS:
        carry_out(place, f'ALTER TABLE {table} DROP COLUMN "{column}"')
    carry_out(place, "DROP INDEX webhook_events_waiting")
    carry_out(place, "UPDATE alembic_version SET version_num = '0019'")


def place_of(ledger: Ledger) -> Place:
    """Where a ledger that is open is."""
    store = ledger.binding.database.store
    assert isinstance(store, SqliteStore | PostgresStore)
    return store.path if isinstance(store, SqliteStore) else store.url


def rows(ledger: Ledger, table: str, *values: object) -> int:
    """How many rows a table has, which may be followed by a condition."""
    return int(carry_out(place_of(ledger), f"SELECT count(*) FROM {table}", *values)[0][0])  # noqa: S608
