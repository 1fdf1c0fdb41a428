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
from meter_sync.ledger import past_parts
from meter_sync.ledger.database import Database, batches, of_same_period
from meter_sync.ledger.rows import RowUnread, key
from meter_sync.ledger.schema import parts


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which parts of an item to recall: all of a period, or those since an instant and what is not settled."""

    item: str
    period_start: datetime
    since: datetime | None


def recall(database: Database, wanted: Iterable[Wanted]) -> dict[str, RememberedWindows | RowUnread]:
    """Return the parts of each item, or why some of them could not be read."""
    by_since: defaultdict[datetime | None, dict[str, datetime]] = defaultdict(dict)
    for one in wanted:
        by_since[one.since][one.item] = one.period_start
    recalled: dict[str, RememberedWindows | RowUnread] = {}
    unread: dict[str, RowUnread] = {}
    for since, periods in by_since.items():
        query = database.of(parts, "item", "period_start", "start", "timestamp", "total", "value", "acknowledged")
        if since is not None:
            is_unsettled = sa.or_(parts.c.acknowledged.is_(None), parts.c.acknowledged != parts.c.value)
            query = query.where(sa.or_(parts.c.start >= since, is_unsettled))
        found: defaultdict[str, dict[datetime, RememberedWindow]] = defaultdict(dict)
        in_order = query.order_by(parts.c.item, parts.c.period_start, parts.c.start)
        for row in database.rows_in(in_order, parts, periods):
            part = RememberedWindow(row.timestamp, row.total, row.value, standing=row.acknowledged)
            found[row.item][row.start] = part
        before = _last_before(database, periods, since) if since else {}
        for item, packed in past_parts.of_periods(database, periods, since):
            if isinstance(packed, RowUnread):
                unread[item] = packed
                continue
            for past in packed:
                if since is None or past.start >= since:
                    window = RememberedWindow(past.timestamp, past.total, past.value, standing=past.value)
                    found[item].setdefault(past.start, window)
                elif item not in before or before[item][0] < past.start:
                    before[item] = past.start, past.total
        totals = {item: total for item, (_, total) in before.items()}
        recalled |= {item: RememberedWindows(totals.get(item, Decimal(0)), found.get(item, {})) for item in periods}
    return recalled | unread


_Last = dict[str, tuple[datetime, Decimal]]
"""By item, when a part starts, and the usage of the period up to its end."""


def _last_before(database: Database, periods: Mapping[str, datetime], since: datetime) -> _Last:
    """Return the last part of each item's period before the instant, but for what is packed with later ones."""
    found: _Last = {}
    last = database.of(parts, "item", "period_start", sa.func.max(parts.c.start).label("start"))
    last = last.where(parts.c.start < since).group_by(parts.c.item, parts.c.period_start)
    for ids in batches(periods):
        of_ids = last.where(parts.c.item.in_(ids)).subquery()
        is_last = sa.and_(of_same_period(parts, of_ids), parts.c.start == of_ids.c.start)
        query = database.of(parts, "item", "period_start", "start", "total").join(of_ids, is_last)
        some = {item: periods[item] for item in ids}
        found |= {row.item: (row.start, row.total) for row in database.rows_in(query, parts, some)}
    for item, start, total in past_parts.totals_before(database, periods, since):
        if item not in found or found[item][0] < start:
            found[item] = start, total
    return found


def intend(database: Database, run: str, planned: Sequence[Write]) -> None:
    """Record the parts of the writes: what is about to be sent is in doubt until it is acknowledged."""
    starts = {write.item.key: {part.start for part in some} for write in planned if (some := windows_of(write))}
    past_parts.unpack_starts(database, starts)
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
