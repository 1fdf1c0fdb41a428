"""Giving an account's books another name in the ledger, such as their first one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, Table

from meter_sync.core.scope import Scope
from meter_sync.errors import ArgumentsError, LedgerError
from meter_sync.ledger.copy_places import keep_others_out, locked, refuse_writing
from meter_sync.ledger.migrate import upgrade
from meter_sync.ledger.moved import check_not_moved
from meter_sync.ledger.schema import bindings, callers, epochs, metadata, run_locks, runs, turns
from meter_sync.ledger.store import Marker, row_name
from meter_sync.ledger.stores import Place, store_of


@dataclass(frozen=True, slots=True)
class Renaming:
    """The name that an account's books have, empty for none, and the one that they get."""

    before: str
    after: str

    def renamed(self, account: str) -> str:
        """Return what the account of a row is named afterwards, also of what is on a test clock of it."""
        return self.after + account.removeprefix(self.before)

    @property
    def locked(self) -> Sequence[str]:
        """Whose run locks are to be held: an account's shadow has one of its own."""
        return [one for name in (self.before, self.after) for one in (name, Scope(name, "").shadow.account)]

    def is_of(self, account: str) -> bool:
        """Say whether a row is of these books."""
        return account == self.before or account.startswith(f"{self.before}/")


def rename_account(place: Place, renaming: Renaming, at: datetime) -> int:
    """Give the books of an account another name, all or nothing, and return how many rows they have.

    `at` is an instant of this machine's clock. Raise TryAgainError while a run of either is at work, and MeterSyncError
    where there are no such books, or there are some of the new name.
    """
    store = store_of(place)
    if not store.is_there:
        raise _nothing(place, renaming)
    with locked(place, renaming.locked), store.connected() as connection, store.translated():
        marker, there = store.marker(connection), at + store.ahead_of(connection)
        with connection.begin():
            store.begin_migration(connection)
            upgrade(connection)
            check_not_moved(connection, store)
            keep_others_out(connection)
            refuse_writing(store, connection, there, "renamed")
            _refuse_books_of(connection, place, renaming.after)
            rows = sum(_rename(connection, table, renaming) for table in _tables())
            if not rows:
                raise _nothing(place, renaming)
            connection.execute(sa.delete(callers))
            _rename_own(connection, bindings, renaming)
            _mark(marker, _rename_own(connection, epochs, renaming))
    return rows


def _tables() -> Iterator[Table]:
    """Yield the tables with rows of accounts, but for who is at work: nobody is."""
    return (one for one in metadata.sorted_tables if "account" in one.c and one not in (run_locks, callers, turns))


def _of(table: Table, account: str) -> ColumnElement[bool]:
    return sa.or_(table.c.account == account, table.c.account.startswith(f"{account}/", autoescape=True))


def _refuse_books_of(connection: Connection, place: Place, account: str) -> None:
    """Runs that were refused before they had listed anything have left no books: they stay, with those that come."""
    for table in _tables():
        if table is runs:
            continue
        any_row = sa.select(sa.literal(1)).select_from(table).where(_of(table, account)).limit(1)
        if connection.execute(any_row).scalar() is not None:
            raise ArgumentsError(
                f"the account {account} has books in the ledger {place} already; nothing was renamed",
                "name one that has none: two accounts' books are never put together",
                code="ledger_not_empty",
            )


def _rename(connection: Connection, table: Table, renaming: Renaming) -> int:
    rest = sa.func.substr(table.c.account, len(renaming.before) + 1)
    changed = (
        sa.update(table).where(_of(table, renaming.before)).values(account=sa.literal(renaming.after).concat(rest))
    )
    return connection.execute(changed).rowcount


def _rename_own(connection: Connection, table: Table, renaming: Renaming) -> dict[str, str]:
    """Rename the rows that are named by accounts, and return the new name of each by the one before."""
    names = dict[str, str]()
    for name in connection.execute(sa.select(table.c.name)).scalars().all():
        kind, _, account = name.partition(":")
        if kind == row_name("") and renaming.is_of(account):
            names[name] = row_name(renaming.renamed(account))
            connection.execute(sa.delete(table).where(table.c.name == names[name]))
            connection.execute(sa.update(table).where(table.c.name == name).values(name=names[name]))
    return names


def _mark(marker: Marker, names: dict[str, str]) -> None:
    """Let the marker say of the books under the new name what it says under the old one."""
    for before, after in names.items():
        epoch = marker.read(before)
        if epoch is not None:
            marker.write(after, epoch)


def _nothing(place: Place, renaming: Renaming) -> LedgerError:
    whose = f"the account {renaming.before}" if renaming.before else "an account without a name"
    return LedgerError(
        f"there are no books of {whose} in the ledger {place}; nothing was renamed",
        "meter-sync config show says which ledger that is; the first run of an account begins its books",
        code="ledger_missing",
    )
