"""The run lock: of runs that take it, two never write at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from meter_sync.errors import ConfigurationError, TryAgainError
from meter_sync.ledger.files import make_folder


@contextmanager
def run_lock(ledger: Path) -> Iterator[None]:
    """Hold the lock file beside the ledger; the system releases it however the process ends.

    Raise TryAgainError while another run holds it, ConfigurationError if it cannot be used: a lock that is busy
    and a lock that is broken are different things.
    """
    path = ledger.with_name(ledger.name + ".lock")
    make_folder(ledger.parent)
    lock = filelock.FileLock(path, mode=0o600)
    try:
        lock.acquire(timeout=0)
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
        yield
    finally:
        lock.release()
