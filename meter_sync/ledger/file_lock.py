"""The run lock of a ledger that is a file: a lock file beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
from sqlalchemy import Connection

from meter_sync.errors import ConfigurationError, TryAgainError
from meter_sync.ledger.file_systems import refuse_shared
from meter_sync.ledger.files import make_folder, own_like
from meter_sync.ledger.store import RunLock


def _beside(ledger: Path, account: str) -> Path:
    account = account.replace("/", ".")  # a shadow's; no account has a dot in its name
    return ledger.with_name(f"{ledger.name}.{account}.lock" if account else f"{ledger.name}.lock")


def process_that_holds(ledger: Path, account: str) -> int | None:
    """Return the id of the process that holds an account's run lock, or None where nobody does.

    The lock is not touched: whoever tried it would keep a run from it. Linux lists all locks (proc(5), /proc/locks).
    Raise OSError where the system does not tell.
    """
    try:
        inode = _beside(ledger, account).stat().st_ino
    except FileNotFoundError:
        return None
    locks = Path("/proc/locks").read_text(encoding="utf-8")
    # "1: FLOCK  ADVISORY  WRITE 4242 08:01:1835013 0 EOF": a line with "->" waits for the one before it.
    fields = [line.split() for line in locks.splitlines()]
    holders = (int(one[4]) for one in fields if "->" not in one and one[5].rpartition(":")[2] == str(inode))
    return next(holders, None)


class FileLock(RunLock):
    """A lock file that is locked: the system keeps it so for as long as the process lives, however still it stands."""

    def check(self, connection: Connection) -> None:
        """Do nothing: a process cannot lose it."""


@contextmanager
def file_lock(ledger: Path, account: str) -> Iterator[FileLock]:
    """Hold an account's lock file beside the ledger; the system releases it however the process ends.

    Raise TryAgainError while another run holds it, ConfigurationError if it cannot be used: a lock that is busy
    and a lock that is broken are different things.
    """
    path = _beside(ledger, account)
    refuse_shared(ledger)
    make_folder(ledger.parent)
    lock = filelock.FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0)
        own_like(path, ledger if ledger.exists() else ledger.parent)
    except filelock.Timeout:
        raise TryAgainError(
            f"another run holds the lock {path}; nothing was read or written",
            "let it finish, and run again; if runs overlap often, run less often or look at why they take so long",
            code="locked",
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"the lock {path} cannot be used: {error.strerror}; nothing was read or written",
            "make the folder writable for this user, or set METER_SYNC_LEDGER to a file in one that is",
            code="ledger_unwritable",
        ) from error
    try:
        yield FileLock()
    finally:
        lock.release()
