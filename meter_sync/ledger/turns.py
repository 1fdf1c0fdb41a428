"""The ledger's book of turns: what workers did last for an account."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from meter_sync.core.scope import Scope
from meter_sync.ledger.database import Book
from meter_sync.ledger.schema import turns


@dataclass(frozen=True, slots=True)
class Turn:
    """What a worker did last for an account, of one kind. Instants are of this machine's clock."""

    worker: str
    begun_at: datetime
    ended_at: datetime | None
    """None while it is under way, or where its worker was lost."""
    exit_code: int | None
    """None also where it was cut off, and is to be done again."""


def turns_of(account: str) -> Scope:
    """Return whose turns are an account's: they are of no mode, since its key may be wrong or lacking."""
    return Scope(account, "")


class Turns(Book):
    """When a worker last did what for an account, and how that ended.

    All who share the ledger go by its server's clock; what is given and returned is of this machine's.
    """

    def begin(self, kind: str, worker: str, at: datetime) -> None:
        """Record that a worker begins something for the account."""
        with self.database.transaction():
            self._begin(kind, worker, at + self.database.ahead)

    def end(self, kind: str, at: datetime, exit_code: int | None) -> None:
        """Record how it ended."""
        row = {"kind": kind, "ended_at": at + self.database.ahead, "exit_code": exit_code}
        with self.database.transaction():
            self.database.update(turns, [row], by=("kind",))

    def take(self, kind: str, worker: str, at: datetime, every: timedelta) -> bool:
        """Begin what one of all workers does, unless another one has begun it less than `every` ago."""
        there = at + self.database.ahead
        with self.database.transaction():
            begun = self.database.value(self.database.of(turns, "begun_at").where(turns.c.kind == kind))
            if begun is not None and begun > there - every:
                return False
            self._begin(kind, worker, there)
            return True

    def _begin(self, kind: str, worker: str, there: datetime) -> None:
        row = {"kind": kind, "worker": worker, "begun_at": there, "ended_at": None, "exit_code": None}
        self.database.put(turns, [row], replaced=("worker", "begun_at", "ended_at", "exit_code"))

    def last(self) -> dict[str, Turn]:
        """Return the last turn of each kind."""
        ahead = self.database.ahead
        return {
            row.kind: Turn(row.worker, row.begun_at - ahead, row.ended_at and row.ended_at - ahead, row.exit_code)
            for row in self.database.rows(self.database.of(turns))
        }
