"""The ledger's files, and what an error of the database means to an operator."""

import os
import pwd
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import DatabaseError, IntegrityError

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
        is_new = not path.exists()
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        if is_new:
            own_like(path, path.parent)
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def read_text(path: Path) -> str | None:
    """Return what is in a small file, or None where there is none. Raise ConfigurationError if it cannot be read."""
    try:
        return path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def replace_text(path: Path, text: str) -> None:
    """Put a text in the place of what is in a small file, as a whole and to last, readable for this user only.

    Whoever calls sees to it that nobody else does at the same time. Raise ConfigurationError if that fails.
    """
    new = path.with_name(path.name + ".new")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        own_like(new, path if path.exists() else path.parent)
        new.replace(path)
        _make_last(path.parent)
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def own_like(path: Path, other: Path) -> None:
    """Give what root has made to the user that another file is of, or a folder: else that user's runs are shut out.

    Raise OSError.
    """
    if os.geteuid() == 0:
        of_other = other.stat()
        os.chown(path, of_other.st_uid, of_other.st_gid)


def _make_last(folder: Path) -> None:
    """Let the names in a folder outlive a power loss."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def unwritable(path: Path, why: str) -> ConfigurationError:
    """Return the error of a path that this user cannot write."""
    return ConfigurationError(
        f"the ledger {path} cannot be used: {why}; nothing was read or written",
        f"{_whose(path)}make it, and its folder, writable for this user, or name another one with METER_SYNC_LEDGER",
        code="ledger_unwritable",
    )


def _whose(path: Path) -> str:
    """Say whose a file is that is another user's."""
    try:
        owner = path.stat().st_uid
        return "" if owner == os.geteuid() else f"it is {pwd.getpwuid(owner).pw_name}'s: start it as that user; or "
    except (OSError, KeyError):
        return ""


class RowUnwritten(LedgerError):
    """A row contradicts what is in the ledger: the matter of the item that it is about."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the database raises into an error that says what to do."""
    try:
        yield
    except (DatabaseError, sqlite3.Error) as error:
        cause = error.orig if isinstance(error, DatabaseError) else error
        if isinstance(error, IntegrityError):
            raise RowUnwritten(
                f"the ledger {path} did not take a row: {cause}", "report it with this message"
            ) from error
        if getattr(cause, "sqlite_errorname", None) in _NEEDS_ROLLBACK:
            raise _unfinished(path) from error
        raise _meaning(path, str(cause)) from error


_NEEDS_ROLLBACK = frozenset({"SQLITE_READONLY_ROLLBACK", "SQLITE_READONLY_RECOVERY"})
"""What a reader is told that finds a journal beside the file, of a writer that is no more (SQLite: Result Codes)."""


def _unfinished(path: Path) -> MeterSyncError:
    return TryAgainError(
        f"the ledger {path} is as a run left it that was killed while it wrote: what reads only cannot take back what "
        "is half-written; nothing was read",
        "the next run takes it back by itself, and loses nothing: wait for it, or start one; leave the file beside it "
        "that ends with -journal where it is",
        code="ledger_unfinished",
    )


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
