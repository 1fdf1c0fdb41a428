"""The books of one Stripe account and mode. Every public write of a book is one short transaction."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection

from meter_sync.core.scope import Scope
from meter_sync.errors import LedgerError
from meter_sync.ledger.additions import Additions
from meter_sync.ledger.binding import Binding
from meter_sync.ledger.callers import Callers
from meter_sync.ledger.compaction import Compaction
from meter_sync.ledger.database import Database
from meter_sync.ledger.epochs import Epochs
from meter_sync.ledger.history import History
from meter_sync.ledger.holds import Holds
from meter_sync.ledger.kept import KeptUsages
from meter_sync.ledger.listed import ListedPeriods
from meter_sync.ledger.markers import Markers
from meter_sync.ledger.memory import Memories
from meter_sync.ledger.migrate import REVISIONS, revision, upgrade
from meter_sync.ledger.moved import check_not_moved
from meter_sync.ledger.overview import Overview
from meter_sync.ledger.pruning import Pruning
from meter_sync.ledger.rejections import Rejections
from meter_sync.ledger.remainders import Remainders
from meter_sync.ledger.runs import Runs
from meter_sync.ledger.schema import metadata
from meter_sync.ledger.signatures import Signatures
from meter_sync.ledger.sqlite import SqliteStore, in_memory
from meter_sync.ledger.statements import Statements
from meter_sync.ledger.store import Holder, Marker, RunLock, State, Store
from meter_sync.ledger.stores import Place, store_of
from meter_sync.ledger.turns import Turns
from meter_sync.ledger.webhook_queue import WebhookQueue
from meter_sync.ledger.writes import Writes


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
        self.signatures = Signatures(database)
        self.statements = Statements(database)
        self.turns = Turns(database)
        self.webhook_queue = WebhookQueue(database)
        self.writes = Writes(database)


@contextmanager
def open_ledger(place: Place, scope: Scope, lock: RunLock | None = None) -> Iterator[Ledger]:
    """Open the ledger for writing, made and brought up to date if need be, and close it at the end.

    `lock` is the run lock, where it is held: without it nothing more is written. Raise ConfigurationError, LedgerError
    or TryAgainError, each with what to do.
    """
    store = store_of(place)
    with store.connected() as connection:
        with store.translated(), connection.begin():
            store.begin_migration(connection)
            upgrade(connection)
            check_not_moved(connection, store)
        yield Ledger(Database(connection, store, scope, lock, marker=store.marker(connection)))


def make_ledger(place: Place) -> None:
    """Make the ledger, or bring it up to date, and leave it. It raises what `open_ledger` does."""
    with open_ledger(place, Scope("", "")):
        pass


def ledger_is_there(place: Place) -> bool:
    """Say whether there is a ledger to look at; a database on a server may be empty."""
    return store_of(place).is_there


@contextmanager
def open_ledger_read_only(place: Place, scope: Scope) -> Iterator[Ledger]:
    """Open the books of a scope without any way to change them, as `open_ledgers_read_only` does those of many."""
    with open_ledgers_read_only(place) as books_of:
        yield books_of(scope)


@contextmanager
def open_ledgers_read_only(place: Place) -> Iterator[Callable[[Scope], Ledger]]:
    """Open the ledger without any way to change it. A missing or empty one reads as one that knows nothing.

    An older one is read as the next run will make it: a copy in memory is brought up to date.
    Raise ConfigurationError, LedgerError or TryAgainError, each with what to do.
    """
    store = store_of(place)
    with ExitStack() as opened:
        found, marker = None, Marker()
        memory, of_memory = opened.enter_context(in_memory()), SqliteStore(Path(":memory:"))
        if store.is_there:
            connection = opened.enter_context(store.connected_to_read())
            found, marker = _revision_or_copy(store, connection, memory), store.marker(connection)
            if found == REVISIONS[-1]:
                yield lambda scope: Ledger(Database(connection, store, scope, marker=marker))
                return
        with store.translated(), memory.begin():
            if found is None:
                metadata.create_all(memory)
            else:
                upgrade(memory)
        yield lambda scope: Ledger(Database(memory, of_memory, scope, marker=marker))


def _revision_or_copy(store: Store, connection: Connection, memory: Connection) -> str | None:
    """Return a ledger's revision, or None for an empty one; copy it if it is older than this version."""
    with store.translated(), connection.begin():
        store.begin_reading(connection)
        found = revision(connection)
        if found not in (None, REVISIONS[-1]):
            store.copy_into(connection, memory)
        return found


def run_lock(place: Place, scope: Scope) -> AbstractContextManager[RunLock]:
    """Hold the run lock of an account's books, whatever is on a test clock of it; the system lets go of it.

    Raise TryAgainError while another run holds it, ConfigurationError if it cannot be used.
    """
    return store_of(place).run_lock(scope)


def lock_holder(place: Place, scope: Scope) -> Holder | None:
    """Return who holds the run lock, or None where nobody does. Raise OSError where the system does not tell."""
    return store_of(place).lock_holder(scope)


def ledger_state(place: Place) -> State:
    """Look at a ledger, which is there, without changing it.

    Raise ConfigurationError, LedgerError or TryAgainError, each with what to do.
    """
    store = store_of(place)
    with store.connected_to_read() as connection, store.translated(), connection.begin():
        store.begin_reading(connection)
        return store.state(connection, revision(connection))


def accounts_with_books(place: Place) -> list[Scope]:
    """Return whose books there are in a ledger: of whom none are there yet, no run has begun.

    What belongs to an account and has books of its own, such as what is on a test clock, is not among them.
    Raise ConfigurationError, LedgerError or TryAgainError, each with what to do.
    """
    with open_ledger_read_only(place, Scope("", "")) as ledger:
        return [one for one in ledger.binding.every() if "/" not in one.account]


def books_in_use(place: Place, books: Scope) -> Scope:
    """Return whose books a person asks for: those of the mode that an account is bound to, which are its only ones.

    Its mode is the key's, for books that are not bound: without a key, or with another one, nothing must look settled.
    Raise LedgerError for a ledger that would answer as if all were well, since it is missing or no run has used it.
    """
    with open_ledgers_read_only(place) as books_of:
        return used_books(place, books_of, books)


def used_books(place: Place, books_of: Callable[[Scope], Ledger], books: Scope) -> Scope:
    """Return what `books_in_use` does of a ledger that is open, for one account of many; it raises the same."""
    binding = books_of(books).binding
    binding.check_not_moved()
    bound = binding.read()
    books = replace(books, mode=bound.mode) if bound else books
    if books_of(books).runs.last_begun() is not None:
        return books
    what = "knows of no run" if store_of(place).is_there else "is missing"
    raise LedgerError(
        f"the ledger {place} {what}: it says nothing of what was billed",
        "name the ledger that the runs use, by METER_SYNC_LEDGER or `ledger` in the TOML file: another user, working "
        "directory or environment may have another one; before the first run there is none",
        code="ledger_missing",
    )
