"""The ledger's rows of late usage that is carried: what waits, and what was added to which period."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from meter_sync.core.metering.mapping import LateUsage
from meter_sync.core.planning.memory import Waiting
from meter_sync.core.planning.stages import Write
from meter_sync.ledger.database import Database, of_same_period
from meter_sync.ledger.schema import carries, item_periods, seen_periods

_LATER, _OWN, _THEIRS = seen_periods.alias(), item_periods.alias(), item_periods.alias()
"""A later period of an item, how its own was reported and how that one was; made once, with all their columns."""


def carried_on(database: Database) -> ColumnElement[Any]:
    """Return what of a period's remainder later periods have."""
    added = sa.select(sa.func.coalesce(sa.func.sum(carries.c.quantity), 0))
    its_own = added.where(*database.in_scope(carries), of_same_period(carries, seen_periods))
    return its_own.correlate(seen_periods).scalar_subquery()


def open_quantity(database: Database) -> ColumnElement[Any]:
    """Return what of a period's remainder nobody has settled, and no later period has."""
    return seen_periods.c.remainder - sa.func.coalesce(seen_periods.c.settled, 0) - carried_on(database)


def is_open(database: Database) -> ColumnElement[bool]:
    """Return the condition that something of a period waits for a person or a later period, or is not known."""
    is_unknown = sa.and_(seen_periods.c.not_known.is_not(None), seen_periods.c.settled_at.is_(None))
    return sa.or_(open_quantity(database) != 0, is_unknown)


def waits_in_vain(database: Database) -> ColumnElement[bool]:
    """Return the condition that something of a period waits, and that no period of its item can take it any more.

    Those that are not closed could, unless something was to be written of them in another unit.
    """
    later, own, theirs = _LATER, _OWN, _THEIRS
    of_item = later.join(own, sa.and_(own.c.item == later.c.item, *database.in_scope(own)))
    begun = of_item.outerjoin(theirs, sa.and_(of_same_period(theirs, later), *database.in_scope(theirs)))
    could_take_it = sa.select(sa.literal(1)).select_from(begun)
    could_take_it = could_take_it.where(
        *database.in_scope(later),
        later.c.item == seen_periods.c.item,
        later.c.period_start > seen_periods.c.period_start,
        later.c.closed_at.is_(None),
        own.c.period_start == seen_periods.c.period_start,
        sa.or_(theirs.c.item.is_(None), sa.and_(own.c.price == theirs.c.price, own.c.scale == theirs.c.scale)),
    )
    waits = seen_periods.c.late_usage == LateUsage.CARRY.value, open_quantity(database) != 0
    return sa.and_(*waits, ~could_take_it.exists())


def moves(database: Database, item: str, start: datetime) -> tuple[dict[datetime, int], dict[datetime, int]]:
    """Return what was added to an item's period, and what of it to later ones, by the start of the other period."""
    is_about = carries.c.item == item, sa.or_(carries.c.period_start == start, carries.c.into == start)
    found = database.rows(database.of(carries).where(*is_about))
    carried = {row.period_start: row.quantity for row in found if row.into == start}
    return carried, {row.into: row.quantity for row in found if row.period_start == start}


def recall(database: Database, periods: Mapping[str, datetime]) -> dict[str, tuple[Waiting, ...]]:
    """Given items with the starts of their periods, return what may be added to these, the oldest first.

    Of what is named by now, since nothing of it may wait any more, that is what they have already.
    """
    others, taken = _added(database, periods)
    its_state = sa.and_(of_same_period(item_periods, seen_periods), *database.in_scope(item_periods))
    columns = "item", "period_start", "remainder", "settled", "late_usage", item_periods.c.price, item_periods.c.scale
    query = database.of(seen_periods, *columns).join(item_periods, its_state)
    is_told = query.where(seen_periods.c.late_usage.is_not(None)).order_by(seen_periods.c.period_start)
    found = defaultdict[str, list[Waiting]](list)
    for row in database.rows_of(is_told, seen_periods.c.item, periods):
        place = row.item, row.period_start
        if row.period_start < periods[row.item]:
            left = row.remainder - (row.settled or 0) - others[place]
            quantity = left if row.late_usage == LateUsage.CARRY.value else taken[place]
            found[row.item].append(Waiting(row.period_start, row.price, row.scale, quantity, taken[place]))
    return {item: tuple(one for one in all_ if one.quantity or one.taken) for item, all_ in found.items()}


_Sums = Mapping[tuple[str, datetime], int]


def _added(database: Database, periods: Mapping[str, datetime]) -> tuple[_Sums, _Sums]:
    """Return what of each earlier period was added to other periods than these, and what to these."""
    others, these = defaultdict[tuple[str, datetime], int](int), defaultdict[tuple[str, datetime], int](int)
    for row in database.rows_of(database.of(carries), carries.c.item, periods):
        found = these if row.into == periods[row.item] else others
        found[row.item, row.period_start] += row.quantity
    return others, these


def intend(database: Database, planned: Iterable[Write]) -> None:
    """Record, within a transaction, what writes add to their periods of what earlier ones do not bill."""
    writes = list(planned)
    database.delete(carries, [{"item": one.item.id, "into": one.item.period.start} for one in writes])
    database.insert(
        carries,
        [
            {
                "item": one.item.id,
                "period_start": part.period_start,
                "into": one.item.period.start,
                "quantity": part.quantity,
            }
            for one in writes
            for part in one.carried
        ],
    )
