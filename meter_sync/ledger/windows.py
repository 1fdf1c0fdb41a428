"""The ledger's rows of hours and days."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.item import Target
from meter_sync.core.planning.memory import RememberedWindow, RememberedWindows
from meter_sync.core.planning.stages import Write
from meter_sync.core.planning.windows import windows_of
from meter_sync.ledger.database import Database, batches, of_same_period
from meter_sync.ledger.rows import key
from meter_sync.ledger.schema import parts


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which parts of an item to recall: all of a period, or those since an instant and what is not settled."""

    item: str
    period_start: datetime
    since: datetime | None


def recall(database: Database, wanted: Iterable[Wanted]) -> dict[str, RememberedWindows]:
    """Return the parts of each item."""
    by_since: defaultdict[datetime | None, dict[str, datetime]] = defaultdict(dict)
    for one in wanted:
        by_since[one.since][one.item] = one.period_start
    recalled: dict[str, RememberedWindows] = {}
    for since, periods in by_since.items():
        query = database.of(parts, "item", "period_start", "start", "timestamp", "total", "value", "acknowledged")
        if since is not None:
            is_unsettled = sa.or_(parts.c.acknowledged.is_(None), parts.c.acknowledged != parts.c.value)
            query = query.where(sa.or_(parts.c.start >= since, is_unsettled))
        found: defaultdict[str, dict[datetime, RememberedWindow]] = defaultdict(dict)
        for row in database.rows_in(query, parts, periods):
            part = RememberedWindow(row.timestamp, row.total, row.value, standing=row.acknowledged)
            found[row.item][row.start] = part
        before = _totals_before(database, periods, since) if since else {}
        recalled |= {item: RememberedWindows(before.get(item, Decimal(0)), found.get(item, {})) for item in periods}
    return recalled


def _totals_before(database: Database, periods: Mapping[str, datetime], since: datetime) -> dict[str, Decimal]:
    """Return the usage of each item's period before the instant: the total of its last part there."""
    found: dict[str, Decimal] = {}
    last = database.of(parts, "item", "period_start", sa.func.max(parts.c.start).label("start"))
    last = last.where(parts.c.start < since).group_by(parts.c.item, parts.c.period_start)
    for ids in batches(periods):
        of_ids = last.where(parts.c.item.in_(ids)).subquery()
        is_last = sa.and_(of_same_period(parts, of_ids), parts.c.start == of_ids.c.start)
        query = database.of(parts, "item", "period_start", "total").join(of_ids, is_last)
        found |= {row.item: row.total for row in database.rows_in(query, parts, {item: periods[item] for item in ids})}
    return found


def intend(database: Database, run: str, planned: Sequence[Write]) -> None:
    """Record the parts of the writes: what is about to be sent is in doubt until it is acknowledged."""
    new = []
    for write in planned:
        for part in windows_of(write):
            is_event = part.is_sent and write.method.way.target is Target.METER_EVENT
            row = {
                **key(write.item),
                "start": part.start,
                "timestamp": part.timestamp,
                "total": part.total,
                "value": part.value,
                "acknowledged": None if part.is_sent else part.standing,
                "identifier": identifiers.of_set(run, write.item.id, part.start) if is_event else None,
            }
            new.append(row)
    database.put(parts, new, ("timestamp", "total", "value", "acknowledged"), completed=("identifier",))
