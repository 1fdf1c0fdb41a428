"""The ledger: what was intended, what Stripe acknowledged, and which run did it."""

from meter_sync.ledger.database import Scope
from meter_sync.ledger.ledger import FileState, Ledger, books_in_use, file_state, open_ledger, open_ledger_read_only
from meter_sync.ledger.lock import lock_holder, run_lock
from meter_sync.ledger.rows import RunRecord

__all__ = [
    "FileState",
    "Ledger",
    "RunRecord",
    "Scope",
    "books_in_use",
    "file_state",
    "lock_holder",
    "open_ledger",
    "open_ledger_read_only",
    "run_lock",
]
