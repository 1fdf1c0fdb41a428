"""Short claims in the ledger by which writers exclude each other, item by item.

They last by the clock that all writers share: that of the server, where the ledger is on one.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement

from meter_sync.core.planning.stages import Write
from meter_sync.ledger.database import Database
from meter_sync.ledger.rows import RunRecord
from meter_sync.ledger.schema import claims, item_periods, seen_periods

CLAIMED_FOR = timedelta(minutes=2)
"""Longer than a write takes; what a run leaves behind that was killed blocks no longer."""


def claim(database: Database, run: RunRecord, planned: Sequence[Write], at: datetime) -> frozenset[str]:
    """Claim the items of writes for a run, and return those that no one else has, or has written meanwhile."""
    at += database.ahead
    items = [one.item.id for one in planned]
    taken = _busy(database, run, items, at)
    # Another item has the place of one whose period was closed since it was planned for.
    closed = database.of(seen_periods, "item", "period_start").where(seen_periods.c.closed_at.is_not(None))
    taken |= {row.item for row in database.rows_in(closed, seen_periods, dict(one.item.key for one in planned))}
    written = database.of(item_periods, "item", "period_start", "run")
    found = database.rows_of(written, item_periods.c.item, items)
    last = {(row.item, row.period_start): row.run for row in found}
    free = [one.item.id for one in planned if one.item.id not in taken and last.get(one.item.key) == one.follows]
    mine = {"run": run.id, "is_alone": run.is_alone, "expires_at": at + CLAIMED_FOR}
    database.put(claims, [{"item": item, **mine} for item in free], mine)
    return frozenset(free)


def renew(database: Database, run: RunRecord, items: Sequence[str], at: datetime) -> frozenset[str]:
    """Claim items for longer that a run has claimed before, and return those that it still has."""
    longer = [{"run": run.id, "item": item, "expires_at": at + database.ahead + CLAIMED_FOR} for item in items]
    database.update(claims, longer, by=("run", "item"))
    mine = database.of(claims, "item").where(claims.c.run == run.id)
    return frozenset(row.item for row in database.rows_of(mine, claims.c.item, items))


def busy(database: Database, run: RunRecord, items: Sequence[str], at: datetime) -> frozenset[str]:
    """Return those of the items that other runs are writing at this moment."""
    return _busy(database, run, items, at + database.ahead)


def _busy(database: Database, run: RunRecord, items: Sequence[str], at: datetime) -> frozenset[str]:
    query = database.of(claims, "item").where(*_of_others(run, at))
    return frozenset(row.item for row in database.rows_of(query, claims.c.item, items))


def under_way(database: Database, run: RunRecord, at: datetime) -> ColumnElement[bool]:
    """Return the condition that the item of a row of `item_periods` is one that another run is writing."""
    return database.exists(claims, claims.c.item == item_periods.c.item, *_of_others(run, at + database.ahead))


def _of_others(run: RunRecord, at: datetime) -> tuple[ColumnElement[bool], ...]:
    """Return what is true of the claims of other runs that live.

    A run that holds the run lock knows that no other lives that held it.
    """
    lives = claims.c.run != run.id, claims.c.expires_at > at
    return (*lives, claims.c.is_alone.is_(False)) if run.is_alone else lives


def release(database: Database, run: RunRecord, items: Sequence[str]) -> None:
    """Give the claims on items back."""
    database.delete(claims, [{"run": run.id, "item": item} for item in items])
