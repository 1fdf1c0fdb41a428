"""Where books are copied from, and to: each within one transaction that keeps all others from changing them."""

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from meter_sync.core.scope import Scope
from meter_sync.errors import ArgumentsError, LedgerError, TryAgainError
from meter_sync.ledger.files import make_last, unwritable
from meter_sync.ledger.migrate import REVISIONS, make, revision, upgrade
from meter_sync.ledger.schema import callers, claims, epochs, metadata, run_locks, turns
from meter_sync.ledger.sqlite import FileMarker, SqliteStore
from meter_sync.ledger.store import OF_LEDGER, Marker, Store
from meter_sync.ledger.stores import Place, store_of

MODES = ("live", "sandbox")
_BESIDE = ".new"


@dataclass(frozen=True, slots=True)
class Source:
    """A ledger that is copied, while nobody changes it."""

    store: Store
    itself: Connection
    """Within a transaction that may leave a note."""
    books: Connection
    """Where its books are as this version has them: there, or in a copy that was brought up to date."""
    marker: Marker

    @property
    def is_restored(self) -> bool:
        """Whether runs may have written that it knows nothing of (`ledger.epochs`)."""
        of_books = sa.select(epochs.c.epoch, epochs.c.marker)
        for name in self.named:
            kept = self.books.execute(of_books.where(epochs.c.name == name)).first()
            if self.marker.read(name) not in (tuple(kept) if kept else (None,)):
                return True
        return False

    @property
    def named(self) -> list[str]:
        """The names of what the ledger has of its own for each account, and for what is on a test clock."""
        every = self.books.execute(sa.select(epochs.c.name)).scalars()
        return sorted({OF_LEDGER, *(one for one in every if one.startswith(f"{OF_LEDGER}:"))})


@contextmanager
def locked(place: Place, accounts: Iterable[str]) -> Iterator[None]:
    """Hold the run locks of accounts' books in a ledger."""
    store = store_of(place)
    modes = MODES[:1] if isinstance(place, Path) else MODES  # a file has one lock for both
    with ExitStack() as held:
        for account in sorted({"", *accounts}):
            for mode in modes:
                held.enter_context(store.run_lock(Scope(account, mode)))
        yield


def accounts_in(place: Place) -> set[str]:
    """Return whose books are in a ledger, as the accounts of its run locks. Raise LedgerError if there is none."""
    store = store_of(place)
    if not store.is_there:
        raise _missing(store)
    with store.connected_to_read() as connection, store.translated(), connection.begin():
        there = sa.inspect(connection).get_table_names() if revision(connection) else []
        # Who asks now is noted by servers, too, which have no books and no lock (`sync.allowance`).
        of_books = [one for one in metadata.sorted_tables if "account" in one.c and one is not callers]
        named = [sa.select(one.c.account) for one in of_books if one.name in there]
        if not named:
            return set()
        return {Scope(account, "").of_key.account for account in connection.execute(sa.union(*named)).scalars()}


@contextmanager
def opened_source(place: Place, at: datetime) -> Iterator[Source]:
    """Open a ledger whose run locks are held. Raise TryAgainError while a run beside those is writing an item."""
    store = store_of(place)
    with store.connected() as connection, store.translated(), ExitStack() as opened:
        marker, there = store.marker(connection), at + store.ahead_of(connection)
        _at_one_moment(connection)
        opened.enter_context(connection.begin())
        found = revision(connection)
        if found is None:
            raise _missing(store)
        is_current = found == REVISIONS[-1]
        if is_current:
            keep_others_out(connection)
        books = connection if is_current else opened.enter_context(_brought_up_to_date(place))
        refuse_writing(store, books, there, "copied")
        yield Source(store, connection, books, marker)


def _at_one_moment(connection: Connection) -> None:
    """Have all that is read be of one moment, as it always is in a file."""
    if connection.dialect.name == "postgresql":
        connection.execution_options(isolation_level="REPEATABLE READ")


def keep_others_out(connection: Connection) -> None:
    """Wait for who is changing the books, and let nobody else do so before the end of the transaction.

    That has to come before anything is read (PostgreSQL documentation, "LOCK", Description). A transaction of SQLite's
    has it from its begin on. The holders of run locks go on to beat.
    """
    if connection.dialect.name == "postgresql":
        names = ", ".join(one.name for one in metadata.sorted_tables if one is not run_locks)
        connection.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")


@contextmanager
def _brought_up_to_date(place: Place) -> Iterator[Connection]:
    """Make a copy of a file of an older version beside it, of this version, for as long as this lasts.

    It is read by a connection of its own: from one that may write a copy would wait without end (SQLite documentation,
    `sqlite3_backup_step`).
    """
    if not isinstance(place, Path):
        raise AssertionError("taking the run lock has brought a database on a server up to date")
    with tempfile.TemporaryDirectory(prefix=f"{place.name}-", dir=place.parent) as folder:
        store, copy = SqliteStore(place), SqliteStore(Path(folder, place.name))
        with copy.connected() as new, copy.translated():
            with store.connected_to_read() as connection, store.translated(), connection.begin():
                revision(connection)  # which begins to read
                store.copy_into(connection, new)
            with new.begin():
                upgrade(new)
            with new.begin():
                yield new


def refuse_writing(store: Store, books: Connection, at: datetime, done: str) -> None:
    """A claim of a run that is beside the lock's holder says that an answer of Stripe's is awaited."""
    writing = sa.select(claims.c.item).where(claims.c.is_alone.is_(False), claims.c.expires_at > at)
    item = books.execute(writing).scalar()
    if item is not None:
        raise TryAgainError(
            f"a closing run or the webhook is writing {item} by the ledger {store}; nothing was {done}",
            "stop the schedule and the webhook, and try again; what a run leaves that was killed is over in two "
            "minutes",
            code="locked",
        )


class Target(ABC):
    """A ledger without any books, within a transaction that fills it."""

    def __init__(self, store: Store, connection: Connection) -> None:
        self.store = store
        self.connection = connection

    def put_epoch(self, names: Iterable[str], epoch: str, *, is_known: bool) -> None:
        """Begin the epoch of the new books of each account.

        They are taken for restored where no marker says what is in the row.
        """
        marker = self._marker_of(epoch) if is_known else epoch
        self.connection.execute(sa.insert(epochs), [{"name": name, "epoch": epoch, "marker": marker} for name in names])

    @abstractmethod
    def _marker_of(self, epoch: str) -> str | None:
        """Return what the marker says of books that are where they belong."""

    @abstractmethod
    def prepare(self) -> None:
        """Do all that can fail, but for what makes the books the ledger."""

    @abstractmethod
    def finish(self, names: Iterable[str], epoch: str, *, is_known: bool) -> None:
        """Make the books the ledger."""


@contextmanager
def opened_target(place: Place) -> Iterator[Target]:
    """Open a ledger that has no books yet, under its run locks. Nothing stays of it unless it is finished."""
    if isinstance(place, Path):
        with _new_file(place) as file:
            yield file
        return
    store = store_of(place)
    with store.connected() as connection, store.translated():
        marker = store.marker(connection).read(OF_LEDGER)
        with connection.begin() as transaction:
            store.begin_migration(connection)
            upgrade(connection)
            keep_others_out(connection)
            _refuse_books(store, connection)
            yield _ServerTarget(store, connection, transaction, marker)


class _ServerTarget(Target):
    def __init__(self, store: Store, connection: Connection, transaction: Any, marker: str | None) -> None:
        super().__init__(store, connection)
        self._transaction = transaction
        self._marker = marker

    def _marker_of(self, epoch: str) -> str | None:
        return self._marker

    def prepare(self) -> None:
        """Do nothing: a transaction that was carried out is committed, or the server is lost."""

    def finish(self, names: Iterable[str], epoch: str, *, is_known: bool) -> None:
        self._transaction.commit()


@contextmanager
def _new_file(path: Path) -> Iterator[Target]:
    _refuse_file_with_books(path)
    new = SqliteStore(path.with_name(path.name + _BESIDE))
    remove_file(new.path)
    try:
        with new.connected() as connection, new.translated(), connection.begin() as transaction:
            make(connection)
            yield _FileTarget(path, new, connection, transaction)
    finally:
        remove_file(new.path)


class _FileTarget(Target):
    def __init__(self, path: Path, new: SqliteStore, connection: Connection, transaction: Any) -> None:
        super().__init__(SqliteStore(path), connection)
        self._path = path
        self._new = new
        self._transaction = transaction

    def _marker_of(self, epoch: str) -> str | None:
        return epoch

    def prepare(self) -> None:
        self._transaction.commit()

    def finish(self, names: Iterable[str], epoch: str, *, is_known: bool) -> None:
        marker = FileMarker(self._path)
        if is_known:
            for name in names:
                marker.write(name, epoch)
        put_in_place(self._new.path, self._path)


def put_in_place(new: Path, path: Path) -> None:
    """Give a file that was written its name, to last. Raise ConfigurationError if that fails."""
    try:
        new.replace(path)
        make_last(path.parent)
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def remove_file(path: Path) -> None:
    """Remove a file of SQLite's that was not finished, with its journal. Raise ConfigurationError if that fails."""
    try:
        for one in (path, path.with_name(path.name + "-journal")):
            one.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def _refuse_file_with_books(path: Path) -> None:
    store = SqliteStore(path)
    if not store.is_there:
        return
    with store.connected_to_read() as connection, store.translated(), connection.begin():
        if revision(connection) is not None:
            _refuse_books(store, connection)


def _refuse_books(store: Store, connection: Connection) -> None:
    """Raise ArgumentsError for a ledger that has any row, but for those that say who is at work."""
    there = set(sa.inspect(connection).get_table_names())
    for table in metadata.sorted_tables:
        if table.name not in there or table in (run_locks, turns):
            continue
        if connection.execute(sa.select(sa.literal(1)).select_from(table).limit(1)).scalar() is not None:
            raise ArgumentsError(
                f"there are books in the ledger {store} already; nothing was copied",
                "name a place that has none: a file that is not there, or a database that is empty",
                code="ledger_not_empty",
            )


def is_same_place(one: Place, other: Place) -> bool:
    """Say whether two places are one, as far as their names tell."""
    if isinstance(one, Path) and isinstance(other, Path):
        return os.path.realpath(one) == os.path.realpath(other)
    return str(one) == str(other)


def _missing(store: Store) -> LedgerError:
    return LedgerError(
        f"the ledger {store} is missing, or is empty; nothing was copied",
        "name the ledger that the runs use: meter-sync config show says which that is",
        code="ledger_missing",
    )
