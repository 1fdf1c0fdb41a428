"""Additions that have arrived and that others followed, many in a row.

What they tell is what rows told, but for Stripe's name for the request, which is that of their write. The newest one
that has arrived stays a row, and so does what is in doubt, was cancelled or rejected. Before anything is written about
one of them, they become rows again: only rows are ever changed.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.item import PeriodKey
from meter_sync.ledger.database import Database, of_same_period
from meter_sync.ledger.packing import Packer, runs_of
from meter_sync.ledger.past_parts import stretch_of
from meter_sync.ledger.rows import RowUnread
from meter_sync.ledger.run_numbers import names, numbers_of
from meter_sync.ledger.schema import additions, item_periods, past_additions, writes


@dataclass(frozen=True, slots=True)
class PastAddition:
    """An addition that has arrived, and that another one followed."""

    number: int
    tail: str
    """What its identifier has after what it began at."""
    run: str
    base: int
    value: int
    timestamp: datetime
    intended_at: datetime
    as_of: datetime
    attempted_at: datetime
    base_is_read: bool
    delivered_at: datetime


ADDITIONS = Packer(
    PastAddition,
    kept={
        "number": "steps",
        "tail": "plain",
        "run": "run",
        "base": "steps",
        "value": "plain",
        "timestamp": "instants",
        "intended_at": "instants",
        "as_of": "instants",
        "attempted_at": "instants",
        "base_is_read": "plain",
        "delivered_at": "instants",
    },
    beside={
        "timestamp": "intended_at",
        "as_of": "intended_at",
        "attempted_at": "intended_at",
        "delivered_at": "intended_at",
    },
)
_FIELDS = tuple(name for name in ADDITIONS.kept if name != "tail")


# -- packing ----------------------------------------------------------------------------------------


def pack(database: Database, items: Sequence[str], midnight: datetime) -> None:
    """Pack, within a transaction, what was added to items before midnight and is no matter of later runs."""
    arrived = defaultdict[PeriodKey, list[Row[Any]]](list)
    for row in database.rows_of(_arrived(database), additions.c.item, items):
        arrived[row.item, row.period_start].append(row)
    found = defaultdict[tuple[str, datetime, datetime], dict[int, PastAddition]](dict)
    for place, some in arrived.items():
        newest = max(row.number for row in some)
        for row in some:
            past = _past(row) if row.number < newest and max(row.intended_at, row.delivered_at) < midnight else None
            if past:
                found[*place, stretch_of(row.intended_at)][row.number] = past
    if not found:
        return
    oldest = min(since for _, _, since in found)
    before = database.of(past_additions).where(past_additions.c.since >= oldest)
    packed = database.rows_of(before, past_additions.c.item, {item for item, _, _ in found})
    _put(database, ADDITIONS.joined(packed, found, names(database), lambda one: one.number))


def _arrived(database: Database) -> sa.Select[Any]:
    """Ask for the additions that stand for certain. Of one whose write has no answer `history` tells by the row."""
    one = additions.c
    lacks_answer = database.exists(
        writes, of_same_period(writes, additions), writes.c.run == one.run, writes.c.acknowledged_at.is_(None)
    )
    return database.of(additions).where(
        one.delivered_at.is_not(None),
        one.cancel_intended_at.is_(None),
        one.rejected.is_(None),
        ~one.in_doubt,
        ~lacks_answer,
    )


def _past(row: Row[Any]) -> PastAddition | None:
    """Return a row as what can be packed, or None for what has to stay one."""
    # What an identifier names is found by its form alone once it is packed.
    if identifiers.named(row.identifier) != identifiers.Named(row.item, period_start=row.period_start):
        return None
    beginning = identifiers.of_any_addition(row.item, row.period_start, row.base)
    if not row.identifier.startswith(beginning):
        return None
    values = {name: getattr(row, name) for name in _FIELDS}
    return PastAddition(**values, tail=row.identifier.removeprefix(beginning))


def _put(database: Database, found: Mapping[tuple[str, datetime, datetime], Mapping[int, PastAddition]]) -> None:
    numbers = numbers_of(database, runs_of(one for some in found.values() for one in some.values()))
    new, gone = [], []
    for (item, period_start, since), by_number in found.items():
        in_order = [by_number[number] for number in sorted(by_number)]
        place = {"item": item, "period_start": period_start}
        about = {
            "highest_base": max(one.base for one in in_order),
            "added": sum(one.value for one in in_order),
            "how_many": len(in_order),
            "content": ADDITIONS.packed(in_order, numbers),
        }
        new.append({**place, "since": since, **about})
        gone += [{**place, "number": number} for number in by_number]
    database.put(past_additions, new, ("highest_base", "added", "how_many", "content"))
    database.delete(additions, gone)


# -- reading ----------------------------------------------------------------------------------------


def to_same_base(database: Database, periods: Mapping[str, datetime]) -> tuple[dict[str, int], dict[str, RowUnread]]:
    """Given items with the start of their period, return how many packed additions began at what Stripe holds now.

    There are some only after a decrease or a rejection: seldom is anything unpacked for that. Beside it are the items
    of which that cannot be read.
    """
    holds = sa.func.coalesce(item_periods.c.acknowledged, 0)
    query = (
        database.of(past_additions, *past_additions.c, holds.label("holds"))
        .join(item_periods, of_same_period(item_periods, past_additions))
        .where(*database.in_scope(item_periods), past_additions.c.highest_base >= holds)
    )
    found, unread = defaultdict[str, int](int), dict[str, RowUnread]()
    runs = names(database)
    for row in database.rows_in(query, past_additions, periods):
        try:
            found[row.item] += sum(one.base == row.holds for one in ADDITIONS.unpacked(row, runs))
        except RowUnread as error:
            unread[row.item] = error
    return found, unread


def as_rows(database: Database, packed: Iterable[Row[Any]]) -> Iterator[dict[str, Any]]:
    """Return what packed rows have, as rows of `additions`. Raise RowUnread for one that has something else."""
    runs = names(database)
    for row in packed:
        for one in ADDITIONS.unpacked(row, runs):
            beginning = identifiers.of_any_addition(row.item, row.period_start, one.base)
            yield {
                "item": row.item,
                "period_start": row.period_start,
                "identifier": beginning + one.tail,
                **{name: getattr(one, name) for name in _FIELDS},
                "request_id": None,
                "cancelled_at": None,
                "in_doubt": False,
                "rejected": None,
            }


# -- rows again -------------------------------------------------------------------------------------


def unpack_all(database: Database, places: Iterable[PeriodKey]) -> None:
    """Make rows again, within a transaction, of all additions to items' periods."""
    for item, period_start in places:
        packed = database.rows_about(past_additions, item, period_start)
        database.insert_missing(additions, list(as_rows(database, packed)))
        database.delete(past_additions, [{"item": item, "period_start": period_start}] if packed else [])
