"""The ledger's rows of events that add to what Stripe holds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from meter_sync.core.billing.item import Period
from meter_sync.core.planning.known import Addition, RememberedAdditions
from meter_sync.core.planning.stages import Set
from meter_sync.ledger.database import Database, batches, execute_many
from meter_sync.ledger.schema import additions, item_periods


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An addition of which it is not known whether Stripe has it, with all that is needed to find out."""

    item: str
    period: Period
    customer: str
    stripe_meter: str | None
    acknowledged: int
    """What Stripe holds of the period as far as it is known."""
    is_answered: bool
    """Whether Stripe has said that it was carried out: then it is only in doubt whether it was rejected later."""
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
            sa.select(newest, *(item_periods.c[name] for name in _OF_PERIOD))
            .join(item_periods, _same_period(newest))
            .where(*database.in_scope(item_periods))
        )
        found += [_unsettled(row) for row in database.rows(period) if not _addition(row).is_delivered]
    return found


_OF_PERIOD = ("period_end", "customer", "stripe_meter", "acknowledged")


def _unsettled(row: Row[Any]) -> Unsettled:
    return Unsettled(
        item=row.item,
        period=Period(row.period_start, row.period_end),
        customer=row.customer,
        stripe_meter=row.stripe_meter,
        acknowledged=row.acknowledged or 0,
        is_answered=_settled_at(row) is not None,
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
    return Addition(
        identifier=row.identifier,
        base=row.base,
        value=row.value,
        timestamp=row.timestamp,
        intended_at=row.intended_at,
        as_of=row.as_of,
        attempted_at=row.attempted_at,
        base_is_read=row.base_is_read,
        is_delivered=_settled_at(row) is not None and not row.in_doubt,
        is_cancel=row.cancel_intended_at is not None,
        in_doubt=row.in_doubt,
    )


def _settled_at(row: Row[Any]) -> datetime | None:
    settled_at: datetime | None = row.delivered_at if row.cancel_intended_at is None else row.cancelled_at
    return settled_at


def without_answer(database: Database) -> sa.Exists:
    """Return the condition that an item's period, in a query, has an addition of which the outcome is not known."""
    lacks_cancel = sa.and_(additions.c.cancel_intended_at.is_not(None), additions.c.cancelled_at.is_(None))
    return (
        sa.select(additions.c.item)
        .where(*database.in_scope(additions), _same_period(additions))
        .where(sa.or_(additions.c.delivered_at.is_(None), lacks_cancel))
        .exists()
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
        "attempted_at": addition.attempted_at,
        "base_is_read": addition.base_is_read,
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


def attempt(database: Database, connection: Connection, one: Unsettled, at: datetime) -> None:
    """Record that an addition is about to be sent again."""
    connection.execute(sa.update(additions).where(*_is_key(database)).values(attempted_at=at), _key_of(one))


def settle(database: Database, connection: Connection, one: Unsettled, at: datetime) -> None:
    """Record that an addition whose outcome was unknown, or its cancellation, was carried out."""
    column = "cancelled_at" if one.addition.is_cancel else "delivered_at"
    connection.execute(sa.update(additions).where(*_is_key(database)).values(**{column: at}), _key_of(one))
    recount(database, connection, one.item, one.period.start)


def clear_doubt(database: Database, connection: Connection, one: Unsettled) -> None:
    """Record that Stripe was found to hold what it took of an item's period."""
    of_period = (additions.c.item == one.item, additions.c.period_start == one.period.start)
    connection.execute(sa.update(additions).where(*database.in_scope(additions), *of_period).values(in_doubt=False))


def recount(database: Database, connection: Connection, item: str, period_start: datetime) -> None:
    """Count anew what Stripe holds of an item's period: what it held at first, and every addition that stands.

    Counting on from the last number instead would go wrong where an addition was rejected that was never
    acknowledged, or was cancelled already.
    """
    stands = (
        additions.c.delivered_at.is_not(None),
        additions.c.cancelled_at.is_(None),
        additions.c.rejected.is_(None),
    )
    added = (
        sa.select(sa.func.coalesce(sa.func.sum(additions.c.value), 0))
        .where(*database.in_scope(additions), additions.c.item == item, additions.c.period_start == period_start)
        .where(*stands)
        .scalar_subquery()
    )
    of_item = (item_periods.c.item == item, item_periods.c.period_start == period_start)
    holds = item_periods.c.opening + added
    connection.execute(
        sa.update(item_periods)
        .where(*database.in_scope(item_periods), *of_item)
        .values(acknowledged=holds, quantity=holds, acknowledged_at=None)
    )


def _key_of(one: Unsettled) -> dict[str, Any]:
    return {"of_item": one.item, "of_period": one.period.start, "of_identifier": one.addition.identifier}


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
