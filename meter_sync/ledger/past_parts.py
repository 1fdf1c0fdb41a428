"""Hours and days that stand in Stripe as they were to be, many in a row.

What they tell is what rows told, but for Stripe's name for a request that an identifier names as well. Before anything
is written about one of them, they become rows again: only rows are ever changed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.item import PeriodKey
from meter_sync.ledger.column_types import UNREADABLE
from meter_sync.ledger.database import Database
from meter_sync.ledger.packing import Packer, runs_of
from meter_sync.ledger.rows import RowUnread, keys
from meter_sync.ledger.run_numbers import names, numbers_of
from meter_sync.ledger.schema import parts, past_parts

DAYS_IN_A_ROW = 8
"""A row of so many days of hours has about a thousand bytes: of longer ones a page of the file would hold too few."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class PastPart:
    """An hour or a day that stands as it was to be."""

    start: datetime
    timestamp: datetime
    total: Decimal
    value: int
    acknowledged_at: datetime | None
    run: str | None
    """The run whose event set it, where it was an event."""
    request_id: str | None
    """Where it was none."""


PARTS = Packer(
    PastPart,
    kept={
        "start": "instants",
        "timestamp": "instants",
        "total": "sums",
        "value": "plain",
        "acknowledged_at": "instants",
        "run": "run",
        "request_id": "texts",
    },
    beside={"timestamp": "start", "acknowledged_at": "start"},
)


def stretch_of(at: datetime) -> datetime:
    """Return since when the row is whose days an instant is in."""
    length = timedelta(days=DAYS_IN_A_ROW)
    return _EPOCH + (at - _EPOCH) // length * length


# -- packing ----------------------------------------------------------------------------------------


def pack(database: Database, items: Sequence[str], midnight: datetime) -> None:
    """Pack, within a transaction, what of items' hours and days is settled since before midnight."""
    found = defaultdict[tuple[str, datetime, datetime], dict[datetime, PastPart]](dict)
    for row in database.rows_of(_settled(database, midnight), parts.c.item, items):
        part = _past_part(row)
        if part is not None:
            found[row.item, row.period_start, stretch_of(row.start)][row.start] = part
    if not found:
        return
    oldest = min(since for _, _, since in found)
    before = database.of(past_parts).where(past_parts.c.since >= oldest)
    packed = database.rows_of(before, past_parts.c.item, {item for item, _, _ in found})
    _put(database, PARTS.joined(packed, found, names(database), lambda one: one.start))


def _settled(database: Database, midnight: datetime) -> sa.Select[Any]:
    is_old = sa.or_(parts.c.acknowledged_at.is_(None), parts.c.acknowledged_at < midnight)
    return database.of(parts).where(parts.c.start < midnight, parts.c.acknowledged == parts.c.value, is_old)


def _past_part(row: Row[Any]) -> PastPart | None:
    """Return a row as what can be packed, or None for what has to stay one."""
    if row.total is UNREADABLE:
        return None
    # What an identifier names is found by its form alone once it is packed.
    if row.identifier and identifiers.named(row.identifier) != identifiers.Named(row.item, part=row.start):
        return None
    end = identifiers.of_set("", row.item, row.start)
    run = row.identifier.removesuffix(end) if row.identifier else None
    request_id = None if run else row.request_id
    return PastPart(row.start, row.timestamp, row.total, row.value, row.acknowledged_at, run, request_id)


def _put(database: Database, found: Mapping[tuple[str, datetime, datetime], Mapping[datetime, PastPart]]) -> None:
    numbers = numbers_of(database, runs_of(one for some in found.values() for one in some.values()))
    new, gone = [], []
    for (item, period_start, since), by_start in found.items():
        in_order = [by_start[start] for start in sorted(by_start)]
        until, total = in_order[-1].start, in_order[-1].total
        place = {"item": item, "period_start": period_start}
        about = {"until": until, "total": total, "how_many": len(in_order), "content": PARTS.packed(in_order, numbers)}
        new.append({**place, "since": since, **about})
        gone += [{**place, "start": start} for start in by_start]
    database.put(past_parts, new, ("until", "total", "how_many", "content"))
    database.delete(parts, gone)


# -- reading ----------------------------------------------------------------------------------------


def of_periods(
    database: Database, periods: Mapping[str, datetime], since: datetime | None
) -> Iterator[tuple[str, list[PastPart] | RowUnread]]:
    """Given items with the start of their period, return what is packed of each: the rows that go on beyond `since`.

    One that cannot be read is the matter of its item.
    """
    query = database.of(past_parts)
    if since is not None:
        query = query.where(past_parts.c.until >= since)
    runs = names(database)
    for row in database.rows_in(query, past_parts, periods):
        try:
            found: list[PastPart] | RowUnread = PARTS.unpacked(row, runs)
        except RowUnread as error:
            found = error
        yield row.item, found


def totals_before(
    database: Database, periods: Mapping[str, datetime], since: datetime
) -> Iterator[tuple[str, datetime, Decimal]]:
    """Return of the rows that end before an instant the item, the start of the last part, and the total there."""
    query = database.of(past_parts, "item", "period_start", "until", "total").where(past_parts.c.until < since)
    for row in database.rows_in(query, past_parts, periods):
        yield row.item, row.until, row.total


def as_rows(database: Database, packed: Iterable[Row[Any]]) -> Iterator[dict[str, Any]]:
    """Return what packed rows have, as rows of `parts`. Raise RowUnread for one that has something else."""
    runs = names(database)
    for row in packed:
        for one in PARTS.unpacked(row, runs):
            yield {
                "item": row.item,
                "period_start": row.period_start,
                "start": one.start,
                "timestamp": one.timestamp,
                "total": one.total,
                "value": one.value,
                "acknowledged": one.value,
                "acknowledged_at": one.acknowledged_at,
                "identifier": identifiers.of_set(one.run, row.item, one.start) if one.run else None,
                "request_id": one.request_id,
            }


# -- rows again -------------------------------------------------------------------------------------


def unpack_starts(database: Database, starts: Mapping[PeriodKey, Collection[datetime]]) -> None:
    """Make rows again, within a transaction, of what is packed with parts that begin at these instants."""
    query = database.of(past_parts, "item", "period_start", "since", "until")
    touched = [
        row
        for row in database.rows_of(query, past_parts.c.item, {item for item, _ in starts})
        if any(row.since <= start <= row.until for start in starts.get((row.item, row.period_start), ()))
    ]
    whole = ((one.since, _about(database, [(one.item, one.period_start)])) for one in touched)
    _unpack(database, [row for since, of_period in whole for row in of_period if row.since == since])


def unpack_all(database: Database, places: Iterable[PeriodKey]) -> None:
    """Make rows again, within a transaction, of all parts of items' periods."""
    _unpack(database, _about(database, places))


def _about(database: Database, places: Iterable[PeriodKey]) -> list[Row[Any]]:
    query, wanted = database.of(past_parts), set(places)
    found = database.rows_of(query, past_parts.c.item, {item for item, _ in wanted})
    return [row for row in found if (row.item, row.period_start) in wanted]


def _unpack(database: Database, packed: Sequence[Row[Any]]) -> None:
    database.insert_missing(parts, list(as_rows(database, packed)))
    place = keys((row.item, row.period_start) for row in packed)
    database.delete(past_parts, [{**one, "since": row.since} for one, row in zip(place, packed, strict=True)])
