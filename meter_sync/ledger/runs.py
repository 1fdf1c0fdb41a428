"""The ledger's book of runs."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, Row

from meter_sync.core.schedule import Schedule
from meter_sync.core.telling.history import PastRun
from meter_sync.ledger.callers import enter, leave
from meter_sync.ledger.damage import unreadable
from meter_sync.ledger.database import Book
from meter_sync.ledger.rows import CompleteRun, RunRecord, read_as
from meter_sync.ledger.schema import item_periods, runs

_WORK_DONE = (0, 3, 4)
"""The exit codes of runs that listed everything and did what could be done."""
IS_COMPLETE = (runs.c.everything.is_(True), runs.c.exit_code.in_(_WORK_DONE))
"""What is true of a run over the whole account that did its work."""


class Runs(Book):
    """Which runs there were, and up to when they reported."""

    def begin(self, run: RunRecord) -> None:
        """Record that a run has begun, before its first effect; from now on it counts among those that ask Stripe."""
        row = {
            "run": run.id,
            "started_at": run.started_at,
            "as_of": run.as_of,
            "schedule": run.schedule,
            "everything": run.everything,
        }
        with self.database.transaction():
            self.database.insert(runs, [row])
            enter(self.database, run)

    def finish(self, run: str, at: datetime, exit_code: int, counts: Mapping[str, int], pages: int = 0) -> None:
        """Record how a run ended, and how many pages of items it has read."""
        ended = {"finished_at": at, "exit_code": exit_code, "counts": json.dumps(dict(counts)), "pages": pages}
        row = {"run": run, **ended}
        with self.database.transaction():
            self.database.update(runs, [row], by=("run",))
            leave(self.database, run)

    def first_begun(self) -> datetime | None:
        """Return when the first run that is kept was begun, or None before that."""
        return self.database.value(self.database.of(runs, sa.func.min(runs.c.started_at)))

    def last_begun(self) -> datetime | None:
        """Return when the last run was begun, or None before the first."""
        return self.database.value(self.database.of(runs, sa.func.max(runs.c.started_at)))

    def newest_as_of(self) -> datetime | None:
        """Return the newest instant up to which anything was intended to be reported, or None before that."""
        return self.database.value(self.database.of(item_periods, sa.func.max(item_periods.c.as_of)))

    def last_complete(self) -> datetime | None:
        """Return when the last run over the whole account that did its work was begun, or None."""
        return self._newest_complete(runs.c.started_at)

    def overdue_since(self, schedule: Schedule, at: datetime) -> datetime | None:
        """Return since when nothing was billed, if a complete run is overdue at an instant, or else None."""
        return schedule.overdue_since(self.last_complete(), self.first_begun(), at)

    def last_ended_with(self) -> int | None:
        """Return the exit code of the last run over the whole account that has ended, or None before the first."""
        ended = self.database.of(runs, runs.c.exit_code).where(
            runs.c.everything.is_(True), runs.c.exit_code.is_not(None)
        )
        return self.database.value(ended.order_by(runs.c.started_at.desc(), runs.c.run).limit(1))

    def newest_complete(self) -> CompleteRun | None:
        """Return the last run over the whole account that did its work, or None."""
        query = (
            self.database.of(runs).where(*IS_COMPLETE).order_by(runs.c.started_at.desc(), runs.c.as_of.desc()).limit(1)
        )
        return next((CompleteRun(row.run, row.started_at) for row in self.database.rows(query)), None)

    def last_complete_run(self) -> PastRun | None:
        """Return the last run over the whole account that did its work, as it is told, or None."""
        query = self.database.of(runs).where(*IS_COMPLETE).order_by(runs.c.as_of.desc(), runs.c.started_at.desc())
        return next((self._past(row) for row in self.database.rows(query.limit(1))), None)

    def last_complete_as_of(self) -> datetime | None:
        """Return the newest instant that a run over the whole account which did its work was about, or None."""
        return self._newest_complete(runs.c.as_of)

    def _newest_complete(self, instant: Column[datetime]) -> datetime | None:
        return self.database.value(self.database.of(runs, sa.func.max(instant)).where(*IS_COMPLETE))

    def past(self, since: datetime | None, until: datetime | None, limit: int | None) -> list[PastRun]:
        """Return the newest runs that began within some time, the newest first."""
        query = self.database.of(runs).order_by(runs.c.started_at.desc(), runs.c.run)
        if since is not None:
            query = query.where(runs.c.started_at >= since)
        if until is not None:
            query = query.where(runs.c.started_at < until)
        return [self._past(row) for row in self.database.rows(query.limit(limit))]

    def _past(self, row: Row[Any]) -> PastRun:
        return read_as(PastRun, row, id=row.run, counts=self._counts(row.run, row.counts))

    def _counts(self, run: str, stored: str | None) -> dict[str, int]:
        """Return how many items had which outcome. Raise LedgerError where that cannot be read."""
        try:
            return {str(name): int(many) for name, many in json.loads(stored or "{}").items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise unreadable(str(self.database.store), f"what run {run} has counted cannot be read") from error
