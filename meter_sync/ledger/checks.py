"""What must be true of an account's books, each promise by its name: who writes a book keeps it in each transaction.

What may as well be otherwise, such as a write without an answer or a claim that has run out, is no matter of these.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Row, Table

from meter_sync.core.billing.item import PeriodKey
from meter_sync.core.billing.way import Way
from meter_sync.ledger.database import Database, of_same_period
from meter_sync.ledger.packing import WRITES, Packer
from meter_sync.ledger.past_additions import ADDITIONS
from meter_sync.ledger.past_parts import PARTS
from meter_sync.ledger.rows import RowUnread
from meter_sync.ledger.run_numbers import names
from meter_sync.ledger.schema import (
    additions,
    carries,
    claims,
    forgotten,
    item_periods,
    kept_series,
    kept_totals,
    kept_usages,
    parts,
    past_additions,
    past_parts,
    past_writes,
    run_numbers,
    seen_periods,
    writes,
)
from meter_sync.ledger.writers import CLAIMED_FOR


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something in the books that cannot be."""

    said: str
    item: str | None = None
    period_start: datetime | None = None


Check = Callable[[Database, datetime], Iterator[Wrong]]
"""Finds what is wrong in the books of a scope, at an instant by the clock of all who share them."""


def _about(row: Row[Any], said: str) -> Wrong:
    return Wrong(said, row.item, row.period_start)


def periods_are_periods(database: Database, _at: datetime) -> Iterator[Wrong]:
    """No period ends before it begins."""
    for table in (item_periods, seen_periods):
        query = database.of(table, "item", "period_start").where(table.c.period_end < table.c.period_start)
        for row in database.each(query):
            yield _about(row, f"{table.name}: the period ends before it begins")


def state_has_its_period(database: Database, _at: datetime) -> Iterator[Wrong]:
    """Hours, days and additions are of a period whose state is known."""
    for table in (parts, past_parts, additions, past_additions):
        query = database.of(table, "item", "period_start").where(~_has(database, item_periods, table)).distinct()
        for row in database.each(query):
            yield _about(row, f"{table.name}: there are rows of a period that item_periods does not know")


def writes_have_their_period(database: Database, _at: datetime) -> Iterator[Wrong]:
    """What Stripe has taken was written to a period that is known, or of which it is known that it was forgotten."""
    for table, is_taken in ((writes, writes.c.acknowledged_at.is_not(None)), (past_writes, sa.true())):
        is_known = sa.or_(_has(database, item_periods, table), _has(database, forgotten, table))
        for row in database.each(database.of(table, "item", "period_start").where(is_taken, ~is_known).distinct()):
            yield _about(row, f"{table.name}: Stripe took a write of a period that item_periods does not know")


def written_is_acknowledged(database: Database, _at: datetime) -> Iterator[Wrong]:
    """What Stripe took last, of the run that the state is of, is what it is said to hold. Additions are counted."""
    is_last = writes.c.step == _last_step(database)
    query = (
        database.of(item_periods, "item", "period_start", "acknowledged", writes.c.quantity.label("written"))
        .join(writes, sa.and_(of_same_period(writes, item_periods), *database.in_scope(writes)))
        .where(
            writes.c.run == item_periods.c.run,
            is_last,
            writes.c.acknowledged_at.is_not(None),
            item_periods.c.way != Way.ADDITIONS.value,
            sa.or_(item_periods.c.acknowledged.is_(None), item_periods.c.acknowledged != writes.c.quantity),
        )
    )
    for row in database.each(query):
        yield _about(row, f"item_periods: Stripe took {row.written}, and is said to hold {row.acknowledged}")


def _last_step(database: Database) -> ColumnElement[Any]:
    every = writes.alias()
    last = sa.select(sa.func.max(every.c.step)).where(
        *database.in_scope(every), of_same_period(every, writes), every.c.run == writes.c.run
    )
    return last.correlate(writes).scalar_subquery()


def _is_of_a_write(database: Database) -> ColumnElement[bool]:
    """Return the condition that Stripe holds what the program wrote, and nothing else, by the state of a period.

    What was read in Stripe, or concluded after the end without anything that was sent, is in no hour and no addition.
    """
    of_its_run = writes.c.run == item_periods.c.run, writes.c.acknowledged_at.is_not(None)
    is_written = database.exists(writes, of_same_period(writes, item_periods), *of_its_run)
    return sa.and_(item_periods.c.foreign_quantity == 0, is_written)


def windows_add_up(database: Database, _at: datetime) -> Iterator[Wrong]:
    """Where all hours or days of a period stand as they were to be, they come to what Stripe is said to hold."""
    sums: defaultdict[PeriodKey, int] = defaultdict(int)
    for row, found in _unpacked(database, past_parts, PARTS):
        sums[row.item, row.period_start] += sum(one.value for one in found)
    is_settled = sa.and_(parts.c.acknowledged.is_not(None), parts.c.acknowledged == parts.c.value)
    by_period = database.of(
        parts,
        "item",
        "period_start",
        sa.func.sum(parts.c.value).label("value"),
        sa.func.sum(sa.case((is_settled, 0), else_=1)).label("open"),
    ).group_by(parts.c.item, parts.c.period_start)
    unsettled = set[PeriodKey]()
    for row in database.each(by_period):
        sums[row.item, row.period_start] += int(row.value)
        if row.open:
            unsettled.add((row.item, row.period_start))
    ways = [Way.WINDOWS.value, Way.DAY_RECORDS.value]
    of_state = database.of(item_periods, "item", "period_start", "acknowledged", "quantity", "rejected")
    stands = item_periods.c.way.in_(ways), item_periods.c.acknowledged == item_periods.c.quantity
    is_whole = *stands, item_periods.c.rejected.is_(None), _is_of_a_write(database)
    for row in database.each(of_state.where(*is_whole)):
        key = row.item, row.period_start
        if key not in unsettled and sums[key] != row.acknowledged:
            yield _about(row, f"item_periods: its hours or days come to {sums[key]}, and not to {row.acknowledged}")


def additions_add_up(database: Database, _at: datetime) -> Iterator[Wrong]:
    """What stood at first and every addition that stands come to what Stripe is said to hold."""
    stands = (
        additions.c.delivered_at.is_not(None),
        additions.c.cancelled_at.is_(None),
        additions.c.rejected.is_(None),
    )
    added = _sum_of_period(database, additions, additions.c.value, *stands)
    before = _sum_of_period(database, past_additions, past_additions.c.added)
    holds = (item_periods.c.opening + added + before).label("holds")
    query = database.of(item_periods, "item", "period_start", "acknowledged", holds).where(
        item_periods.c.way == Way.ADDITIONS.value,
        item_periods.c.acknowledged.is_not(None),
        _is_of_a_write(database),
        holds != item_periods.c.acknowledged,
    )
    for row in database.each(query):
        yield _about(row, f"item_periods: what was added comes to {row.holds}, and not to {row.acknowledged}")


def _sum_of_period(
    database: Database, table: Table, column: ColumnElement[Any], *conditions: ColumnElement[bool]
) -> ColumnElement[Any]:
    every = database.of(table, sa.func.coalesce(sa.func.sum(column), 0)).where(
        of_same_period(table, item_periods), *conditions
    )
    return every.correlate(item_periods).scalar_subquery()


def packed_is_as_said(database: Database, _at: datetime) -> Iterator[Wrong]:
    """What is packed can be read, and is what its row says of it."""
    for table, packer in ((past_writes, WRITES), (past_parts, PARTS), (past_additions, ADDITIONS)):
        unread = list[Wrong]()
        for row, found in _unpacked(database, table, packer, unread):
            if said := _otherwise(row, found):
                yield _about(row, f"{table.name}: {said}")
        yield from unread


def _otherwise(row: Row[Any], found: list[Any]) -> str | None:
    if len(found) != row.how_many:
        return f"{len(found)} are packed, and not {row.how_many}"
    said = row._mapping
    if "added" in said and sum(one.value for one in found) != row.added:
        return f"what is packed has added {sum(one.value for one in found)}, and not {row.added}"
    if "highest_base" in said and max((one.base for one in found), default=None) != row.highest_base:
        return "what is packed began at another highest quantity"
    if "until" in said and found and (found[-1].start, found[-1].total) != (row.until, row.total):
        return "what is packed ends at another instant, or with another total"
    return None


def identifiers_are_of_one(database: Database, _at: datetime) -> Iterator[Wrong]:
    """No two events have one name: Stripe would have taken only the first."""
    for table in (item_periods, parts, additions):
        name = table.c.identifier
        query = database.of(table, "identifier", sa.func.min(table.c.item).label("item"), sa.func.count().label("n"))
        for row in database.each(query.where(name.is_not(None)).group_by(name).having(sa.func.count() > 1)):
            yield Wrong(f"{table.name}: {row.n} events have the identifier {row.identifier}", row.item)


def carries_come_from_a_period(database: Database, _at: datetime) -> Iterator[Wrong]:
    """What was carried comes from a period that is known, and went to a later one."""
    is_back = carries.c.into <= carries.c.period_start
    query = database.of(carries, "item", "period_start", "into", is_back.label("is_back"))
    for row in database.each(query.where(sa.or_(~_has(database, seen_periods, carries), is_back))):
        said = "went to a period that is not later" if row.is_back else "comes from a period that is not known"
        yield _about(row, f"carries: what was carried {said}")


def settled_is_signed(database: Database, _at: datetime) -> Iterator[Wrong]:
    """What a person has settled has its time and its note."""
    signs = [seen_periods.c[name].is_(None) for name in ("settled", "settled_at", "note")]
    query = database.of(seen_periods, "item", "period_start").where(sa.or_(*signs), ~sa.and_(*signs))
    for row in database.each(query):
        yield _about(row, "seen_periods: it is settled in part: quantity, time or note is missing")


def kept_usage_is_of_a_series(database: Database, _at: datetime) -> Iterator[Wrong]:
    """Usage that is kept is of a series that is known."""
    for table in (kept_totals, kept_usages):
        is_known = database.exists(kept_series, kept_series.c.series == table.c.series)
        for row in database.each(database.of(table, "series").where(~is_known).distinct()):
            yield Wrong(f"{table.name}: there are rows of the series {row.series}, which kept_series does not know")


def run_numbers_are_of_one(database: Database, _at: datetime) -> Iterator[Wrong]:
    """Each run that packed rows name has a number of its own."""
    number = run_numbers.c.number
    query = database.of(run_numbers, "number").group_by(number).having(sa.func.count() > 1)
    for row in database.each(query):
        yield Wrong(f"run_numbers: several runs have the number {row.number}")


def claims_run_out(database: Database, at: datetime) -> Iterator[Wrong]:
    """No item is claimed for longer than a claim lasts."""
    latest = at + CLAIMED_FOR + _CLOCKS_DIFFER
    for row in database.each(database.of(claims, "item", "run", "expires_at").where(claims.c.expires_at > latest)):
        until = row.expires_at.astimezone(UTC).isoformat()
        yield Wrong(f"claims: the run {row.run} claims it until {until}: nobody else writes it before", row.item)


_CLOCKS_DIFFER = timedelta(minutes=5)

CHECKS: Mapping[str, Check] = {
    "periods": periods_are_periods,
    "state": state_has_its_period,
    "writes": writes_have_their_period,
    "written": written_is_acknowledged,
    "windows": windows_add_up,
    "additions": additions_add_up,
    "packed": packed_is_as_said,
    "identifiers": identifiers_are_of_one,
    "carries": carries_come_from_a_period,
    "settled": settled_is_signed,
    "kept_usage": kept_usage_is_of_a_series,
    "run_numbers": run_numbers_are_of_one,
    "claims": claims_run_out,
}
"""Each promise about the books of a scope, by a stable name."""


def _has(database: Database, table: Table, of: Table) -> ColumnElement[bool]:
    """Return the condition that a table has a row about the period of another one's row."""
    return database.exists(table, of_same_period(table, of))


def _unpacked(
    database: Database, table: Table, packer: Packer[Any], wrong: list[Wrong] | None = None
) -> Iterator[tuple[Row[Any], list[Any]]]:
    """Return packed rows with what is in them. What cannot be read becomes something wrong, where that is asked for."""
    runs = names(database)
    for row in database.each(database.of(table)):
        try:
            yield row, packer.unpacked(row, runs)
        except RowUnread as error:
            if wrong is not None:
                wrong.append(_about(row, f"{table.name}: {error.message}"))
