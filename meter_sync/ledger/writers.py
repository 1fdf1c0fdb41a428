"""Short claims in the ledger by which writers exclude each other, item by item."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from meter_sync.core.planning.stages import Set
from meter_sync.ledger.database import Database, batches, execute_many
from meter_sync.ledger.rows import RunRecord
from meter_sync.ledger.schema import claims, item_periods, seen_periods

HELD_FOR = timedelta(minutes=2)
"""Longer than a write takes; what a run leaves behind that was killed blocks no longer."""


def claim(
    database: Database, connection: Connection, run: RunRecord, planned: Sequence[Set], at: datetime
) -> frozenset[str]:
    """Claim the items of writes for a run, and return those that no one else has, or has written meanwhile."""
    items = [one.line.item.id for one in planned]
    taken = _taken(database, connection, run, items, at) | _closed(database, connection, planned)
    last = _last_writers(database, connection, planned)
    free = [
        one.line.item.id
        for one in planned
        if one.line.item.id not in taken
        and last.get((one.line.item.id, one.line.item.period.start)) == one.line.follows
    ]
    upsert = sqlite_insert(claims)
    upsert = upsert.on_conflict_do_update(
        index_elements=["account", "mode", "item"],
        set_={name: upsert.excluded[name] for name in ("run", "is_alone", "expires_at")},
    )
    mine = {**database.scope, "run": run.id, "is_alone": run.is_alone, "expires_at": at + HELD_FOR}
    execute_many(connection, upsert, [{**mine, "item": item} for item in free])
    return frozenset(free)


def busy(database: Database, run: RunRecord, items: Sequence[str], at: datetime) -> frozenset[str]:
    """Return those of the items that other runs are writing at this moment."""
    with database.at_one_moment():
        return _taken(database, database.connection, run, items, at)


def _taken(
    database: Database, connection: Connection, run: RunRecord, items: Sequence[str], at: datetime
) -> frozenset[str]:
    """Return the items that others are writing. One that holds the run lock knows that no other lives that held it."""
    found: set[str] = set()
    for ids in batches(items):
        query = database.of(claims, claims.c.item).where(
            claims.c.item.in_(ids), claims.c.run != run.id, claims.c.expires_at > at
        )
        if run.is_alone:
            query = query.where(claims.c.is_alone.is_(False))
        found.update(row.item for row in connection.execute(query).all())
    return frozenset(found)


def _closed(database: Database, connection: Connection, planned: Sequence[Set]) -> frozenset[str]:
    """Return the items whose period was closed since it was planned for: another item has its place by now."""
    periods = {one.line.item.id: one.line.item.period.start for one in planned}
    found: set[str] = set()
    for ids in batches(list(periods)):
        query = database.of(seen_periods, seen_periods.c.item, seen_periods.c.period_start).where(
            seen_periods.c.item.in_(ids), seen_periods.c.closed_at.is_not(None)
        )
        found.update(row.item for row in connection.execute(query).all() if row.period_start == periods[row.item])
    return frozenset(found)


def _last_writers(
    database: Database, connection: Connection, planned: Sequence[Set]
) -> dict[tuple[str, datetime], str | None]:
    found: dict[tuple[str, datetime], str | None] = {}
    for ids in batches([one.line.item.id for one in planned]):
        columns = (item_periods.c.item, item_periods.c.period_start, item_periods.c.run)
        for row in connection.execute(database.of(item_periods, *columns).where(item_periods.c.item.in_(ids))).all():
            found[row.item, row.period_start] = row.run
    return found


def release(database: Database, connection: Connection, run: RunRecord, items: Sequence[str]) -> None:
    """Give the claims on items back."""
    mine = (claims.c.run == run.id, claims.c.item == sa.bindparam("of_item"))
    execute_many(
        connection, sa.delete(claims).where(*database.in_scope(claims), *mine), [{"of_item": item} for item in items]
    )
