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
from meter_sync.core.planning.stages import WindowQuantity, Write
from meter_sync.core.planning.windows import windows_of
from meter_sync.ledger.database import Database, Rows, batches, of_same_period
from meter_sync.ledger.rows import WindowTaken, key
from meter_sync.ledger.schema import item_periods, parts

_KEY = ("item", "period_start", "start")


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
        found = _by_item(database, periods, since)
        before = _totals_before(database, periods, since) if since else {}
        recalled |= {item: RememberedWindows(before.get(item, Decimal(0)), found.get(item, {})) for item in periods}
    return recalled


def _by_item(
    database: Database, periods: Mapping[str, datetime], since: datetime | None
) -> dict[str, dict[datetime, RememberedWindow]]:
    query = database.of(parts, "item", "period_start", "start", "timestamp", "total", "value", "acknowledged")
    if since is not None:
        is_unsettled = sa.or_(parts.c.acknowledged.is_(None), parts.c.acknowledged != parts.c.value)
        query = query.where(sa.or_(parts.c.start >= since, is_unsettled))
    found: defaultdict[str, dict[datetime, RememberedWindow]] = defaultdict(dict)
    for row in database.rows_in(query, parts, periods):
        found[row.item][row.start] = RememberedWindow(row.timestamp, row.total, row.value, standing=row.acknowledged)
    return found


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
            is_event = part.is_sent and write.method.target is Target.METER_EVENT
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


def acknowledge(database: Database, taken: Iterable[WindowTaken]) -> None:
    """Record which parts Stripe has taken, when, and its name for each request."""
    rows = [
        {
            **key(one.written.item),
            "start": one.part.start,
            "acknowledged": one.part.value,
            "acknowledged_at": one.at,
            "request_id": one.request_id,
        }
        for one in taken
    ]
    database.update(parts, rows, by=_KEY)


def withdraw(database: Database, write: Write, unsent: Iterable[WindowQuantity]) -> None:
    """Take back that parts were about to be sent: Stripe holds what it held before."""
    rows = [{**key(write.item), "start": part.start, "acknowledged": part.standing} for part in unsent]
    database.update(parts, rows, by=_KEY)


def drop_orphans(database: Database, keys: Rows) -> None:
    """Drop the parts of items' periods that have no row of their own any more.

    What was never sent must not be taken for something that has to be sent again.
    """
    has_row = database.exists(item_periods, of_same_period(item_periods, parts))
    database.delete(parts, keys, ~has_row)
