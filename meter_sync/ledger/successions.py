"""Handing what is known of a removed item over to the one that took its place on the same billing meter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.ledger.database import Database, batches
from meter_sync.ledger.schema import additions, item_periods, items, parts, seen_periods


@dataclass(frozen=True, slots=True)
class Continued:
    """What an item goes on with that took a place: the first item that had it."""

    first: str
    born_at: datetime
    """When that one was created."""


def hand_over(
    database: Database, connection: Connection, old: SubscriptionItem, new: SubscriptionItem, at: datetime
) -> bool:
    """Move what was reported for a removed item to its successor, and return whether that could be done.

    It cannot be where something was reported for the successor already. The history of the removed item stays its own.
    """
    if _rows(database, connection, item_periods, new):
        return False
    (seen,) = _rows(database, connection, seen_periods, old)
    place = {"item": new.id, "period_start": new.period.start}
    for table in (parts, additions):
        _update(database, connection, table, old, place)
    row = {**place, "period_end": new.period.end, "subscription": new.subscription.id, "read_whole_at": None}
    _update(database, connection, item_periods, old, row)
    looked = database.of(items, items.c.looked_at).where(items.c.item == old.id)
    known = [{**database.scope, "item": new.id, "looked_at": one.looked_at} for one in connection.execute(looked)]
    if known:
        connection.execute(sqlite_insert(items).on_conflict_do_nothing(), known)
    why = f"its usage is billed with {new.id}, which took its place on the billing meter"
    _update(database, connection, seen_periods, old, {"closed_at": at, "why": why})
    first = {"continues": seen.continues or old.id, "born_at": min(seen.born_at or old.created, new.created)}
    _update(database, connection, seen_periods, new, first)
    return True


def continued(database: Database, periods: Mapping[str, datetime]) -> dict[str, Continued]:
    """Given items and the starts of their periods, return what those go on with that took a place in that period."""
    found: dict[str, Continued] = {}
    for ids in batches(list(periods)):
        columns = [seen_periods.c[name] for name in ("item", "period_start", "continues", "born_at")]
        query = database.of(seen_periods, *columns).where(
            seen_periods.c.continues.is_not(None), seen_periods.c.item.in_(ids)
        )
        for row in database.rows(query):
            if row.period_start == periods[row.item]:
                found[row.item] = Continued(row.continues, row.born_at)
    return found


def _rows(database: Database, connection: Connection, table: Table, item: SubscriptionItem) -> Sequence[sa.Row[Any]]:
    return connection.execute(database.of(table, *table.c).where(*_is(table, item))).all()


def _update(
    database: Database, connection: Connection, table: Table, item: SubscriptionItem, values: Mapping[str, Any]
) -> None:
    connection.execute(sa.update(table).where(*database.in_scope(table), *_is(table, item)).values(**values))


def _is(table: Table, item: SubscriptionItem) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.item == item.id, table.c.period_start == item.period.start
