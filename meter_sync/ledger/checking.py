"""Whether a ledger is whole: its file or database, what each row has, and what must be true of the books."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

import sqlalchemy as sa

from meter_sync.core.scope import Scope
from meter_sync.errors import LedgerError, MeterSyncError
from meter_sync.ledger.checks import CHECKS, Check, Wrong
from meter_sync.ledger.database import Database
from meter_sync.ledger.ledger import ledger_state, open_ledger_read_only
from meter_sync.ledger.schema import bindings, epochs, metadata
from meter_sync.ledger.store import OF_LEDGER
from meter_sync.ledger.stores import Place, store_of
from meter_sync.ledger.values import all_wrong, as_stored, stored_tables

MOST_NAMED = 1000
"""So many findings of a check are kept of an account's books."""
_DATABASE, _VALUES, _BOOKS = "database", "values", "books"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check has found."""

    check: str
    """Its stable name."""
    found: tuple[tuple[Scope | None, Wrong], ...] = ()
    """Whose books it is in, and what it is."""
    skipped: str | None = None
    """Why it was not made."""
    remark: str | None = None
    """What else there is to say, which is nothing wrong."""

    @property
    def status(self) -> str:
        """`ok`, `wrong` or `skipped`."""
        return "skipped" if self.skipped else "wrong" if self.found else "ok"


def check_ledger(place: Place, at: datetime) -> list[CheckResult]:
    """Check a ledger at an instant of this machine's clock, and change nothing. Raise MeterSyncError."""
    if not store_of(place).is_there:
        raise _missing(place)
    state = ledger_state(place)
    if state.revision is None:
        raise _missing(place)
    older = None if state.is_current else f"revision {state.revision}: the next run brings it up to date"
    whole = CheckResult(_DATABASE, tuple((None, Wrong(one)) for one in state.damage), remark=older)
    names = (_VALUES, _BOOKS, *CHECKS)
    if whole.found:
        return [whole, *(CheckResult(name, skipped="the database is damaged") for name in names)]
    with open_ledger_read_only(place, Scope("", "")) as ledger:
        database = ledger.binding.database
        with database.at_one_moment():
            values = CheckResult(_VALUES, tuple(islice(_wrong_values(database), MOST_NAMED)))
    if values.found:
        return [whole, values, *(CheckResult(name, skipped="rows cannot be read") for name in names[1:])]
    return [whole, values, _books(place), *_checks(place, at)]


def _checks(place: Place, at: datetime) -> list[CheckResult]:
    with open_ledger_read_only(place, Scope("", "")) as ledger:
        scopes = _scopes(ledger.binding.database)
    found: dict[str, list[tuple[Scope | None, Wrong]]] = {name: [] for name in CHECKS}
    for scope in scopes:
        with open_ledger_read_only(place, scope) as ledger:
            database = ledger.binding.database
            with database.at_one_moment():
                for name, check in CHECKS.items():
                    found[name] += [(scope, one) for one in _found(check, database, at + database.ahead)]
    return [CheckResult(name, tuple(some)) for name, some in found.items()]


def _found(check: Check, database: Database, at: datetime) -> Iterator[Wrong]:
    return islice(check(database, at), MOST_NAMED)


def _scopes(database: Database) -> list[Scope]:
    """Return whose books there are."""
    found = {
        (row.account, row.mode)
        for one in metadata.sorted_tables
        if "account" in one.c
        for row in database.rows(sa.select(one.c.account, one.c.mode).distinct())
    }
    return [Scope(account, mode) for account, mode in sorted(found)]


def _wrong_values(database: Database) -> Iterator[tuple[Scope | None, Wrong]]:
    """Yield the rows that have something else than their table takes."""
    for table in stored_tables().values():
        try:
            for one in all_wrong(table, database.each(as_stored(table))):
                item = one.key.get("item")
                yield None, Wrong(str(one), item if isinstance(item, str) else None)
        except LedgerError as error:
            yield None, Wrong(f"{table.name}: {error.message}")


def _books(place: Place) -> CheckResult:
    """Say whose books these are and which copy of them, and what is wrong with that."""
    with open_ledger_read_only(place, Scope("", "")) as ledger:
        database = ledger.binding.database
        moved, scopes = ledger.binding.moved_to(), _scopes(database)
        wrong: list[tuple[Scope | None, Wrong]] = [(None, one) for one in _rows_of_no_version(database)]
    restored = list[str]()
    for scope in scopes:
        with open_ledger_read_only(place, scope) as ledger:
            bound = ledger.binding.read()
            if bound and bound.mode != scope.mode and ledger.runs.last_begun() is not None:
                said = f"bindings: it is about {bound.mode} mode, and has runs of {scope.mode}"
                wrong.append((scope, Wrong(said)))
            if ledger.epochs.is_restored():
                restored.append(scope.account)
    remark = "it counts as restored: the next run reads what Stripe holds before it writes" if restored else None
    if any(restored):
        remark = f"{remark} (of {', '.join(one or 'the account without a name' for one in restored)})"
    if moved:
        remark = f"its books were moved to {moved}: no run uses this one"
    return CheckResult(_BOOKS, tuple(wrong), remark=remark)


def _rows_of_no_version(database: Database) -> Iterator[Wrong]:
    for table in (bindings, epochs):
        every = {row.name for row in database.rows(sa.select(table.c.name))}
        names = {one for one in every if one not in (OF_LEDGER, "moved") and not one.startswith(f"{OF_LEDGER}:")}
        if names:
            yield Wrong(f"{table.name}: there are rows that no version writes: {', '.join(sorted(names))}")


def _missing(place: Place) -> MeterSyncError:
    return LedgerError(
        f"the ledger {place} is missing, or is empty; nothing was checked",
        "name the ledger that the runs use: meter-sync config show says which that is",
        code="ledger_missing",
    )
