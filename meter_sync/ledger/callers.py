"""The ledger's book of runs that ask Stripe at this moment, by which they divide its limits among them."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

from meter_sync.core.scope import Scope
from meter_sync.ledger.database import Book, Database
from meter_sync.ledger.rows import RunRecord
from meter_sync.ledger.schema import callers, runs
from meter_sync.net.shares import Caller, Part

LIVES_FOR_SECONDS = 5.0
"""So long a run has its part after it has last said that it lives, whatever became of it."""
COUNTS_FOR_SECONDS = 1.0
"""So long what a run has asked still counts after its end: Stripe's limits are requests per second."""

Now = Callable[[], float]
"""Says the time of this machine in Unix seconds: whether a process lives has nothing to do with what it is about."""


class Callers(Book):
    """Which runs ask Stripe now, and what each of them has to do with its limits."""

    def __init__(self, database: Database, now: Now = time.time) -> None:
        super().__init__(database)
        self._time = now

    def _now(self) -> float:
        return self._time() + self.database.ahead.total_seconds()

    def renew(self, run: RunRecord, parts: Mapping[str, Part]) -> None:
        """Say that a run lives, and what it has to do with each limit. One that has ended does not come back.

        Raise TryAgainError at once where another program is writing, or what the ledger raises otherwise.
        """
        said = json.dumps({name: [part.wants, part.holds] for name, part in sorted(parts.items())})
        row = {"run": run.id, "parts": said, "until_ms": _ms(self._now() + LIVES_FOR_SECONDS)}
        with self.database.hardly_waiting(), self.database.transaction():
            has_ended = self.database.exists(runs, runs.c.run == callers.c.run, runs.c.finished_at.is_not(None))
            self.database.update(callers, [row], ~has_ended, by=("run",))

    def join(self, run: RunRecord) -> None:
        """Say that a run begins to ask, in books that are no account's: those of a platform whose limits many share."""
        now = self._now()
        row = {"run": run.id, "is_urgent": not run.is_alone, "parts": "{}", "until_ms": _ms(now + LIVES_FOR_SECONDS)}
        with self.database.transaction():
            self.database.delete_where(callers, sa.not_(sa.and_(*_counts(now))))
            self.database.insert(callers, [row])

    def part(self, run: RunRecord) -> None:
        """Say that it asks no more; what it has asked counts a little longer."""
        with self.database.transaction():
            leave(self.database, run.id, self._time)

    def others(self, run: RunRecord) -> list[Caller]:
        """Return what other runs have to do with Stripe's limits: those that live, or have ended just now.

        What is on a test clock counts with the rest of its account, as Stripe counts it, and an account's shadow by
        itself. It raises what `renew` does.
        """
        mine = Scope(**self.database.scope).of_key
        query = sa.select(callers).where(_is_of(mine.account), callers.c.mode == mine.mode, callers.c.run != run.id)
        if mine.account == mine.owner:
            query = query.where(sa.not_(_is_of(mine.shadow.account)))
        now = self._now()
        with self.database.hardly_waiting():
            rows = self.database.rows(query.where(*_counts(now)))
        return [_caller(row).fading((row.until_ms - _ms(now)) / _ms(COUNTS_FOR_SECONDS)) for row in rows]


def _is_of(account: str) -> sa.ColumnElement[bool]:
    return sa.or_(callers.c.account == account, callers.c.account.startswith(f"{account}/", autoescape=True))


def enter(database: Database, run: RunRecord, now: Now = time.time) -> None:
    """Within a transaction: say that a run begins to ask, and forget those that have ended.

    A run that holds the run lock knows that no other lives that held it.
    """
    at = now() + database.ahead.total_seconds()
    gone = sa.not_(sa.and_(*_counts(at)))
    if run.is_alone:
        gone = sa.or_(gone, callers.c.is_urgent.is_(False))
    database.delete_where(callers, gone)
    until_ms = _ms(at + LIVES_FOR_SECONDS)
    row = {"run": run.id, "is_urgent": not run.is_alone, "parts": "{}", "until_ms": until_ms}
    database.insert(callers, [row])


def leave(database: Database, run: str, now: Now = time.time) -> None:
    """Within a transaction: say that a run asks no more. What it has asked counts a little longer."""
    row = {"run": run, "until_ms": _ms(now() + database.ahead.total_seconds() + COUNTS_FOR_SECONDS)}
    database.update(callers, [row], by=("run",))


def _caller(row: sa.Row[Any]) -> Caller:
    """Return who a row is about; with nothing to do where what it says cannot be read, which must end no run."""
    try:
        parts = {str(name): Part(int(wants), int(holds)) for name, (wants, holds) in json.loads(row.parts).items()}
    except (ValueError, TypeError, AttributeError):
        parts = {}
    return Caller(row.run, row.is_urgent, parts)


def _counts(now: float) -> tuple[sa.ColumnElement[bool], ...]:
    """What is true of a run that counts; where the clock was set back, nobody counts for longer."""
    return callers.c.until_ms > _ms(now), callers.c.until_ms <= _ms(now + 2 * LIVES_FOR_SECONDS)


def _ms(seconds: float) -> int:
    return round(1000 * seconds)
