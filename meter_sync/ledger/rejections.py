"""What Stripe rejected after it had taken it, in the ledger."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from meter_sync.core.model import Period
from meter_sync.ledger import rows
from meter_sync.ledger.database import Database
from meter_sync.ledger.schema import additions, cursors, item_periods, parts


@dataclass(frozen=True, slots=True)
class Written:
    """An item whose events were taken within some time: how much Stripe should hold of its period."""

    item: str
    customer: str
    period: Period
    summarized: Period
    """What Stripe's summary has to be asked for."""
    acknowledged: int


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
    is_this = (*database.in_scope(additions), additions.c.identifier == identifier, additions.c.rejected.is_(None))
    query = sa.select(additions.c.item, additions.c.period_start, additions.c.value).where(*is_this)
    for row in connection.execute(query).all():
        connection.execute(
            sa.update(additions)
            .where(*is_this)
            .values(rejected=why, in_doubt=False, delivered_at=sa.func.coalesce(additions.c.delivered_at, 0))
        )
        holds = item_periods.c.acknowledged - row.value
        _mark(database, connection, row.item, row.period_start, {"rejected": why, "acknowledged": holds})
        found += 1
    return found


def _mark(database: Database, connection: Connection, item: str, period: datetime, values: dict[str, Any]) -> None:
    connection.execute(
        sa.update(item_periods)
        .where(*database.in_scope(item_periods), item_periods.c.item == item, item_periods.c.period_start == period)
        .values(acknowledged_at=None, **values)
    )


def written(database: Database, stripe_meter: str, since: datetime) -> list[Written]:
    """Return the items on a billing meter of which Stripe took something in runs about `since` or a later instant."""
    query = database.of(item_periods, *item_periods.c).where(
        item_periods.c.stripe_meter == stripe_meter,
        item_periods.c.rejected.is_(None),
        item_periods.c.acknowledged.is_not(None),
        item_periods.c.as_of >= since,
    )
    return [
        Written(row.item, row.customer, rows.period(row), rows.summarized(row), row.acknowledged)
        for row in database.rows(query)
    ]


def doubt(database: Database, connection: Connection, one: Written, why: str) -> None:
    """Record that Stripe holds less of an item's period than it took, without its saying which event it rejected.

    Hours and days, and a total, are set again. What was added is not: whether it is there is found out first.
    """
    of_parts = (*database.in_scope(parts), parts.c.item == one.item, parts.c.period_start == one.period.start)
    connection.execute(sa.update(parts).where(*of_parts).values(acknowledged=None))
    newest = sa.select(sa.func.max(additions.c.number)).where(
        *database.in_scope(additions),
        additions.c.item == one.item,
        additions.c.period_start == one.period.start,
    )
    connection.execute(
        sa.update(additions)
        .where(
            *database.in_scope(additions),
            additions.c.item == one.item,
            additions.c.period_start == one.period.start,
            additions.c.number == newest.scalar_subquery(),
        )
        .values(in_doubt=True)
    )
    _mark(database, connection, one.item, one.period.start, {"rejected": why})


def shown(database: Database, connection: Connection, items: Sequence[tuple[str, datetime]]) -> None:
    """Record that a person was told: the next run reports these items again."""
    for item, period in items:
        connection.execute(
            sa.update(item_periods)
            .where(*database.in_scope(item_periods), item_periods.c.item == item, item_periods.c.period_start == period)
            .values(rejected=None)
        )
