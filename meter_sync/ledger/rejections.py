"""What Stripe rejected after it had taken it, in the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from meter_sync.core.billing.item import Period
from meter_sync.ledger import additions, rows, schema
from meter_sync.ledger.database import Database
from meter_sync.ledger.schema import cursors, item_periods, parts


@dataclass(frozen=True, slots=True)
class Written:
    """An item whose events were taken within some time: how much Stripe should hold of its period."""

    item: str
    customer: str
    stripe_meter: str
    period: Period
    summarized: Period
    """What Stripe's summary has to be asked for."""
    acknowledged: int
    lacks_answer: bool
    """Whether an addition is on its way of which the outcome is not known."""


def position(database: Database, cursor: str) -> str | None:
    """Return how far a list was read, or None before the first time."""
    found: str | None = database.value(database.of(cursors, cursors.c.position).where(cursors.c.cursor == cursor))
    return found


def move(database: Database, connection: Connection, cursor: str, to: str) -> None:
    """Record how far a list was read."""
    connection.execute(sa.delete(cursors).where(*database.in_scope(cursors), cursors.c.cursor == cursor))
    connection.execute(sa.insert(cursors), [{**database.scope, "cursor": cursor, "position": to}])


def reject(database: Database, connection: Connection, messages: Mapping[str, str]) -> int:
    """Given why Stripe rejected events, by their identifiers, record that it does not hold them; return how many.

    An event that was followed by another one in its place matters no more.
    """
    return sum(_reject(database, connection, identifier, why) for identifier, why in messages.items())


def _reject(database: Database, connection: Connection, identifier: str, why: str) -> int:
    found = 0
    for row in connection.execute(
        database.of(parts, parts.c.item, parts.c.period_start).where(parts.c.identifier == identifier)
    ).all():
        of_part = (*database.in_scope(parts), parts.c.identifier == identifier)
        connection.execute(sa.update(parts).where(*of_part).values(acknowledged=None, identifier=None))
        _mark(database, connection, row.item, row.period_start, {"rejected": why})
        found += 1
    for row in connection.execute(
        database.of(item_periods, item_periods.c.item, item_periods.c.period_start).where(
            item_periods.c.identifier == identifier
        )
    ).all():
        _mark(database, connection, row.item, row.period_start, {"rejected": why, "identifier": None})
        found += 1
    added = schema.additions
    is_this = (*database.in_scope(added), added.c.identifier == identifier, added.c.rejected.is_(None))
    query = sa.select(added.c.item, added.c.period_start).where(*is_this)
    for row in connection.execute(query).all():
        connection.execute(
            sa.update(added)
            .where(*is_this)
            .values(rejected=why, in_doubt=False, delivered_at=sa.func.coalesce(added.c.delivered_at, 0))
        )
        additions.recount(database, connection, row.item, row.period_start)
        _mark(database, connection, row.item, row.period_start, {"rejected": why})
        found += 1
    return found


def _mark(database: Database, connection: Connection, item: str, period: datetime, values: dict[str, Any]) -> None:
    connection.execute(
        sa.update(item_periods)
        .where(*database.in_scope(item_periods), item_periods.c.item == item, item_periods.c.period_start == period)
        .values(acknowledged_at=None, **values)
    )


def written(database: Database, stripe_meter: str | None, since: datetime) -> list[Written]:
    """Return the items on a billing meter of which Stripe took something in runs about `since` or a later instant.

    None is for those on any billing meter.
    """
    of_meter = item_periods.c.stripe_meter
    lacks_answer = additions.without_answer(database).label("lacks_answer")
    query = database.of(item_periods, *item_periods.c, lacks_answer).where(
        of_meter.is_not(None) if stripe_meter is None else of_meter == stripe_meter,
        item_periods.c.rejected.is_(None),
        item_periods.c.acknowledged.is_not(None),
        item_periods.c.as_of >= since,
    )
    return [
        Written(
            item=row.item,
            customer=row.customer,
            stripe_meter=row.stripe_meter,
            period=rows.period(row),
            summarized=rows.summarized(row),
            acknowledged=row.acknowledged,
            lacks_answer=row.lacks_answer,
        )
        for row in database.rows(query)
    ]


def doubt(database: Database, connection: Connection, one: Written, why: str, taken_since: datetime) -> None:
    """Record that Stripe holds less of an item's period than it took, without its saying which event it rejected.

    Hours and days that it still takes, with a timestamp of `taken_since` or later, are set again, and so is a total.
    What was added is not: whether it is there is found out first.
    """
    parts_of, added = (_of_period(database, table, one) for table in (parts, schema.additions))
    still_taken = parts.c.timestamp >= taken_since
    connection.execute(sa.update(parts).where(*parts_of, still_taken).values(acknowledged=None))
    newest = sa.select(sa.func.max(schema.additions.c.number)).where(*added).scalar_subquery()
    is_newest = schema.additions.c.number == newest
    connection.execute(sa.update(schema.additions).where(*added, is_newest).values(in_doubt=True))
    _mark(database, connection, one.item, one.period.start, {"rejected": why})


def _of_period(database: Database, table: sa.Table, one: Written) -> tuple[Any, ...]:
    return (*database.in_scope(table), table.c.item == one.item, table.c.period_start == one.period.start)


def shown(database: Database, connection: Connection, items: Sequence[tuple[str, datetime]]) -> None:
    """Record that a person was told: the next run reports these items again."""
    for item, period in items:
        connection.execute(
            sa.update(item_periods)
            .where(*database.in_scope(item_periods), item_periods.c.item == item, item_periods.c.period_start == period)
            .values(rejected=None)
        )
