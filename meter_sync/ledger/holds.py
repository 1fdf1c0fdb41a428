"""The ledger's rows of what kept items from being reported."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from meter_sync.core.outcomes import ExitCode, exit_code
from meter_sync.core.planning.stages import Result
from meter_sync.ledger.database import Database, batches, execute_many
from meter_sync.ledger.schema import holds

Key = tuple[str, datetime]
"""An item and the start of its period."""

_SAME = ("outcome", "reason", "quantity")
"""What two runs must agree on to share a row."""


def record(database: Database, connection: Connection, run: str, results: Sequence[Result], at: datetime) -> None:
    """Given what became of a run's items, record those that were held, failed, or skipped with possible harm.

    A run that says the same of an item's period as the newest row extends that row: an item that is held for a month
    has one, not 720.
    """
    rows = [_row(one, run, at) for one in results if _is_kept_from_being_reported(one)]
    before = _newest(database, connection, [row["item"] for row in rows])
    news, again = [], []
    for row in rows:
        last = before.get((row["item"], row["period_start"]))
        if last is not None and all(getattr(last, name) == row[name] for name in _SAME):
            again.append(_extension(row, last))
        else:
            news.append({**database.scope, **row, "number": last.number + 1 if last else 1})
    execute_many(connection, sa.insert(holds), news)
    is_it = (holds.c[name] == sa.bindparam(f"of_{name}") for name in ("item", "period_start", "number"))
    values: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in ("last_run", "last_at", "message")}
    extended = sa.update(holds).where(*database.in_scope(holds), *is_it)
    execute_many(connection, extended.values(times=holds.c.times + 1, **values), again)


def _is_kept_from_being_reported(one: Result) -> bool:
    return exit_code([(one.outcome, one.reason)]) is not ExitCode.DONE


def _row(one: Result, run: str, at: datetime) -> dict[str, Any]:
    line = one.line
    return {
        "item": line.item.id,
        "period_start": line.item.period.start,
        "outcome": one.outcome.value,
        "reason": one.reason.value if one.reason else "",
        "message": one.message,
        "usage": line.usage,
        "quantity": line.quantity,
        "previous": line.previous,
        "first_run": run,
        "first_at": at,
        "last_run": run,
        "last_at": at,
        "times": 1,
    }


def _extension(row: Mapping[str, Any], last: Row[Any]) -> dict[str, Any]:
    return {
        "of_item": row["item"],
        "of_period_start": row["period_start"],
        "of_number": last.number,
        "new_last_run": row["last_run"],
        "new_last_at": row["last_at"],
        "new_message": row["message"],
    }


def _newest(database: Database, connection: Connection, items: Sequence[str]) -> dict[Key, Row[Any]]:
    """Return the newest row of each of these items' periods that has any."""
    found: dict[Key, Row[Any]] = {}
    for ids in batches(items):
        query = database.of(holds, *holds.c).where(holds.c.item.in_(ids)).order_by(holds.c.number)
        found |= {(row.item, row.period_start): row for row in connection.execute(query).all()}
    return found
