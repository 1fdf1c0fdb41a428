"""The run lock of a ledger on a PostgreSQL server: a session's advisory lock, and an epoch that no other run has.

The server lets go of the lock when its holder's connection ends. A holder that stands still, or whose machine is cut
off, keeps it: so it beats, who finds it overdue ends its connection, and has the next epoch. Each change of the books
is made under an epoch that is still the newest, so that whoever stood still and goes on can commit nothing, no intent
and no renewed claim either: and without those nothing is sent to Stripe.
"""

import hashlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from meter_sync.core.scope import Scope
from meter_sync.errors import TryAgainError
from meter_sync.ledger.schema import run_locks
from meter_sync.ledger.store import Holder, RunLock
from meter_sync.net.postgres_url import PostgresUrl

log = structlog.get_logger()

RUN, BOOKS = "run", "books"
"""What is locked: by a run, and by whoever changes the books."""

BEATS_EACH_SECONDS = 5.0
OVERDUE_AFTER_SECONDS = 60.0
"""So long after its last beat a holder is taken for gone. Claims are renewed sooner than that (`sync.claims`)."""
_ENDS_WITHIN_SECONDS = 5.0
_ASKED_EACH_SECONDS = 0.05


def key_of(what: str, scope: Scope) -> int:
    """Return the key of a lock, as the server's functions take it: 64 bits, with a sign."""
    named = f"meter-sync/{what}/{scope.account}/{scope.mode}"
    return int.from_bytes(hashlib.sha256(named.encode()).digest()[:8], signed=True)


class ServerLock(RunLock):
    """The run lock, held by a connection of its own."""

    def __init__(self, connection: Connection, url: PostgresUrl, scope: Scope, epoch: int) -> None:
        self._connection = connection
        self._url = url
        self._scope = scope
        self._epoch = epoch
        self._is_lost = False

    def check(self, connection: Connection) -> None:
        """Within a transaction that has the lock on the books: see to it that no other run has begun since."""
        newest = sa.select(run_locks.c.epoch).where(_is_of(self._scope))
        if self._is_lost or connection.execute(newest).scalar() != self._epoch:
            raise TryAgainError(
                f"this run has lost the run lock in {self._url}: it stood still for too long, or was cut off from the "
                "server, and another run may be at work; nothing more was written",
                "the other run, or the next one, finishes what this one began",
                code="lock_lost",
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Say again and again that the holder lives, and let go of the lock at the end."""
        is_over = threading.Event()
        beating = threading.Thread(target=self._beat, args=(is_over,), name="run-lock", daemon=True)
        beating.start()
        try:
            yield
        finally:
            is_over.set()
            beating.join()
            # Where the connection is lost, the server has let go of the lock already.
            with suppress(SQLAlchemyError):
                self._connection.execute(sa.select(sa.func.pg_advisory_unlock(key_of(RUN, self._scope))))

    def _beat(self, until: threading.Event) -> None:
        mine = run_locks.update().where(_is_of(self._scope), run_locks.c.epoch == self._epoch)
        while not (self._is_lost or until.wait(BEATS_EACH_SECONDS)):
            try:
                self._is_lost = not self._connection.execute(mine.values(beat_at=_NOW)).rowcount
            except SQLAlchemyError:
                self._is_lost = True


def acquired(url: PostgresUrl, connection: Connection, scope: Scope) -> ServerLock:
    """Return the run lock, on a connection that has nothing else to do and commits each statement by itself.

    Raise TryAgainError while another run holds it and beats, DBAPIError where the server fails.
    """
    if not (_try(connection, scope) or _taken_over(connection, scope)):
        holder = holder_of(connection, scope)
        shown = f": {holder.shown}" if holder else ""
        raise TryAgainError(
            f"another run holds the run lock in {url}{shown}; nothing was read or written",
            "let it finish, and run again; if runs overlap often, run less often or look at why they take so long",
            code="locked",
        )
    return ServerLock(connection, url, scope, _begun(connection, scope))


def _try(connection: Connection, scope: Scope) -> bool:
    return bool(connection.execute(sa.select(sa.func.pg_try_advisory_lock(key_of(RUN, scope)))).scalar())


def _taken_over(connection: Connection, scope: Scope) -> bool:
    """Say whether the lock was got from a holder that is overdue: its connection is ended for it."""
    silent = (_NOW - run_locks.c.beat_at).label("silent_seconds")
    of_holder = sa.select(run_locks.c.holder, sa.type_coerce(silent, sa.BigInteger)).where(_is_of(scope))
    found = connection.execute(of_holder).first()
    if found is None or found.silent_seconds < OVERDUE_AFTER_SECONDS:
        return False
    log.warning(
        "run_lock_taken_over",
        holder=found.holder,
        silent_seconds=found.silent_seconds,
        message=f"{found.holder} holds the run lock and has not been heard of for {found.silent_seconds} s: its "
        "connection was ended, and this run goes on in its place",
    )
    connection.execute(sa.select(sa.func.pg_terminate_backend(_held(scope).subquery().c.pid)))
    until = time.monotonic() + _ENDS_WITHIN_SECONDS
    while time.monotonic() < until:
        if _try(connection, scope):
            return True
        time.sleep(_ASKED_EACH_SECONDS)
    return False


def _begun(connection: Connection, scope: Scope) -> int:
    """Begin a new epoch, after whatever a run before is just committing, and return it."""
    row = {"holder": f"process {os.getpid()} on {socket.gethostname()}", "taken_at": _NOW, "beat_at": _NOW}
    new = insert(run_locks).values(account=scope.account, mode=scope.mode, epoch=1, **row)
    begun = new.on_conflict_do_update(
        index_elements=run_locks.primary_key, set_={**row, "epoch": run_locks.c.epoch + 1}
    )
    connection.execute(sa.select(sa.func.pg_advisory_lock(key_of(BOOKS, scope))))
    try:
        epoch: int = connection.execute(begun.returning(run_locks.c.epoch)).scalar_one()
    finally:
        connection.execute(sa.select(sa.func.pg_advisory_unlock(key_of(BOOKS, scope))))
    return epoch


def holder_of(connection: Connection, scope: Scope) -> Holder | None:
    """Return who holds the run lock, or None where nobody does. Raise DBAPIError."""
    backend = connection.execute(_held(scope)).scalar()
    if backend is None:
        return None
    noted = connection.execute(sa.select(run_locks.c.holder).where(_is_of(scope))).scalar()
    return Holder(
        f"{noted or 'a run'}, connection {backend} of the server",
        f"end it there, or its connection in the database: SELECT pg_terminate_backend({backend})",
    )


def _is_of(scope: Scope) -> sa.ColumnElement[bool]:
    return sa.and_(run_locks.c.account == scope.account, run_locks.c.mode == scope.mode)


_NOW = sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.BigInteger)
"""The time of the server, as the ledger keeps instants."""

_LOCKS = sa.table(
    "pg_locks",
    *(sa.column(name) for name in ("pid", "locktype", "database", "classid", "objid", "objsubid", "granted")),
)
_DATABASES = sa.table("pg_database", sa.column("oid"), sa.column("datname"))
_HALF = 2**32


def _held(scope: Scope) -> sa.Select[Any]:
    """Return the query for the server's process that holds the run lock.

    A key of 64 bits is shown in two halves (PostgreSQL documentation, "pg_locks").
    """
    first, second = divmod(key_of(RUN, scope) % _HALF**2, _HALF)
    here = sa.select(_DATABASES.c.oid).where(_DATABASES.c.datname == sa.func.current_database()).scalar_subquery()
    return sa.select(_LOCKS.c.pid).where(
        _LOCKS.c.locktype == "advisory",
        _LOCKS.c.granted,
        _LOCKS.c.objsubid == 1,
        _LOCKS.c.database == here,
        sa.cast(_LOCKS.c.classid, sa.BigInteger) == first,
        sa.cast(_LOCKS.c.objid, sa.BigInteger) == second,
    )
