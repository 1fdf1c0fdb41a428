"""The ledger's rows of hours and days."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from meter_sync.core.billing import identifiers as identifier
from meter_sync.core.billing.item import Target
from meter_sync.core.planning.known import RememberedPart, RememberedParts
from meter_sync.core.planning.stages import Part, Set
from meter_sync.ledger.database import Database, batches, execute_many
from meter_sync.ledger.schema import item_periods, parts


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which parts of an item to recall: all of a period, or those since an instant and what is not settled."""

    item: str
    period_start: datetime
    since: datetime | None


def recall(database: Database, wanted: Iterable[Wanted]) -> dict[str, RememberedParts]:
    """Return the parts of each item."""
    by_since: defaultdict[datetime | None, dict[str, datetime]] = defaultdict(dict)
    for one in wanted:
        by_since[one.since][one.item] = one.period_start
    recalled: dict[str, RememberedParts] = {}
    for since, periods in by_since.items():
        for ids in batches(list(periods)):
            some = {item: periods[item] for item in ids}
            rows = _by_item(database, some, since)
            before = _totals_before(database, some, since) if since else {}
            for item in ids:
                recalled[item] = RememberedParts(before.get(item, Decimal(0)), rows.get(item, {}))
    return recalled


def _by_item(
    database: Database, periods: Mapping[str, datetime], since: datetime | None
) -> dict[str, dict[datetime, RememberedPart]]:
    query = _of_periods(database, periods)
    if since is not None:
        is_unsettled = sa.or_(parts.c.acknowledged.is_(None), parts.c.acknowledged != parts.c.value)
        query = query.where(sa.or_(parts.c.start >= since, is_unsettled))
    found: defaultdict[str, dict[datetime, RememberedPart]] = defaultdict(dict)
    for row in database.rows(query):
        if row.period_start == periods[row.item]:
            found[row.item][row.start] = _remembered(row)
    return found


def _totals_before(database: Database, periods: Mapping[str, datetime], since: datetime) -> dict[str, Decimal]:
    """Return the usage of each item's period before the instant: the total of its last part there."""
    last = (
        database.of(parts, parts.c.item, parts.c.period_start, sa.func.max(parts.c.start).label("start"))
        .where(*_in_periods(periods), parts.c.start < since)
        .group_by(parts.c.item, parts.c.period_start)
        .subquery()
    )
    is_last = sa.and_(
        *(parts.c[name] == last.c[name] for name in ("item", "period_start", "start")), *database.in_scope(parts)
    )
    rows = database.rows(sa.select(parts.c.item, parts.c.period_start, parts.c.total).join(last, is_last))
    return {row.item: row.total for row in rows if row.period_start == periods[row.item]}


def _of_periods(database: Database, periods: Mapping[str, datetime]) -> sa.Select[Any]:
    columns = (parts.c.item, parts.c.period_start, parts.c.start, parts.c.timestamp, parts.c.total, parts.c.value)
    return database.of(parts, *columns, parts.c.acknowledged).where(*_in_periods(periods))


def _in_periods(periods: Mapping[str, datetime]) -> tuple[Any, ...]:
    return parts.c.item.in_(list(periods)), parts.c.period_start >= min(periods.values())


def _remembered(row: Row[Any]) -> RememberedPart:
    return RememberedPart(timestamp=row.timestamp, total=row.total, value=row.value, held=row.acknowledged)


def intend(database: Database, connection: Connection, run: str, planned: Sequence[Set]) -> None:
    """Record the parts of the writes: what is about to be sent is in doubt until it is acknowledged."""
    upsert = sqlite_insert(parts)
    upsert = upsert.on_conflict_do_update(
        index_elements=["account", "mode", "item", "period_start", "start"],
        set_={
            "timestamp": upsert.excluded.timestamp,
            "total": upsert.excluded.total,
            "value": upsert.excluded.value,
            "acknowledged": upsert.excluded.acknowledged,
            "identifier": sa.func.coalesce(upsert.excluded.identifier, parts.c.identifier),
        },
    )
    rows = [{**database.scope, **_row(write, part, run)} for write in planned for part in write.parts or ()]
    execute_many(connection, upsert, rows)


def _row(write: Set, part: Part, run: str) -> dict[str, Any]:
    is_sent = part.held != part.value
    is_event = is_sent and write.method.target is Target.METER_EVENT
    item = write.line.item
    return {
        "item": item.id,
        "period_start": item.period.start,
        "start": part.start,
        "timestamp": part.timestamp,
        "total": part.total,
        "value": part.value,
        "acknowledged": None if is_sent else part.held,
        "identifier": identifier.of_set(run, item.id, part.start) if is_event else None,
    }


def acknowledge(
    database: Database, connection: Connection, done: Iterable[tuple[Set, Part, datetime, str | None]]
) -> None:
    """Record which parts Stripe has taken, when, and its name for each request."""
    rows = [
        {**_key(write, part), "took": part.value, "took_at": at, "took_as": request_id}
        for write, part, at, request_id in done
    ]
    taken = {"acknowledged": "took", "acknowledged_at": "took_at", "request_id": "took_as"}
    values: dict[str, Any] = {column: sa.bindparam(name) for column, name in taken.items()}
    execute_many(connection, sa.update(parts).where(*_is_key(database)).values(**values), rows)


def withdraw(database: Database, connection: Connection, unsent: Iterable[tuple[Set, Part]]) -> None:
    """Take back that parts were about to be sent: Stripe holds what it held before."""
    rows = [{**_key(write, part), "held": part.held} for write, part in unsent]
    execute_many(connection, sa.update(parts).where(*_is_key(database)).values(acknowledged=sa.bindparam("held")), rows)


def drop_orphans(database: Database, connection: Connection, keys: Sequence[Mapping[str, Any]]) -> None:
    """Drop the parts of items and periods, each by `of_item` and `of_start`, that have no row of their own any more.

    What was never sent must not be taken for something that has to be sent again.
    """
    has_row = (
        sa.select(item_periods.c.item)
        .where(
            *database.in_scope(item_periods),
            item_periods.c.item == parts.c.item,
            item_periods.c.period_start == parts.c.period_start,
        )
        .exists()
    )
    of_item = (parts.c.item == sa.bindparam("of_item"), parts.c.period_start == sa.bindparam("of_start"))
    execute_many(connection, sa.delete(parts).where(*database.in_scope(parts), *of_item, ~has_row), keys)


def _key(write: Set, part: Part) -> dict[str, Any]:
    item = write.line.item
    return {"of_item": item.id, "of_period": item.period.start, "of_start": part.start}


def _is_key(database: Database) -> tuple[Any, ...]:
    return (
        *database.in_scope(parts),
        parts.c.item == sa.bindparam("of_item"),
        parts.c.period_start == sa.bindparam("of_period"),
        parts.c.start == sa.bindparam("of_start"),
    )
