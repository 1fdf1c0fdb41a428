"""What a copy forgets of items of which rows were left out: the next run looks at them in Stripe before it writes."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Table

from meter_sync.ledger.schema import additions, forgotten, item_periods, items, parts, past_additions, past_parts
from meter_sync.ledger.values import Damaged, stored_tables

_OF_STATE = tuple(one.name for one in (item_periods, parts, past_parts, additions, past_additions))
"""What says what Stripe holds. Of a period all of it is known, or nothing (`writes.forget_what_may_have_changed`)."""


def forget_what_is_damaged(connection: Connection, damaged: Iterable[Damaged]) -> None:
    """Within a transaction: forget what Stripe holds of those items' periods of which something was left out.

    Where it cannot be told which period that was, of all periods of the item; where the item cannot be told either,
    nothing was known by it.
    """
    for one in damaged:
        if one.table not in (*_OF_STATE, items.name, forgotten.name) or not isinstance(one.key["item"], str):
            continue
        item = {name: one.key[name] for name in ("account", "mode", "item")}
        start = one.key.get("period_start")
        periods = [start] if _is_instant(start) else _periods(connection, item)
        for period_start in periods:
            _forget(connection, {**item, "period_start": period_start})
        connection.execute(_where(sa.delete(items), items, item))


def _is_instant(value: Any) -> bool:
    try:
        return isinstance(value, int) and bool(datetime.fromtimestamp(value, UTC))
    except (ValueError, OverflowError, OSError):
        return False


def _periods(connection: Connection, item: dict[str, Any]) -> list[int]:
    starts = set[int]()
    for name in _OF_STATE:
        table = stored_tables()[name]
        starts.update(connection.execute(_where(sa.select(table.c.period_start), table, item)).scalars())
    return sorted(starts)


def _forget(connection: Connection, period: dict[str, Any]) -> None:
    for name in _OF_STATE:
        table = stored_tables()[name]
        connection.execute(_where(sa.delete(table), table, period))
    table = stored_tables()[forgotten.name]
    if connection.execute(_where(sa.select(table.c.item), table, period)).first() is None:
        connection.execute(sa.insert(table).values(period))


def _where(statement: Any, table: Table, key: dict[str, Any]) -> Any:
    return statement.where(*(table.c[name] == value for name, value in key.items()))
