"""A ledger in a file of SQLite's, which needs no server: the usual one."""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, NullPool, Table, event
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.exc import DatabaseError, IntegrityError

from meter_sync.core.scope import Scope
from meter_sync.errors import LedgerError, MeterSyncError, TryAgainError
from meter_sync.ledger.file_lock import FileLock, file_lock, process_that_holds
from meter_sync.ledger.file_systems import refuse_shared
from meter_sync.ledger.files import make_file, read_text, replace_text, unwritable
from meter_sync.ledger.migrate import REVISIONS
from meter_sync.ledger.store import OF_LEDGER, Holder, Marker, RowUnwritten, State, Store

_OPENED: ContextVar[str] = ContextVar("opened")
"""The file that is being opened, as SQLite's URI."""
_BUSY_SECONDS = 30
_HARDLY_MS = 20
_DAMAGES_NAMED = 3


class SqliteStore(Store):
    """A ledger in a file. A transaction keeps all others from writing from its begin on."""

    takes_any_value = True

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_there(self) -> bool:
        """Whether there is such a file."""
        try:
            return self.path.exists()
        except OSError as error:
            raise unwritable(self.path, error.strerror or str(error)) from error

    @contextmanager
    def connected(self) -> Iterator[Connection]:
        """Connect to write; the file is made if it is missing."""
        refuse_shared(self.path)  # also for whoever holds no run lock, such as a closing run
        make_file(self.path)
        with self._connected("rw") as connection:
            yield connection

    def connected_to_read(self) -> AbstractContextManager[Connection]:
        """Connect without any way to change the file."""
        return self._connected("ro")

    def _connected(self, mode: str) -> AbstractContextManager[Connection]:
        return self._opened(_engine(), _OPENED, f"file:{_quoted(self.path)}?mode={mode}")

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what SQLite raises into an error that says what to do."""
        try:
            yield
        except (DatabaseError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, DatabaseError) else error
            if isinstance(error, IntegrityError):
                raise RowUnwritten(
                    f"the ledger {self} did not take a row: {cause}", "report it with this message"
                ) from error
            if getattr(cause, "sqlite_errorname", None) in _NEEDS_ROLLBACK:
                raise _unfinished(self.path) from error
            raise _meaning(self.path, str(cause)) from error

    def begin_migration(self, connection: Connection) -> None:
        """Do nothing: the transaction keeps others out from its begin."""

    def begin_change(self, connection: Connection, scope: Scope) -> None:
        """Do nothing: the transaction keeps others out from its begin."""

    def begin_reading(self, connection: Connection) -> None:
        """Do nothing: a transaction of SQLite's reads what is of one moment."""

    @contextmanager
    def hardly_waiting(self, connection: Connection) -> Iterator[None]:
        """Let what is inside fail where another program is writing, rather than wait until it has done so."""
        of_file: Any = connection.connection.driver_connection
        (usual_ms,) = of_file.execute("PRAGMA busy_timeout").fetchone()
        of_file.execute(f"PRAGMA busy_timeout = {_HARDLY_MS}")
        try:
            yield
        finally:
            of_file.execute(f"PRAGMA busy_timeout = {usual_ms}")

    @staticmethod
    def insert(table: Table) -> Any:
        """Return a statement that adds rows."""
        return insert(table)

    def copy_into(self, connection: Connection, memory: Connection) -> None:
        """Copy the file, page by page, within a transaction that has read it already.

        Else this would wait without end for another program's lock.
        """
        of_file: Any = connection.connection.driver_connection
        of_file.backup(memory.connection.driver_connection)

    def size_bytes(self, connection: Connection) -> int:
        """Return the size of the file."""
        return self.path.stat().st_size

    def marker(self, connection: Connection) -> Marker:
        """Return the file beside the ledger."""
        return FileMarker(self.path)

    def ahead_of(self, connection: Connection) -> timedelta:
        """Return nothing: all who write a file are on one machine."""
        return timedelta(0)

    def run_lock(self, scope: Scope) -> AbstractContextManager[FileLock]:
        """Hold the lock file beside the ledger, which an account has of its own."""
        return file_lock(self.path, scope.account)

    def lock_holder(self, scope: Scope) -> Holder | None:
        """Return which process holds the lock file."""
        process = process_that_holds(self.path, scope.account)
        return Holder(f"process {process}", f"kill {process}") if process is not None else None

    def state(self, connection: Connection, found: str | None) -> State:
        """Look at the file: all of it is read."""
        said = connection.exec_driver_sql(f"PRAGMA integrity_check({_DAMAGES_NAMED})").scalars().all()
        return State(found, found == REVISIONS[-1], [one for one in said if one != "ok"])


class FileMarker(Marker):
    """A file beside the ledger that has the newest epochs: the ledger's own in its first line, then others by name."""

    def __init__(self, ledger: Path) -> None:
        self._path = ledger.with_name(ledger.name + ".epoch")

    def read(self, name: str) -> str | None:
        """Return the epoch of books that was written last."""
        return self._read().get(name)

    def write(self, name: str, epoch: str) -> None:
        """Put an epoch in the place of the one before. Whoever calls keeps all others from doing so meanwhile."""
        epochs = {**self._read(), name: epoch}
        first = epochs.pop(OF_LEDGER, "")
        replace_text(self._path, "\n".join([first, *(f"{name} {one}" for name, one in sorted(epochs.items()))]))

    def _read(self) -> dict[str, str]:
        text = read_text(self._path)
        if text is None:
            return {}
        first, *others = text.split("\n")
        named = (line.rpartition(" ") for line in others)
        return {**({OF_LEDGER: first} if first else {}), **{name: epoch for name, _, epoch in named}}


@contextmanager
def in_memory() -> Iterator[Connection]:
    """Make a database in memory, for as long as this lasts."""
    engine = sa.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@cache
def _engine() -> Engine:
    """Return what makes connections whose transactions are really SQLite's, with a journal that survives power loss.

    The rollback journal with synchronous=FULL rather than WAL: the SQLite of today's Debian has a WAL bug that can
    corrupt. There is one for all files, for what it has compiled, and it keeps no connection open.
    """
    engine = sa.create_engine("sqlite://", creator=_opened, poolclass=NullPool)

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.info["begin"])

    @event.listens_for(engine, "connect")
    def _note(_connection: Any, record: Any) -> None:
        record.info["begin"] = "BEGIN" if _OPENED.get().endswith("mode=ro") else "BEGIN IMMEDIATE"

    return engine


def _opened() -> sqlite3.Connection:
    connection = sqlite3.connect(
        _OPENED.get(), timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True
    )
    connection.execute("PRAGMA synchronous=FULL")
    return connection


_NEEDS_ROLLBACK = frozenset({"SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY_RECOVERY"})
"""What a reader is told that finds a journal beside the file, of a writer that is no more (SQLite: Result Codes)."""


def _unfinished(path: Path) -> MeterSyncError:
    return TryAgainError(
        f"the ledger {path} is as a run left it that was killed while it wrote: what reads only cannot take back what "
        "is half-written; nothing was read",
        "the next run takes it back by itself, and loses nothing: wait for it, or start one; leave the file beside it "
        "that ends with -journal where it is",
        code="ledger_unfinished",
    )


def _meaning(path: Path, said: str) -> MeterSyncError:
    if "not a database" in said or "malformed" in said:
        return LedgerError(
            f"the ledger {path} is damaged: {said}",
            "keep a copy and move the file away; the next run reads back from Stripe what it needs, so nothing is "
            "billed twice or lost",
            code="ledger_damaged",
        )
    if "disk is full" in said or "disk I/O error" in said:
        return LedgerError(
            f"the ledger {path} could not be written, the disk is full or failing: {said}",
            "make room and run again; what was sent but not recorded is set again to the same quantity",
            code="ledger_full",
        )
    if "locked" in said:
        return TryAgainError(
            f"the ledger {path} is in use by another program: {said}",
            "close whatever has it open, and run again",
            code="ledger_busy",
        )
    if "unable to open" in said or "readonly" in said:
        return unwritable(path, said)
    return LedgerError(f"the ledger {path} failed: {said}", "report it with this message")
