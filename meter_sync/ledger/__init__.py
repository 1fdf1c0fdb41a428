"""The ledger: what was intended, what Stripe acknowledged, and which run did it."""

from meter_sync.core.scope import Scope
from meter_sync.ledger.file_systems import refuse_shared
from meter_sync.ledger.ledger import (
    Ledger,
    accounts_with_books,
    books_in_use,
    ledger_is_there,
    ledger_state,
    lock_holder,
    make_ledger,
    open_ledger,
    open_ledger_read_only,
    open_ledgers_read_only,
    run_lock,
    used_books,
)
from meter_sync.ledger.rows import RunRecord
from meter_sync.ledger.store import Holder, RunLock, State
from meter_sync.ledger.stores import Place

__all__ = [
    "Holder",
    "Ledger",
    "Place",
    "RunLock",
    "RunRecord",
    "Scope",
    "State",
    "accounts_with_books",
    "books_in_use",
    "ledger_is_there",
    "ledger_state",
    "lock_holder",
    "make_ledger",
    "open_ledger",
    "open_ledger_read_only",
    "open_ledgers_read_only",
    "refuse_shared",
    "run_lock",
    "used_books",
]
