"""The books of one Stripe account and mode, in a file. Every public write of a book is one short transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, NullPool, event

from meter_sync.errors import LedgerError
from meter_sync.ledger.additions import Additions
from meter_sync.ledger.binding import Binding
from meter_sync.ledger.callers import Callers
from meter_sync.ledger.compaction import Compaction
from meter_sync.ledger.database import Database, Scope
from meter_sync.ledger.epochs import Epochs
from meter_sync.ledger.files import make_file, translated, unwritable
from meter_sync.ledger.history import History
from meter_sync.ledger.holds import Holds
from meter_sync.ledger.kept import KeptUsages
from meter_sync.ledger.listed import ListedPeriods
from meter_sync.ledger.markers import Markers
from meter_sync.ledger.memory import Memories
from meter_sync.ledger.migrate import REVISIONS, revision, upgrade
from meter_sync.ledger.overview import Overview
from meter_sync.ledger.pruning import Pruning
from meter_sync.ledger.rejections import Rejections
from meter_sync.ledger.remainders import Remainders
from meter_sync.ledger.runs import Runs
from meter_sync.ledger.schema import metadata
from meter_sync.ledger.webhook_queue import WebhookQueue
from meter_sync.ledger.writes import Writes

_BUSY_SECONDS = 30
_DAMAGES_NAMED = 3


class Ledger:
    """What was intended, what Stripe acknowledged, and which run did it: a book for each."""

    def __init__(self, database: Database) -> None:
        self.mode = database.scope["mode"]
        """The mode of Stripe that these books are about: `live` or `sandbox`."""
        self.refused = database.refused
        """Of which items' periods a row was not taken since the ledger was opened, and why."""
        self.damaged = database.damaged
        """Why what was found of items since then cannot be read: nothing is written for them."""
        self.own_trouble_of = database.own_trouble_of
        self.additions = Additions(database)
        self.binding = Binding(database)
        self.callers = Callers(database)
        self.compaction = Compaction(database)
        self.epochs = Epochs(database)
        self.history = History(database)
        self.holds = Holds(database)
        self.kept = KeptUsages(database)
        self.listed = ListedPeriods(database)
        self.markers = Markers(database)
        self.memory = Memories(database)
        self.overview = Overview(database)
        self.pruning = Pruning(database)
        self.rejections = Rejections(database)
        self.remainders = Remainders(database)
        self.runs = Runs(database)
        self.webhook_queue = WebhookQueue(database)
        self.writes = Writes(database)


@contextmanager
def open_ledger(path: Path, scope: Scope) -> Iterator[Ledger]:
    """Open the ledger for writing, made and brought up to date if need be, and close it at the end.

    Raise ConfigurationError, LedgerError or TryAgainError, each with what to do.
    """
    make_file(path)
    with _connected(path, f"file:{_quoted(path)}?mode=rw") as connection:
        with translated(path), connection.begin():
            upgrade(connection)
        yield Ledger(Database(connection, path, scope))


@contextmanager
def open_ledger_read_only(path: Path, scope: Scope) -> Iterator[Ledger]:
    """Open the ledger without any way to change its file. A missing or empty one reads as one that knows nothing.

    An older one is read as the next run will make it: a copy in memory is brought up to date.
    Raise ConfigurationError, LedgerError or TryAgainError, each with what to do.
    """
    try:
        is_there = path.exists()
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error
    with _in_memory() as memory:
        found = None
        if is_there:
            with _connected(path, f"file:{_quoted(path)}?mode=ro") as connection:
                found = _revision_or_copy(connection, memory, path)
                if found == REVISIONS[-1]:
                    yield Ledger(Database(connection, path, scope))
                    return
        with translated(path), memory.begin():
            if found is None:
                metadata.create_all(memory)
            else:
                upgrade(memory)
        yield Ledger(Database(memory, path if found else Path(":memory:"), scope))


def _revision_or_copy(connection: Connection, memory: Connection, path: Path) -> str | None:
    """Return a ledger's revision, or None for an empty one; copy it if it is older than this version.

    The copy is made in a transaction that has read already: it would wait without end for another program's lock.
    """
    with translated(path), connection.begin():
        found = revision(connection)
        if found not in (None, REVISIONS[-1]):
            of_file: Any = connection.connection.driver_connection
            of_file.backup(memory.connection.driver_connection)
        return found


@contextmanager
def _in_memory() -> Iterator[Connection]:
    engine = sa.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@contextmanager
def _connected(path: Path, uri: str) -> Iterator[Connection]:
    with translated(path):
        connection = _engine(uri).connect()
    with connection:
        yield connection


@lru_cache(maxsize=8)
def _engine(uri: str) -> Engine:
    """Return what makes connections whose transactions are really SQLite's, with a journal that survives power loss.

    The rollback journal with synchronous=FULL rather than WAL: the SQLite of today's Debian has a WAL bug that can
    corrupt. It is kept for the next run of a process, for what it has compiled, and keeps no connection open.
    """
    engine = sa.create_engine(f"sqlite:///{uri}&uri=true", connect_args={"timeout": _BUSY_SECONDS}, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if "mode=ro" in uri else "BEGIN IMMEDIATE")

    return engine


@dataclass(frozen=True, slots=True)
class FileState:
    """What is to be said of a ledger's file, apart from what is in it."""

    revision: str | None
    """Its schema; None for an empty file."""
    is_current: bool
    """Whether that is the one of this version."""
    damage: list[str]
    """What SQLite finds wrong with it; empty where it is whole."""


def file_state(path: Path) -> FileState:
    """Look at the file of a ledger, which is there, without changing it: all of it is read.

    Raise ConfigurationError, LedgerError or TryAgainError, each with what to do.
    """
    with (
        _connected(path, f"file:{_quoted(path)}?mode=ro") as connection,
        translated(path),
        connection.begin(),
    ):
        found = revision(connection)
        said = connection.exec_driver_sql(f"PRAGMA integrity_check({_DAMAGES_NAMED})").scalars().all()
        return FileState(found, found == REVISIONS[-1], [one for one in said if one != "ok"])


def books_in_use(path: Path, mode: str) -> Scope:
    """Return whose books a person asks for: those of the mode that the ledger is bound to, which are its only ones.

    `mode` is the key's, for a ledger that is not bound: without a key, or with another one, nothing must look settled.
    Raise LedgerError for a ledger that would answer as if all were well, since it is missing or no run has used it.
    """
    books = Scope("", mode)
    with open_ledger_read_only(path, books) as ledger:
        bound = ledger.binding.read()
    books = replace(books, mode=bound.mode) if bound else books
    with open_ledger_read_only(path, books) as ledger:
        if ledger.runs.last_begun() is not None:
            return books
    raise LedgerError(
        f"the ledger {path} {'knows of no run' if path.exists() else 'is missing'}: it says nothing of what was billed",
        "name the ledger that the runs use, by METER_SYNC_LEDGER or `ledger` in the TOML file: another user, working "
        "directory or environment may have another one; before the first run there is none",
        code="ledger_missing",
    )
