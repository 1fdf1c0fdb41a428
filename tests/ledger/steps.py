"""Going through a ledger as full runs do."""

from datetime import datetime

from meter_sync.ledger import Ledger


def compacted(ledger: Ledger, as_of: datetime) -> list[int]:
    """Compact until nothing is left to do, and return how many writes each transaction looked at."""
    done = []
    while (looked_at := ledger.compaction.compact_some(as_of)) is not None:
        done.append(looked_at)
    return done
