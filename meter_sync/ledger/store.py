"""What of the ledger depends on the kind of database that it is in: one store for each kind."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table

from meter_sync.core.scope import Scope
from meter_sync.errors import LedgerError

Opened = TypeVar("Opened")

OF_LEDGER = "ledger"
"""The name of what a ledger has of its own for the only account, or for one that has no name."""


def row_name(account: str) -> str:
    """Return the name of what a ledger has of its own for an account, as a scope names it."""
    return f"{OF_LEDGER}:{account}" if account else OF_LEDGER


def account_of(name: str) -> str:
    """Return for which account that name is."""
    return name.removeprefix(OF_LEDGER).removeprefix(":")


class RowUnwritten(LedgerError):
    """A row contradicts what is in the ledger: the matter of the item that it is about."""


class Marker:
    """Says of which copy of the books this is, so that one that was put back from a backup is recognised.

    The books of each account are named by `row_name`. This one is that of books that are nowhere, and says nothing.
    """

    def read(self, name: str) -> str | None:
        """Return what it says of books, or None where it says nothing. Raise ConfigurationError if it is unreadable."""
        return None

    def write(self, name: str, epoch: str) -> None:
        """Note the epoch of books, where it is kept apart from them. Raise ConfigurationError if that fails."""


class RunLock(ABC):
    """The run lock of an account's books, held: of runs that take it, two never write at the same time."""

    @abstractmethod
    def check(self, connection: Connection) -> None:
        """Within a transaction that changes the books: see to it that it is still held.

        Raise TryAgainError where it is not, so that nothing of the transaction stays.
        """


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the run lock."""

    shown: str
    """Who that is, for a person: a process, and the machine where it may be another one."""
    remedy: str
    """How to end it, where it hangs."""


@dataclass(frozen=True, slots=True)
class State:
    """What is to be said of a ledger's database, apart from what is in it."""

    revision: str | None
    """Its schema; None for an empty one."""
    is_current: bool
    """Whether that is the one of this version."""
    damage: list[str]
    """What the database itself finds wrong with it; empty where it is whole, or where it cannot be asked."""


class Store(ABC):
    """Where a ledger is: it makes connections, and says what its kind of database needs.

    `str` of it is what a person knows it by, with nothing secret in it. What raises, raises ConfigurationError,
    LedgerError or TryAgainError, each with what to do.
    """

    takes_any_value = False
    """Whether a column may have another kind of value than its own, since nothing keeps other programs from that."""

    @abstractmethod
    def __str__(self) -> str: ...

    @property
    @abstractmethod
    def is_there(self) -> bool:
        """Whether there is one at all: one that is not is made by the first run."""

    @abstractmethod
    def connected(self) -> AbstractContextManager[Connection]:
        """Connect to write. What is missing is made, but for the tables."""

    @abstractmethod
    def connected_to_read(self) -> AbstractContextManager[Connection]:
        """Connect without any way to change what is there, which it must be."""

    @contextmanager
    def _opened(self, engine: Engine, opening: ContextVar[Opened], opened: Opened) -> Iterator[Connection]:
        """Connect by an engine for all databases of a kind, which finds in a variable which one is to be opened."""
        with self.translated():
            before = opening.set(opened)
            try:
                connection = engine.connect()
            finally:
                opening.reset(before)
        with connection:
            yield connection

    @abstractmethod
    def translated(self) -> AbstractContextManager[None]:
        """Turn what the database raises into an error that says what to do."""

    @abstractmethod
    def begin_migration(self, connection: Connection) -> None:
        """At the begin of a transaction: let nobody else change the schema before its end."""

    @abstractmethod
    def begin_change(self, connection: Connection, scope: Scope) -> None:
        """At the begin of a transaction: let nobody else change the books of a scope before its end."""

    @abstractmethod
    def begin_reading(self, connection: Connection) -> None:
        """At the begin of a transaction that changes nothing: let all that it reads be of one moment."""

    @abstractmethod
    def hardly_waiting(self, connection: Connection) -> AbstractContextManager[None]:
        """Let what is inside fail where another program is writing, rather than wait until it has done so."""

    @staticmethod
    @abstractmethod
    def insert(table: Table) -> Any:
        """Return a statement that adds rows, and can say what becomes of those whose key is there."""

    @abstractmethod
    def copy_into(self, connection: Connection, memory: Connection) -> None:
        """Copy all that is there, of whatever revision, into a database in memory."""

    @abstractmethod
    def size_bytes(self, connection: Connection) -> int:
        """Return how much room the ledger takes."""

    @abstractmethod
    def marker(self, connection: Connection) -> Marker:
        """Return what says which copy of the books this is."""

    @abstractmethod
    def ahead_of(self, connection: Connection) -> timedelta:
        """Return how far the clock that all who share the books go by is ahead of this machine's."""

    @abstractmethod
    def run_lock(self, scope: Scope) -> AbstractContextManager[RunLock]:
        """Hold the run lock. It is let go of however the process ends.

        Raise TryAgainError while another run holds it, ConfigurationError if it cannot be used: a lock that is busy
        and a lock that is broken are different things.
        """

    @abstractmethod
    def lock_holder(self, scope: Scope) -> Holder | None:
        """Return who holds the run lock, or None where nobody does; it is not touched.

        Raise OSError where the system does not tell.
        """

    @abstractmethod
    def state(self, connection: Connection, found: str | None) -> State:
        """Look at the database without changing it, all of it where that can be; `found` is its revision."""
