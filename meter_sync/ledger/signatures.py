"""The ledger's book of signatures: who has signed which statement."""

import json
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from meter_sync.core.billing.item import Period
from meter_sync.ledger.database import Book
from meter_sync.ledger.schema import signatures


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement that somebody has signed."""

    time: Period
    """What it is about."""
    signed_by: str
    signed_at: datetime
    digest: str
    """Of its figures."""
    bridge: tuple[str, ...]
    """Its sums, in the order in which they stood on it, as decimal digits."""


class Signatures(Book):
    """Who has signed which statement of the account. Nothing here is ever changed."""

    def all(self) -> list[Signed]:
        """Return every signature, the oldest first. Raise LedgerError."""
        found = self.database.rows(self.database.of(signatures).order_by(signatures.c.signed_at, signatures.c.number))
        return [
            Signed(
                Period(row.since, row.until), row.signed_by, row.signed_at, row.digest, tuple(json.loads(row.bridge))
            )
            for row in found
        ]

    def sign(self, one: Signed) -> None:
        """Record that somebody has signed a statement."""
        is_its = signatures.c.since == one.time.start, signatures.c.until == one.time.end
        with self.database.transaction():
            last = self.database.value(self.database.of(signatures, sa.func.max(signatures.c.number)).where(*is_its))
            row = {
                "since": one.time.start,
                "until": one.time.end,
                "number": (last or 0) + 1,
                "signed_by": one.signed_by,
                "signed_at": one.signed_at,
                "digest": one.digest,
                "bridge": json.dumps(one.bridge),
            }
            self.database.insert(signatures, [row])
