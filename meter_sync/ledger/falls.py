"""The ledger's rows of usage that fell: kept over runs, until it has come back or a person has explained it."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from meter_sync.core.billing.item import PeriodKey
from meter_sync.core.outcomes import Outcome
from meter_sync.core.planning.memory import Fall
from meter_sync.core.planning.stages import Result
from meter_sync.ledger.database import Database
from meter_sync.ledger.rows import key, read_as
from meter_sync.ledger.schema import falls

_AS_IT_SHOULD_BE = (Outcome.REPORTED, Outcome.UNCHANGED)


def recall(database: Database, periods: Mapping[str, datetime]) -> dict[str, tuple[Fall, ...]]:
    """Given items with the starts of their periods, return how usage fell within these, the oldest first."""
    known = _known(database, periods)
    return {item: known[item, start] for item, start in periods.items() if (item, start) in known}


def record(database: Database, results: Sequence[Result], as_of: datetime) -> None:
    """Given what became of a run's items, record what fell, and forget what has come back or was explained.

    It is the same fall as before where Stripe holds the same; then the lowest quantity is kept.
    """
    known = _known(database, {one.item.id for one in results})
    over = [
        {**key(one.item), "seen_at": fall.seen_at}
        for one in results
        if one.outcome in _AS_IT_SHOULD_BE and not one.gave_way
        for fall in known.get(one.item.key, ())
        if fall not in one.found.falls
    ]
    fallen = [_row(one, *one.fell, known.get(one.item.key, ()), as_of) for one in results if one.fell]
    database.delete(falls, over)
    database.put(falls, fallen, ("lowest",))


def _known(database: Database, items: Collection[str]) -> Mapping[PeriodKey, tuple[Fall, ...]]:
    found = defaultdict[PeriodKey, tuple[Fall, ...]](tuple)
    for row in database.rows_of(database.of(falls).order_by(falls.c.seen_at), falls.c.item, items):
        found[row.item, row.period_start] += (read_as(Fall, row),)
    return found


def _row(one: Result, before: int, lowest: int, known: Iterable[Fall], as_of: datetime) -> dict[str, Any]:
    same = next((fall for fall in known if fall.before == before), Fall(as_of, before, lowest))
    return {**key(one.item), "seen_at": same.seen_at, "before": before, "lowest": min(lowest, same.lowest)}
