"""A copy of a ledger's file that is of one moment, also while runs are at work."""

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from meter_sync.errors import ArgumentsError, LedgerError
from meter_sync.ledger.copy_places import put_in_place, remove_file
from meter_sync.ledger.files import make_file, unwritable
from meter_sync.ledger.migrate import revision
from meter_sync.ledger.sqlite import SqliteStore

_BESIDE = ".new"


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup that was made."""

    file: Path
    bytes: int


def back_up(ledger: Path, file: Path) -> BackedUp:
    """Copy a ledger into a file that is not there yet, readable for this user only.

    Runs that write meanwhile wait for it, as they do for each other. Raise ArgumentsError where there is such a file,
    ConfigurationError, LedgerError or TryAgainError, each with what to do.
    """
    store = SqliteStore(ledger)
    if not store.is_there:
        raise LedgerError(
            f"the ledger {ledger} is missing; nothing was copied",
            "name the ledger that the runs use: meter-sync config show says which that is",
            code="ledger_missing",
        )
    if SqliteStore(file).is_there:
        raise ArgumentsError(
            f"{file} is there already; nothing was copied",
            "name another file: a backup replaces none",
            code="ledger_not_empty",
        )
    new = file.with_name(file.name + _BESIDE)
    remove_file(new)
    make_file(new)
    try:
        with store.connected_to_read() as connection, store.translated(), connection.begin():
            revision(connection)  # which begins to read: a copy that began without would wait for a writer without end
            of_ledger: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
            _copy(of_ledger, new)
        put_in_place(new, file)
        return BackedUp(file, file.stat().st_size)
    finally:
        remove_file(new)


def _copy(of_ledger: sqlite3.Connection, new: Path) -> None:
    """Copy all pages in one go (SQLite documentation, "Using the SQLite Online Backup API")."""
    with SqliteStore(new).translated(), closing(sqlite3.connect(new)) as copy:
        of_ledger.backup(copy)
    try:
        opened = os.open(new, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        raise unwritable(new, error.strerror or str(error)) from error
