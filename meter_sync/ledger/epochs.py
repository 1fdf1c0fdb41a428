"""Recognising a ledger that was restored from a backup, by an epoch that is kept in it and in a marker apart from it.

The epoch is new each time a run is about to write, and once more when it has. It is committed in the ledger first and
then written to the marker, so the marker says the newest epoch, or the one that the ledger names as what the marker
said before: then nothing was written since that commit. A marker that says anything else has seen later runs than this
ledger. A database on a server has a marker that says by itself which copy it is.
"""

import uuid
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Row

from meter_sync.ledger.database import Book, Database
from meter_sync.ledger.schema import epochs, runs
from meter_sync.ledger.store import row_name
from meter_sync.ledger.writes import forget_what_may_have_changed


class Epochs(Book):
    """The epoch of an account's books, and the marker beside them; what is on a test clock has one of its own.

    So each finds out for itself that it was restored, whichever comes first.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._name = row_name(database.scope["account"])
        self._marker = database.marker

    def is_restored(self) -> bool:
        """Say whether runs may have written to Stripe that this ledger knows nothing of.

        One that no run has used yet knows nothing anyway: that one was lost, not restored.
        Raise ConfigurationError if the marker cannot be read.
        """
        with self.database.at_one_moment():
            kept = self._kept()
            known = (kept.epoch, kept.marker) if kept else (None,)
            return self._marker.read(self._name) not in known and self._was_used()

    def begin(self, as_of: datetime) -> bool:
        """Begin a new epoch before anything is written to Stripe, and return whether the ledger was restored.

        Then what Stripe holds of the periods that are open at an instant is forgotten first, in the same transaction.
        Several runs at once do no harm: each change of the marker is within a transaction that writes.
        Raise ConfigurationError, LedgerError or TryAgainError, each with what to do.
        """
        with self.database.transaction():
            is_restored = self.is_restored()
            if is_restored:
                forget_what_may_have_changed(self.database, as_of)
            self._renew()
        self._mark()
        return is_restored

    def end(self) -> None:
        """Begin another epoch after a run: a copy that was made while it was at work is then known to be older.

        A ledger that was restored while the run was at work is left to the next one.
        """
        with self.database.transaction():
            if self.is_restored():
                return
            self._renew()
        self._mark()

    def _renew(self) -> None:
        row = {"name": self._name, "epoch": str(uuid.uuid4()), "marker": self._marker.read(self._name)}
        self.database.put(epochs, [row], ("epoch", "marker"))

    def _mark(self) -> None:
        """Write to the marker which epoch it is by now: another run may have begun one meanwhile."""
        with self.database.transaction():
            kept = self._kept()
            if kept:
                self._marker.write(self._name, kept.epoch)

    def _kept(self) -> Row[tuple[str, str | None]] | None:
        found = self.database.rows(sa.select(epochs.c.epoch, epochs.c.marker).where(epochs.c.name == self._name))
        return found[0] if found else None

    def _was_used(self) -> bool:
        return self.database.value(self.database.of(runs, sa.func.count())) != 0
