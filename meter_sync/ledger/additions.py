"""The ledger's rows of events that add to what Stripe holds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from meter_sync.core.actions import Set
from meter_sync.core.memory import Addition, RememberedAdditions
from meter_sync.core.model import Period
from meter_sync.ledger.database import Database, batches, execute_many
from meter_sync.ledger.schema import additions, item_periods


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An addition of which it is not known whether Stripe has it, with all that is needed to find out."""

    item: str
    period: Period
    customer: str
    stripe_meter: str | None
    addition: Addition


def recall(database: Database, periods: Mapping[str, datetime]) -> dict[str, RememberedAdditions]:
    """Given items with the start of their period, return what is remembered of the additions to each that has any."""
    recalled: dict[str, RememberedAdditions] = {}
    for ids in batches(list(periods)):
        counts = {(row.item, row.period_start): row.how_many for row in database.rows(_to_same_base(database, ids))}
        for row in database.rows(_newest(database, ids)):
            if row.period_start == periods[row.item]:
                same = counts.get((row.item, row.period_start), 0)
                recalled[row.item] = RememberedAdditions(_addition(row), same)
    return recalled


def unsettled(database: Database, items: Sequence[str]) -> list[Unsettled]:
    """Return the additions of these items, in any period, that may or may not have been carried out."""
    found = []
    for ids in batches(items):
        newest = _newest(database, ids).subquery()
        period = (
            sa.select(newest, item_periods.c.period_end, item_periods.c.customer, item_periods.c.stripe_meter)
            .join(item_periods, _same_period(newest))
            .where(*database.in_scope(item_periods))
        )
        found += [_unsettled(row) for row in database.rows(period) if not _addition(row).is_delivered]
    return found


def _unsettled(row: Row[Any]) -> Unsettled:
    return Unsettled(
        item=row.item,
        period=Period(row.period_start, row.period_end),
        customer=row.customer,
        stripe_meter=row.stripe_meter,
        addition=_addition(row),
    )


def _newest(database: Database, ids: Sequence[str]) -> sa.Select[Any]:
    number = sa.func.max(additions.c.number).label("number")
    last = (
        database.of(additions, additions.c.item, additions.c.period_start, number)
        .where(additions.c.item.in_(ids))
        .group_by(additions.c.item, additions.c.period_start)
        .subquery()
    )
    is_last = sa.and_(*(additions.c[name] == last.c[name] for name in ("item", "period_start", "number")))
    return database.of(additions, *additions.c).join(last, is_last)


def _to_same_base(database: Database, ids: Sequence[str]) -> sa.Select[Any]:
    """Ask how many additions began at what Stripe holds now."""
    return (
        database.of(additions, additions.c.item, additions.c.period_start, sa.func.count().label("how_many"))
        .join(item_periods, _same_period(additions))
        .where(
            *database.in_scope(item_periods),
            additions.c.item.in_(ids),
            additions.c.base == sa.func.coalesce(item_periods.c.acknowledged, 0),
        )
        .group_by(additions.c.item, additions.c.period_start)
    )


def _same_period(rows: Any) -> Any:
    return sa.and_(item_periods.c.item == rows.c.item, item_periods.c.period_start == rows.c.period_start)


def _addition(row: Row[Any]) -> Addition:
    is_cancel = row.cancel_intended_at is not None
    settled_at = row.cancelled_at if is_cancel else row.delivered_at
    return Addition(
        identifier=row.identifier,
        base=row.base,
        value=row.value,
        timestamp=row.timestamp,
        intended_at=row.intended_at,
        as_of=row.as_of,
        is_delivered=settled_at is not None and not row.in_doubt,
        is_cancel=is_cancel,
        in_doubt=row.in_doubt,
    )


def intend(database: Database, connection: Connection, run: str, planned: Sequence[Set], at: datetime) -> None:
    """Record what is about to be added or cancelled, exactly as it will be sent."""
    adding = [write for write in planned if write.addition and not write.addition.is_cancel]
    cancelling = [write for write in planned if write.addition and write.addition.is_cancel]
    numbers = _last_numbers(database, connection, [write.line.item.id for write in adding])
    rows = []
    for write in adding:
        key = (write.line.item.id, write.line.item.period.start)
        rows.append({**database.scope, **_row(write, run), "number": numbers.get(key, 0) + 1})
    execute_many(connection, sa.insert(additions), rows)
    cancelled = sa.update(additions).where(*_is_key(database)).values(cancel_intended_at=at)
    execute_many(connection, cancelled, [_key(write) for write in cancelling])


def _last_numbers(database: Database, connection: Connection, items: Sequence[str]) -> dict[tuple[str, datetime], int]:
    numbers = {}
    for ids in batches(items):
        for row in connection.execute(_newest(database, ids)).all():
            numbers[row.item, row.period_start] = row.number
    return numbers


def _row(write: Set, run: str) -> dict[str, Any]:
    addition = write.addition
    if addition is None:
        raise ValueError(f"nothing is to be added to {write.line.item.id}")
    return {
        "item": write.line.item.id,
        "period_start": write.line.item.period.start,
        "identifier": addition.identifier,
        "run": run,
        "base": addition.base,
        "value": addition.value,
        "timestamp": addition.timestamp,
        "intended_at": addition.intended_at,
        "as_of": addition.as_of,
        "in_doubt": False,
    }


def acknowledge(database: Database, connection: Connection, done: Iterable[tuple[Set, datetime, str | None]]) -> None:
    """Record which additions and cancellations Stripe has carried out."""
    for write, at, request_id in done:
        if write.addition is None:
            continue
        values: dict[str, Any] = {"request_id": request_id, "delivered_at": at}
        if write.addition.is_cancel:
            values = {"cancelled_at": at}
        connection.execute(sa.update(additions).where(*_is_key(database)).values(**values), _key(write))


def withdraw(database: Database, connection: Connection, unsent: Sequence[Set]) -> None:
    """Take back what was certainly not carried out."""
    adding = [_key(write) for write in unsent if write.addition and not write.addition.is_cancel]
    cancelling = [_key(write) for write in unsent if write.addition and write.addition.is_cancel]
    execute_many(connection, sa.delete(additions).where(*_is_key(database)), adding)
    kept = sa.update(additions).where(*_is_key(database)).values(cancel_intended_at=None)
    execute_many(connection, kept, cancelling)


def settle(database: Database, connection: Connection, one: Unsettled, at: datetime, *, carried_out: bool) -> None:
    """Record what became of an addition whose outcome was unknown, and what Stripe holds of the period with it."""
    addition = one.addition
    key = {"of_item": one.item, "of_period": one.period.start, "of_identifier": addition.identifier}
    is_there = carried_out is not addition.is_cancel
    this = sa.update(additions).where(*_is_key(database))
    if addition.is_cancel:
        change: Any = this.values(cancelled_at=at) if carried_out else this.values(cancel_intended_at=None)
    elif carried_out:
        change = this.values(delivered_at=at, in_doubt=False)
    else:
        change = this.values(rejected="it never arrived", delivered_at=at, in_doubt=False)
    period = sa.update(item_periods).where(
        *database.in_scope(item_periods),
        item_periods.c.item == one.item,
        item_periods.c.period_start == one.period.start,
    )
    holds = addition.base + addition.value if is_there else addition.base
    connection.execute(change, key)
    connection.execute(period.values(acknowledged=holds, quantity=holds, acknowledged_at=None))


def _key(write: Set) -> dict[str, Any]:
    item, addition = write.line.item, write.addition
    return {
        "of_item": item.id,
        "of_period": item.period.start,
        "of_identifier": addition.identifier if addition else "",
    }


def _is_key(database: Database) -> tuple[Any, ...]:
    return (
        *database.in_scope(additions),
        additions.c.item == sa.bindparam("of_item"),
        additions.c.period_start == sa.bindparam("of_period"),
        additions.c.identifier == sa.bindparam("of_identifier"),
    )
