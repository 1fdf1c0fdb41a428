"""A ledger in a database of a PostgreSQL server, which many machines share."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import make_conninfo
from sqlalchemy import Connection, Engine, MetaData, NullPool, Table
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from meter_sync.core.scope import Scope
from meter_sync.errors import ConfigurationError, LedgerError, MeterSyncError, TryAgainError
from meter_sync.ledger.migrate import REVISIONS, upgrade
from meter_sync.ledger.schema import metadata
from meter_sync.ledger.server_lock import BOOKS, ServerLock, acquired, holder_of, key_of
from meter_sync.ledger.store import Holder, Marker, RowUnwritten, State, Store
from meter_sync.net.postgres_url import PostgresUrl

_BUSY_SECONDS = 30
_HARDLY_MS = 20
_OPENED: ContextVar[tuple[PostgresUrl, bool] | None] = ContextVar("opened", default=None)
"""Which database is being connected to, and whether only to read."""

_SCHEMA = key_of("schema", Scope("", ""))

CONNECTED: Mapping[str, str | int] = {
    "connect_timeout": 10,
    "client_encoding": "utf8",
    # A machine that vanishes is noticed in a minute: else its run lock would hold for two hours.
    "keepalives": 1,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 50_000,
    "application_name": "meter-sync",
}
"""How to connect, in libpq's words (PostgreSQL documentation, "Database Connection Control Functions")."""

_WHICH_COPY = """
SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
    substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8),
    (SELECT oid FROM pg_database WHERE datname = current_database()), to_regclass('epochs')::oid)
"""
"""Which cluster, which timeline of it, which database and which table: what was dumped and made anew has another table,
what was copied on the server another database, and what was recovered to a point in time, or a standby that was
promoted, another timeline (PostgreSQL documentation,
"Continuous Archiving", "Timelines"). A snapshot of a server's disk, put back as it was, has none of them: that is the
one kind of restoring that is not seen."""

_WHICH_TABLE = "SELECT to_regclass('epochs')::oid::text"
"""As much as a server says of it that is only like PostgreSQL."""


class PostgresStore(Store):
    """A ledger on a server. Who changes an account's books waits for the lock on them, at a transaction's begin."""

    def __init__(self, url: PostgresUrl) -> None:
        self.url = url

    def __str__(self) -> str:
        return str(self.url)

    @property
    def is_there(self) -> bool:
        """Whether there is one: the database is its operator's to make, and connecting says where it is not."""
        return True

    def connected(self) -> AbstractContextManager[Connection]:
        """Connect to write."""
        return self._connected(reads_only=False)

    def connected_to_read(self) -> AbstractContextManager[Connection]:
        """Connect so that the server refuses all changes."""
        return self._connected(reads_only=True)

    def _connected(self, *, reads_only: bool) -> AbstractContextManager[Connection]:
        return self._opened(_engine(), _OPENED, (self.url, reads_only))

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn what the server answers, or that it does not, into an error that says what to do."""
        try:
            yield
        except (DBAPIError, psycopg.Error) as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            raise _meaning(self.url, cause) from error

    def begin_migration(self, connection: Connection) -> None:
        """Wait for the lock on the schema: DDL is within the transaction, and is seen by others as a whole."""
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_SCHEMA)))

    def begin_change(self, connection: Connection, scope: Scope) -> None:
        """Wait for the lock on the books.

        Each statement then sees what others have committed (PostgreSQL documentation, "Read Committed Isolation
        Level"). Without the lock, two who read that nobody has claimed an item would both claim it.
        """
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key_of(BOOKS, scope))))

    def begin_reading(self, connection: Connection) -> None:
        """Have the transaction read what was committed when it reads first."""
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")

    @contextmanager
    def hardly_waiting(self, connection: Connection) -> Iterator[None]:
        """Let what is inside fail where another program is writing, rather than wait until it has done so."""
        self._wait_for_locks(connection, _HARDLY_MS)
        try:
            yield
        finally:
            self._wait_for_locks(connection, 1000 * _BUSY_SECONDS)

    def _wait_for_locks(self, connection: Connection, milliseconds: int) -> None:
        with self.translated(), connection.begin():
            connection.exec_driver_sql(f"SET lock_timeout = {milliseconds}")

    @staticmethod
    def insert(table: Table) -> Any:
        """Return a statement that adds rows."""
        return insert(table)

    def copy_into(self, connection: Connection, memory: Connection) -> None:
        """Copy every table as it is."""
        there = MetaData()
        there.reflect(connection)
        for column in (column for table in there.tables.values() for column in table.columns):
            # What only PostgreSQL has a word for; every row has its values.
            column.type, column.server_default = column.type.as_generic(), None
        with memory.begin():
            there.create_all(memory)
            for table in there.sorted_tables:
                for rows in connection.execute(sa.select(table)).mappings().partitions(1000):
                    memory.execute(sa.insert(table), [dict(row) for row in rows])

    def size_bytes(self, connection: Connection) -> int:
        """Return the size of the tables, with their indexes."""
        tables = [one.name for one in metadata.sorted_tables]
        sizes = (sa.func.pg_total_relation_size(sa.func.to_regclass(one)) for one in tables)
        return sum(connection.execute(sa.select(size)).scalar() or 0 for size in sizes)

    def marker(self, connection: Connection) -> Marker:
        """Return what the server says of which copy of the books it has."""
        for question in (_WHICH_COPY, _WHICH_TABLE):
            try:
                with connection.begin():
                    return ServerMarker(connection.exec_driver_sql(question).scalar())
            except DBAPIError as error:
                if question is _WHICH_TABLE or error.connection_invalidated:
                    raise _meaning(self.url, error.orig) from error
        raise AssertionError("the last question is answered, or raises")

    def ahead_of(self, connection: Connection) -> timedelta:
        """Return how far the server's clock is ahead of this machine's."""
        with self.translated(), connection.begin():
            there: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return there - datetime.now(UTC)

    @contextmanager
    def run_lock(self, scope: Scope) -> Iterator[ServerLock]:
        """Hold the run lock of a scope's books."""
        with self.connected() as connection, self.translated(), connection.begin():
            self.begin_migration(connection)
            upgrade(connection)
        with self._by_statement(reads_only=False) as own:
            with self._by_statement(reads_only=True) as other, self.translated():
                _refuse_pooled(self.url, own, other)
                lock = acquired(self.url, own, scope)
            with lock.held():
                yield lock

    def lock_holder(self, scope: Scope) -> Holder | None:
        """Return who holds the run lock of a scope's books."""
        with self._by_statement(reads_only=True) as connection, self.translated():
            return holder_of(connection, scope)

    @contextmanager
    def _by_statement(self, *, reads_only: bool) -> Iterator[Connection]:
        """Connect so that each statement is a transaction by itself."""
        with self._connected(reads_only=reads_only) as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def state(self, connection: Connection, found: str | None) -> State:
        """Look at the schema: whether its pages are whole, the server's own tools tell."""
        return State(found, found == REVISIONS[-1], [])


class ServerMarker(Marker):
    """Which copy of the books a server has: that is not written, but so."""

    def __init__(self, which: str | None) -> None:
        self._which = which

    def read(self, name: str) -> str | None:
        """Return which copy it is, whoever's books they are."""
        return self._which


@cache
def _engine() -> Engine:
    """Return what makes connections: one for all servers, for what it has compiled, which keeps none open."""
    return sa.create_engine("postgresql+psycopg://", creator=_opened, poolclass=NullPool)


def _opened() -> psycopg.Connection[Any]:
    """Return a new connection. One that was lost is not made again: who had it has to begin anew."""
    opened = _OPENED.get()
    if opened is None:
        raise psycopg.OperationalError("the connection was lost before")
    url, reads_only = opened
    secret = {} if url.password is None else {"password": url.password}
    connection = psycopg.connect(make_conninfo(url.url, **CONNECTED, **secret))
    for name, value in (
        ("lock_timeout", str(1000 * _BUSY_SECONDS)),
        ("default_transaction_read_only", "on" if reads_only else "off"),
    ):
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    connection.commit()
    return connection


def _refuse_pooled(url: PostgresUrl, own: Connection, other: Connection) -> None:
    """Raise ConfigurationError if a pool lends the server's connections for one transaction only.

    Another connection that keeps a transaction open then has the very one that this one had, and this one gets another.
    A session's lock would be held by whoever got it next (PgBouncer documentation, "Features", transaction pooling).
    """
    which = sa.select(sa.func.pg_backend_pid())
    first = own.execute(which).scalar()
    other = other.execution_options(isolation_level="READ COMMITTED")
    with other.begin():
        theirs, again = other.execute(which).scalar(), own.execute(which).scalar()
    if first == theirs or first != again:
        raise ConfigurationError(
            f"the ledger {url} is behind a pool in transaction mode, such as PgBouncer's: no run lock would hold; "
            "nothing was read or written",
            "name the address of the server itself, or of a pool in session mode",
            code="ledger_pooled",
        )


def _meaning(url: PostgresUrl, error: BaseException | None) -> MeterSyncError:
    """Return what an error of the server means (PostgreSQL documentation, "PostgreSQL Error Codes")."""
    said = next(iter(str(error).splitlines()), "no reason was given")
    state = getattr(error, "sqlstate", None) or _state_of_connecting(error, said)
    match state[:2]:
        case "23" | "22":
            return RowUnwritten(f"the ledger {url} did not take a row: {said}", "report it with this message")
        case "28" | "3D" | "42" if state in _NOT_ALLOWED or state[:2] != "42":
            return ConfigurationError(
                f"the ledger {url} cannot be used: {said}; nothing was read or written",
                "correct METER_SYNC_LEDGER, its user and its password, and what that user may do in the database",
                code="ledger_unwritable",
            )
        case "25" if state == "25006":
            return ConfigurationError(
                f"the ledger {url} can only be read: {said}; nothing was written",
                "name the primary server, not a standby, and a user that may write",
                code="ledger_unwritable",
            )
        case "53" | "58" if state != "53300":
            return LedgerError(
                f"the ledger {url} could not be written, the server's disk or memory is full or failing: {said}",
                "make room and run again; what was sent but not recorded is set again to the same quantity",
                code="ledger_full",
            )
        case "55" | "40":
            return TryAgainError(
                f"the ledger {url} is in use by another program: {said}",
                "run again; if it lasts, look at what holds locks in the database",
                code="ledger_busy",
            )
        case "08" | "57" | "53":
            return TryAgainError(
                f"the ledger {url} cannot be reached, or the connection was lost: {said}; nothing more was written",
                "see that the server runs, and can be reached from this machine; the next run finishes what was begun",
                code="ledger_unreachable",
            )
        case "XX":
            return LedgerError(
                f"the ledger {url} is damaged: {said}",
                "stop the schedule, and put a backup of the database back: the next run reads back from Stripe what it "
                "needs, so nothing is billed twice or lost",
                code="ledger_damaged",
            )
    return LedgerError(f"the ledger {url} failed: {said}", "report it with this message")


def _state_of_connecting(error: BaseException | None, said: str) -> str:
    """Return the class of an error that has no code: libpq keeps that of a connection which is refused to itself."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return ""
    return "28" if any(one in said for one in _REFUSED) else "08"


_REFUSED = ("authentication failed", "does not exist", "pg_hba.conf", "permission denied", "no password supplied")
_NOT_ALLOWED = ("42501",)
"""insufficient_privilege"""
