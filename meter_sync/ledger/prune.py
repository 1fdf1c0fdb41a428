"""Forgetting what is long over, and nothing that a later run could need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from meter_sync.ledger.database import Database, execute_many
from meter_sync.ledger.schema import (
    additions,
    forgotten,
    holds,
    item_periods,
    parts,
    runs,
    seen_periods,
    webhook_events,
    writes,
)

_OF_PERIODS = (writes, parts, additions, holds, forgotten, item_periods, seen_periods)


@dataclass(frozen=True, slots=True)
class Keep:
    """What stays, whatever its age."""

    past: timedelta
    """How long before an item's newest period its older ones are compared with what it uses now."""
    last_complete_run: datetime | None


def prune(database: Database, connection: Connection, before: datetime, keep: Keep) -> dict[str, int]:
    """Delete what is about periods that were over before an instant, and return how many rows went, by table.

    These stay, whatever their age:

    - a period that is not closed, an item's newest one, and those shortly before each of these: where the usage of the
      last one ended, and on which billing meter that was, says where that of the next one starts, and brakes compare
      with them;
    - a remainder that no person has marked as settled;
    - an addition of which it is not known whether Stripe has it;
    - the write with the newest instant of all: by it a clock is known that went back;
    - the last complete run, and what says which items were looked at, which account this is, and how far lists were
      read.
    """
    over = connection.execute(_over(database, before, keep.past)).all()
    keys = [{"of_item": row.item, "of_period": row.period_start} for row in over]
    gone = {table.name: _delete_periods(database, connection, table, keys) for table in _OF_PERIODS}
    return gone | _delete_older(database, connection, before, keep.last_complete_run)


def _over(database: Database, before: datetime, past: timedelta) -> sa.Select[Any]:
    """Ask for the periods that can go."""
    one = seen_periods.c
    is_settled = one.remainder == sa.func.coalesce(one.settled, 0)
    is_old = (
        one.period_end < before,
        one.closed_at < before,
        sa.or_(one.settled_at.is_(None), one.settled_at < before),
    )
    is_needed = (
        ~_has_later(database, seen_periods),
        _is_shortly_before_a_needed_one(database, past),
        _has_addition_in_doubt(database),
        _has_newest_instant(database),
    )
    return database.of(seen_periods, one.item, one.period_start).where(*is_old, is_settled, ~sa.or_(*is_needed))


def _is_shortly_before_a_needed_one(database: Database, past: timedelta) -> sa.ColumnElement[bool]:
    """Return the condition that a period is followed soon by one that is its item's newest, or not closed."""
    following = seen_periods.alias("following")
    looked_back = sa.type_coerce(following.c.period_start, sa.BigInteger) - int(past.total_seconds())
    return _exists(
        database,
        following,
        following.c.item == seen_periods.c.item,
        following.c.period_start > seen_periods.c.period_start,
        looked_back <= sa.type_coerce(seen_periods.c.period_end, sa.BigInteger),
        sa.or_(following.c.closed_at.is_(None), ~_has_later(database, following)),
    )


def _has_later(database: Database, period: sa.FromClause) -> sa.ColumnElement[bool]:
    later = seen_periods.alias("later")
    return _exists(database, later, later.c.item == period.c.item, later.c.period_start > period.c.period_start)


def _has_addition_in_doubt(database: Database) -> sa.ColumnElement[bool]:
    lacks_cancel = sa.and_(additions.c.cancel_intended_at.is_not(None), additions.c.cancelled_at.is_(None))
    is_in_doubt = sa.or_(additions.c.delivered_at.is_(None), lacks_cancel, additions.c.in_doubt)
    return _exists(database, additions, *_of_same_period(additions), is_in_doubt)


def _has_newest_instant(database: Database) -> sa.ColumnElement[bool]:
    every = item_periods.alias("every")
    newest = sa.select(sa.func.max(every.c.as_of)).where(*_in_scope(database, every)).scalar_subquery()
    return _exists(database, item_periods, *_of_same_period(item_periods), item_periods.c.as_of == newest)


def _of_same_period(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.item == seen_periods.c.item, table.c.period_start == seen_periods.c.period_start


def _exists(database: Database, table: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    return sa.select(sa.literal(1)).select_from(table).where(*_in_scope(database, table), *conditions).exists()


def _in_scope(database: Database, table: sa.FromClause) -> tuple[sa.ColumnElement[bool], ...]:
    return tuple(table.c[name] == value for name, value in database.scope.items())


def _delete_periods(
    database: Database, connection: Connection, table: sa.Table, keys: Sequence[Mapping[str, Any]]
) -> int:
    before = _count(database, connection, table)
    is_it = (table.c.item == sa.bindparam("of_item"), table.c.period_start == sa.bindparam("of_period"))
    execute_many(connection, sa.delete(table).where(*database.in_scope(table), *is_it), keys)
    return before - _count(database, connection, table)


def _count(database: Database, connection: Connection, table: sa.Table) -> int:
    return int(connection.execute(database.of(table, sa.func.count())).scalar_one())


def _delete_older(
    database: Database, connection: Connection, before: datetime, last: datetime | None
) -> dict[str, int]:
    """Delete runs and events that came by webhook."""
    is_over = [sa.func.coalesce(runs.c.finished_at, runs.c.started_at) < before]
    if last is not None:
        is_over.append(runs.c.started_at != last)
    old = {runs: is_over, webhook_events: [webhook_events.c.done_at < before]}
    return {
        table.name: connection.execute(sa.delete(table).where(*database.in_scope(table), *conditions)).rowcount
        for table, conditions in old.items()
    }
