"""Copying the books of a ledger, whosever they are, to another one that has none: a file, or a database on a server.

All is read at one moment, and written in one transaction, and what was written is read again before it counts. Then
the books are at one place: the ledger that they were moved from has a note that says so, and is refused by runs. The
note is committed first: if all breaks off between the two, no ledger is believed rather than both.
"""

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from meter_sync.effects import effect
from meter_sync.errors import ArgumentsError, LedgerError, MeterSyncError
from meter_sync.ledger.copy_forgetting import forget_what_is_damaged
from meter_sync.ledger.copy_places import (
    Source,
    Target,
    accounts_in,
    is_same_place,
    locked,
    opened_source,
    opened_target,
)
from meter_sync.ledger.migrate import upgrade
from meter_sync.ledger.moved import check_not_moved, moved_to, note_moved
from meter_sync.ledger.schema import bindings, callers, carries, claims, epochs, run_locks, run_numbers, turns
from meter_sync.ledger.stores import Place
from meter_sync.ledger.values import Damaged, as_stored, examined, stored_tables

_ROWS_AT_ONCE = 1000
_NOT_COPIED = frozenset(one.name for one in (claims, callers, run_locks, epochs, turns))
"""What says who is at work at this moment, and which copy of the books this is."""
_NEVER_LEFT_OUT = frozenset(one.name for one in (bindings, carries, run_numbers))
"""Without a carry, what it carried would be billed again; the others are about all that is in the books."""
_NAMED = 20


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """What is copied, and how."""

    source: Place
    target: Place
    keep: bool = False
    """Whether the source stays the ledger that runs use: then the copy counts as restored."""
    without_damaged: bool = False
    """Whether rows that the target would not take are left out."""


@dataclass(frozen=True, slots=True)
class TableCopied:
    """How many rows of a table there are in the copy, and in how many the source had something else."""

    table: str
    rows: int
    left_out: int
    total: int
    """The sum of all whole numbers in the rows, which is that of the copy as well."""


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied."""

    tables: tuple[TableCopied, ...]
    damaged: tuple[Damaged, ...]
    """The rows that were left out."""
    is_restored: bool
    """Whether the next run on the copy reads what Stripe holds before it writes."""


class RowsDamaged(LedgerError):
    """Rows cannot be copied as they are."""

    def __init__(self, source: object, damaged: tuple[Damaged, ...], *, may_be_left_out: bool) -> None:
        more = [] if len(damaged) <= _NAMED else [f"and {len(damaged) - _NAMED} more, which --output json names"]
        super().__init__(
            f"{len(damaged)} rows of the ledger {source} have what a ledger does not take; nothing was copied",
            "--without-damaged leaves them out: what Stripe holds of their items is then read from it again"
            if may_be_left_out
            else "rows of these tables are never left out, since usage would be billed twice, or nothing of it could "
            "be read: correct them by hand, or begin a new ledger",
            code="ledger_damaged",
            details=[*map(str, damaged[:_NAMED]), *more],
        )
        self.damaged = damaged


@dataclass(slots=True)
class _Tally:
    """What rows come to: equal for equal rows, in whatever order."""

    rows: int = 0
    total: int = 0
    checksum: int = 0

    def add(self, row: Mapping[str, Any]) -> None:
        self.rows += 1
        self.total += sum(value for value in row.values() if isinstance(value, int))
        digest = hashlib.blake2b(repr(list(row.values())).encode("utf-8", "surrogatepass"), digest_size=8)
        self.checksum += int.from_bytes(digest.digest())


@dataclass(slots=True)
class _Copy:
    """How far a copy has come."""

    tallies: dict[str, _Tally] = field(default_factory=dict)
    damaged: list[Damaged] = field(default_factory=list)


def copy_ledger(asked: CopyRequest, at: datetime) -> Copied:
    """Copy all books, at an instant of this machine's clock, and return what was copied.

    Nothing is left in the target unless all was copied. Raise MeterSyncError, with what to do.
    """
    if is_same_place(asked.source, asked.target):
        raise ArgumentsError("--from and --to are one ledger; nothing was copied", "name another place with --to")
    accounts = accounts_in(asked.source)
    with (
        locked(asked.source, accounts),
        locked(asked.target, accounts),
        opened_source(asked.source, at) as source,
    ):
        was_moved = _check_moved(source, asked)
        with _said_if_there_already(asked, was_moved=was_moved), opened_target(asked.target) as target:
            copy = _fill(source, target, asked)
            is_restored = asked.keep or was_moved or source.is_restored
            epoch, names = str(uuid.uuid4()), source.named
            target.put_epoch(names, epoch, is_known=not is_restored)
            with effect("ledger"):
                target.prepare()
            if not asked.keep:
                with effect("ledger"):
                    _leave_behind(source, str(asked.target), at)
            with _said_if_unfinished(asked), target.store.translated(), effect("ledger"):
                target.finish(names, epoch, is_known=not is_restored)
    left_out = [one.table for one in copy.damaged]
    tables = (TableCopied(name, one.rows, left_out.count(name), one.total) for name, one in copy.tallies.items())
    return Copied(tuple(tables), tuple(copy.damaged), is_restored)


def _check_moved(source: Source, asked: CopyRequest) -> bool:
    """Say whether the books were to be moved before, to this very target. Raise ConfigurationError for another one."""
    before = moved_to(source.books)
    if before not in (None, str(asked.target)) and not asked.keep:
        check_not_moved(source.books, source.store)
    return before is not None


def _fill(source: Source, target: Target, asked: CopyRequest) -> _Copy:
    copy = _Copy()
    for name, table in stored_tables().items():
        if name not in _NOT_COPIED:
            copy.tallies[name] = _copy_table(source.books, target.connection, table, copy.damaged)
    if copy.damaged:
        may_be_left_out = not any(one.table in _NEVER_LEFT_OUT for one in copy.damaged)
        if not (asked.without_damaged and may_be_left_out):
            raise RowsDamaged(source.store, tuple(copy.damaged), may_be_left_out=may_be_left_out)
    for name, tally in copy.tallies.items():
        _compare(stored_tables()[name], tally, target)
    forget_what_is_damaged(target.connection, copy.damaged)
    return copy


def _copy_table(books: Connection, new: Connection, table: Table, damaged: list[Damaged]) -> _Tally:
    tally = _Tally()
    for rows in _each(books, table):
        whole = []
        for row in rows:
            values = examined(table, row)
            if isinstance(values, Damaged):
                damaged.append(values)
            else:
                tally.add(values)
                whole.append(values)
        # Once a row was refused, the others are looked at for those that would be as well.
        if whole:
            new.execute(sa.insert(table), whole)
    return tally


def _each(connection: Connection, table: Table) -> Iterator[Any]:
    found = connection.execute(as_stored(table).execution_options(yield_per=_ROWS_AT_ONCE))
    return found.partitions()


def _compare(table: Table, read: _Tally, target: Target) -> None:
    written = _Tally()
    for rows in _each(target.connection, table):
        for row in rows:
            values = examined(table, row)
            if isinstance(values, Damaged):
                raise _otherwise(target, table)
            written.add(values)
    if written != read:
        raise _otherwise(target, table)


def _otherwise(target: Target, table: Table) -> LedgerError:
    return LedgerError(
        f"what {target.store} has of {table.name} is not what was written to it; nothing was copied",
        "report it with this message",
    )


def _leave_behind(source: Source, place: str, at: datetime) -> None:
    """Note in the source that its books are elsewhere, in the shape of this version: older ones refuse it for that."""
    upgrade(source.itself)
    note_moved(source.itself, place, at)
    transaction = source.itself.get_transaction()
    if transaction:
        transaction.commit()


@contextmanager
def _said_if_there_already(asked: CopyRequest, *, was_moved: bool) -> Iterator[None]:
    """A copy whose end nobody heard of may have been carried out all the same."""
    try:
        yield
    except ArgumentsError as error:
        if was_moved and not asked.keep:
            error.hint = (
                f"those of {asked.source} were moved there before, as a whole: name that ledger with "
                "METER_SYNC_LEDGER, and let meter-sync ledger check look at it"
            )
        raise


@contextmanager
def _said_if_unfinished(asked: CopyRequest) -> Iterator[None]:
    try:
        yield
    except MeterSyncError as error:
        if asked.keep:
            raise
        error.hint = (
            f"{asked.source} says already that its books were moved, so that no run uses it: when this is mended, give "
            "the same command again"
        )
        raise
