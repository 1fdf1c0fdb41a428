"""The ledger's book of what kept items from being reported."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from meter_sync.core.billing.item import PeriodKey
from meter_sync.core.outcomes import LIFTABLE, ExitCode, Outcome, exit_code
from meter_sync.core.planning.stages import Result
from meter_sync.ledger import falls
from meter_sync.ledger.database import Book
from meter_sync.ledger.rows import CompleteRun, RunRecord, key
from meter_sync.ledger.schema import holds

_KEPT_FROM = (Outcome.HELD, Outcome.FAILED, Outcome.SKIPPED)
_SAME = ("outcome", "reason", "quantity")
"""What two runs must agree on to share a row."""
_AGAIN = ("item", "period_start", "last_run", "last_at", "message")
"""What a run that says the same says of a row."""


class Holds(Book):
    """What kept items from being reported, and for how long."""

    def record(
        self, run: RunRecord, results: Sequence[Result], at: datetime, last_complete: CompleteRun | None = None
    ) -> frozenset[PeriodKey]:
        """Given what became of a run's items, record those that were held, failed, or skipped with possible harm.

        With that, how usage fell that was held for it, and what of it has come back or was explained.

        A run that says the same of an item's period as the newest row extends that row: an item that is held for a
        month has one, not 720.

        Return of which items' periods the same was said before, without a run in between that found them well:
        `last_complete` is the last one that looked at all.
        """

        def write(some: Sequence[Result]) -> set[PeriodKey]:
            known = self._record(run, some, at, last_complete)
            falls.record(self.database, some, run.as_of)
            return known

        return frozenset().union(*self.database.write_each(results, lambda one: one.item, write))

    def _record(
        self, run: RunRecord, results: Sequence[Result], at: datetime, last_complete: CompleteRun | None
    ) -> set[PeriodKey]:
        kept = [one for one in results if one.outcome in _KEPT_FROM and _needs_somebody(one)]
        rows = [_row(one, run.id, at) for one in kept]
        news, again = [], []
        numbered = self.database.of(holds).order_by(holds.c.number)
        found = self.database.rows_of(numbered, holds.c.item, [row["item"] for row in rows])
        newest = {(one.item, one.period_start): one for one in found}
        known = set()
        for one, row in zip(kept, rows, strict=True):
            last = newest.get((row["item"], row["period_start"]))
            if last is not None and all(getattr(last, name) == row[name] for name in _SAME):
                again.append({"number": last.number} | {name: row[name] for name in _AGAIN})
            else:
                news.append({**row, "number": last.number + 1 if last else 1})
            if last is not None and _is_as_before(row, last) and _is_newest(last, last_complete):
                known.add(one.item.key)
        self.database.insert(holds, news)
        self.database.update(holds, again, by=("item", "period_start", "number"), times=holds.c.times + 1)
        return known


def _is_as_before(row: Mapping[str, Any], last: Row[Any]) -> bool:
    """Say whether an item is kept from being reported as before.

    What a brake holds, or what could not be sent, may grow meanwhile, and is no news. Any other quantity is: what a
    closed period lacks more than before was never said.
    """
    may_grow = row["reason"] in LIFTABLE or row["outcome"] == Outcome.FAILED.value
    return all(getattr(last, name) == row[name] for name in _SAME if not (may_grow and name == "quantity"))


def _is_newest(last: Row[Any], complete: CompleteRun | None) -> bool:
    """Say whether no run has found the item well since: an item that is not kept from anything has no row of that run.

    By the run too, since times have whole seconds, and a run may take less.
    """
    return complete is None or last.last_run == complete.id or last.last_at > complete.started_at


def _needs_somebody(one: Result) -> bool:
    return exit_code([(one.outcome, one.reason)]) is not ExitCode.DONE


def _row(one: Result, run: str, at: datetime) -> dict[str, Any]:
    found = one.found
    return {
        **key(found.item),
        "outcome": one.outcome.value,
        "reason": one.reason.value if one.reason else "",
        "message": one.message,
        "usage": found.usage,
        "quantity": found.quantity,
        "previous": found.standing,
        "first_run": run,
        "first_at": at,
        "last_run": run,
        "last_at": at,
        "times": 1,
    }
