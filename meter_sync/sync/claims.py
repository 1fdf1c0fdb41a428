"""The items that a run has to itself while it writes them: a claim is renewed before what would outlive it is sent."""

from collections.abc import Iterable
from datetime import datetime

from meter_sync.ledger import Ledger, RunRecord
from meter_sync.ledger.writers import CLAIMED_FOR
from meter_sync.sync.job import Clock

RENEWED_AFTER = CLAIMED_FOR / 8
"""So that a request, with its waiting for an answer, ends before another run may have the item."""


class ClaimLost(Exception):
    """Another run has the item by now, or has written it: what that one sends is newer, and must not be set back."""


class Claims:
    """What one run has claimed and not finished, and when it said so last."""

    def __init__(self, ledger: Ledger, run: RunRecord, clock: Clock) -> None:
        self._ledger = ledger
        self._run = run
        self._clock = clock
        self._said_at: dict[str, datetime] = {}

    def begin(self, items: Iterable[str], at: datetime) -> None:
        """Note that items were claimed at a time."""
        self._said_at |= dict.fromkeys(items, at)

    def end(self, item: str) -> None:
        """Note that an item was written, or left."""
        self._said_at.pop(item, None)

    def check(self, *items: str) -> None:
        """Renew the claims on items that are not young any more.

        Raise ClaimLost where the run has one no longer, or MeterSyncError where the ledger cannot be written.
        """
        now = self._clock()
        old = [one for one in items if now - self._said_at.get(one, now) >= RENEWED_AFTER]
        if not old:
            return
        kept = self._ledger.writes.renew(self._run, old, now)
        self.begin(kept, now)
        if len(kept) < len(old):
            raise ClaimLost
