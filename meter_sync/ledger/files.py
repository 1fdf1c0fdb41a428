"""The ledger's file, and what an error of the database means to an operator."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DatabaseError

from meter_sync.errors import ConfigurationError, LedgerError, MeterSyncError, TryAgainError


def make_folder(folder: Path) -> None:
    """Make the folder, and those above it, for this user only, if missing. Raise ConfigurationError if that fails.

    Those above it count as much: whoever may write one of them can put another ledger in this one's place.
    """
    try:
        missing = [one for one in folder.parents if not one.exists()]
        for one in (*reversed(missing), folder):
            one.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error.strerror or str(error)) from error


def make_file(path: Path) -> None:
    """Make the file, readable for this user only, if it is missing. Raise ConfigurationError if that fails."""
    make_folder(path.parent)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def unwritable(path: Path, why: str) -> ConfigurationError:
    """Return the error of a path that this user cannot write."""
    return ConfigurationError(
        f"the ledger {path} cannot be used: {why}; nothing was read or written",
        "make its folder writable for this user, or set METER_SYNC_LEDGER to a file in one that is",
        code="ledger_unwritable",
    )


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the database raises into an error that says what to do."""
    try:
        yield
    except DatabaseError as error:
        raise _meaning(path, str(error.orig)) from error


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
