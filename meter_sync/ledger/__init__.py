"""The ledger: what was intended, what Stripe acknowledged, and which run did it."""

from meter_sync.ledger.database import Scope
from meter_sync.ledger.ledger import Ledger, books_in_use, open_ledger, open_ledger_read_only
from meter_sync.ledger.lock import run_lock
from meter_sync.ledger.rows import RunRecord

__all__ = ["Ledger", "RunRecord", "Scope", "books_in_use", "open_ledger", "open_ledger_read_only", "run_lock"]
