"""What the ledger has of all items' periods that overlap a time: what a statement is made from."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

from meter_sync.core.billing.item import Period, PeriodKey
from meter_sync.core.billing.way import Way, window_of
from meter_sync.core.metering.mapping import LateUsage
from meter_sync.core.telling.history import Whose
from meter_sync.core.telling.statement.position import Lacking, Obstacle, Position
from meter_sync.ledger import past_parts, rows, run_numbers, schema
from meter_sync.ledger.database import Book, batches, of_same_period
from meter_sync.ledger.history import NOT_KNOWN
from meter_sync.ledger.overview import Overview
from meter_sync.ledger.packing import DAY_ENDS_LATER, WRITES
from meter_sync.ledger.rows import RowUnread
from meter_sync.ledger.schema import (
    additions,
    carries,
    holds,
    item_periods,
    parts,
    past_writes,
    seen_periods,
    writes,
)
from meter_sync.ledger.snapshot import item_of

_A_DAY = timedelta(days=1)
_A_MOMENT = timedelta(seconds=1)
_OF_STATE = ("meter", "price", "subjects", "scale", "way", "acknowledged", "rejected", "quantity", "closed")


@dataclass(slots=True)
class _Trail:
    """What rows tell of how an item's period came about, in any order."""

    usages: list[tuple[datetime, Decimal]] = field(default_factory=list)
    """By the instant that a run was about, what had been used of the period."""
    windows: list[tuple[datetime, Decimal]] = field(default_factory=list)
    """The same by the ends of hours or days, where each has a quantity of its own."""
    taken: list[tuple[datetime, int]] = field(default_factory=list)
    """When Stripe has acknowledged which quantity."""
    newest: tuple[datetime, Decimal, int] | None = None
    """When a usage was read last, and the quantity that was due for it."""

    def read(self, at: datetime, usage: Decimal | None, due: int | None) -> None:
        """Take note of a usage, with the quantity that was due for it, if both are known."""
        if usage is not None and due is not None and (self.newest is None or self.newest[0] <= at):
            self.newest = at, usage, due


class _Written:
    """A write that has a row of its own."""

    def __init__(self, row: Row[Any], delivered: Mapping[tuple[str, datetime, str], datetime]) -> None:
        self.run, self.usage, self.quantity, self.intended_at = row.run, row.usage, row.quantity, row.intended_at
        arrived = delivered.get((row.item, row.period_start, row.run))
        self.acknowledged_at: datetime | None = row.acknowledged_at or arrived


class Statements(Book):
    """What was used and billed of items' periods."""

    def at_one_moment(self) -> AbstractContextManager[None]:
        """Let all that is read inside be of the same moment: runs go on meanwhile."""
        return self.database.at_one_moment()

    def positions(self, time: Period) -> Iterator[Position]:
        """Yield what is known of every item's period that overlaps a time, item by item.

        A row that cannot be read is in the ledger's `damaged`.
        """
        overlaps = seen_periods.c.period_end > time.start, seen_periods.c.period_start < time.end
        with self.database.at_one_moment():
            items = self.database.rows(self.database.of(seen_periods, "item").where(*overlaps).distinct())
            obstacles = self._obstacles()
            for some in batches(sorted(row.item for row in items)):
                yield from self._positions(some, overlaps, obstacles)

    def _obstacles(self) -> dict[PeriodKey, Obstacle]:
        held = Overview(self.database).held()
        since = self._since({one.item for one in held})
        return {
            (one.item, one.period.start): Obstacle(
                one.outcome, one.reason, one.message, since[one.item, one.period.start, one.outcome, one.reason]
            )
            for one in held
        }

    def _since(self, items: Collection[str]) -> Mapping[tuple[str, datetime, str, str], datetime]:
        """Return since when items' periods have been held without a break, for what they were held for last.

        What is held has a row for each quantity.
        """
        found = dict[tuple[str, datetime, str, str], datetime]()
        newest = dict[PeriodKey, tuple[str, str]]()
        numbered = self.database.of(holds).order_by(holds.c.number)
        for row in self.database.rows_of(numbered, holds.c.item, sorted(items)):
            key, why = (row.item, row.period_start), (row.outcome, row.reason)
            if newest.get(key) != why:
                found[*key, *why] = row.first_at
            newest[key] = why
        return found

    def _positions(
        self, items: Sequence[str], overlaps: Iterable[Any], obstacles: Mapping[PeriodKey, Obstacle]
    ) -> Iterator[Position]:
        is_its = sa.and_(of_same_period(item_periods, seen_periods), *self.database.in_scope(item_periods))
        state = [item_periods.c[name].label(f"its_{name}") for name in _OF_STATE]
        query = self.database.of(seen_periods, *seen_periods.c, *state).outerjoin(item_periods, is_its)
        found = [*self.database.rows_of(query.where(*overlaps), seen_periods.c.item, items)]
        trails = self._trails(items, {(row.item, row.period_start): row for row in found}, obstacles)
        into, out = self._carried(items)
        for row in sorted(found, key=lambda one: (one.item, one.period_start)):
            key = row.item, row.period_start
            try:
                if row.item not in self.database.damaged:
                    yield _position(row, trails[key], into[key], out[key], obstacles.get(key))
            except RowUnread as error:
                self._leave_out(row.item, error)

    def _leave_out(self, item: str, error: RowUnread) -> None:
        """Take note that what the ledger has of an item cannot be read: it is in none of the figures."""
        self.database.damaged.setdefault(item, error.message)

    def _carried(self, items: Sequence[str]) -> tuple[Mapping[PeriodKey, int], Mapping[PeriodKey, int]]:
        """Return what was carried into items' periods, and out of them."""
        into, out = defaultdict[PeriodKey, int](int), defaultdict[PeriodKey, int](int)
        for row in self.database.rows_of(self.database.of(carries), carries.c.item, items):
            into[row.item, row.into] += row.quantity
            out[row.item, row.period_start] += row.quantity
        return into, out

    def _trails(
        self, items: Sequence[str], wanted: Mapping[PeriodKey, Row[Any]], held: Collection[PeriodKey]
    ) -> Mapping[PeriodKey, _Trail]:
        """Return how periods came about; what was held counts as long as it is."""
        found = defaultdict[PeriodKey, _Trail](_Trail)
        for key, one in self._writes(items):
            if key in wanted:
                trail, at = found[key], one.intended_at - DAY_ENDS_LATER
                trail.read(at, one.usage, one.quantity)
                if one.usage is not None:
                    trail.usages.append((at, one.usage))
                if one.acknowledged_at is not None:
                    trail.taken.append((one.acknowledged_at, one.quantity))
        for row in self.database.rows_of(self.database.of(holds), holds.c.item, items):
            if (row.item, row.period_start) in held:
                found[row.item, row.period_start].read(row.last_at, row.usage, row.quantity)
        lengths = self._lengths(wanted)
        for key, start, total in self._parts(items):
            if key in lengths:
                found[key].windows.append((start + lengths[key], total))
        return found

    def _lengths(self, wanted: Mapping[PeriodKey, Row[Any]]) -> dict[PeriodKey, timedelta]:
        """Return how long the hours or days of items' periods are that have some."""
        found = {}
        for key, row in wanted.items():
            try:
                found[key] = _length(row)
            except RowUnread as error:
                self._leave_out(row.item, error)
        return found

    def _writes(self, items: Sequence[str]) -> list[tuple[PeriodKey, Any]]:
        """Return every write, also what was packed."""
        names, packed = run_numbers.names(self.database), list[tuple[PeriodKey, Any]]()
        for row in self.database.rows_of(self.database.of(past_writes), past_writes.c.item, items):
            try:
                packed += [((row.item, row.period_start), one) for one in WRITES.unpacked(row, names)]
            except RowUnread as error:
                self._leave_out(row.item, error)
        delivered = self._delivered(items)
        for row in self.database.rows_of(self.database.of(writes), writes.c.item, items):
            packed.append(((row.item, row.period_start), _Written(row, delivered)))
        return packed

    def _delivered(self, items: Sequence[str]) -> Mapping[tuple[str, datetime, str], datetime]:
        """Return when additions arrived whose write had no answer, by item, period and run."""
        query = self.database.of(additions).where(additions.c.delivered_at > NOT_KNOWN)
        found = self.database.rows_of(query, additions.c.item, items)
        return {(row.item, row.period_start, row.run): row.delivered_at for row in found}

    def _parts(self, items: Sequence[str]) -> Iterator[tuple[PeriodKey, datetime, Decimal]]:
        """Yield the hours and days of items' periods: when each begins, and the usage of the period up to its end."""
        for row in self.database.rows_of(self.database.of(parts), parts.c.item, items):
            yield (row.item, row.period_start), row.start, row.total
        for row in self.database.rows_of(self.database.of(schema.past_parts), schema.past_parts.c.item, items):
            try:
                for one in past_parts.as_rows(self.database, [row]):
                    yield (row.item, row.period_start), one["start"], one["total"]
            except RowUnread as error:
                self._leave_out(row.item, error)


def _length(row: Row[Any]) -> timedelta:
    """Return how long an hour or a day of an item's period is, by the row of its state. Raise RowUnread."""
    with rows.reading(row.item):
        way = None if row.its_way is None else Way(row.its_way)
        return window_of(way, item_of(row).price).length if way is Way.WINDOWS else _A_DAY


def _position(row: Row[Any], trail: _Trail, carried_in: int, carried: int, obstacle: Obstacle | None) -> Position:
    with rows.reading(row.item):
        item = item_of(row)
        if not item.is_read:
            raise RowUnread(row.item, item.not_understood or "")
        period = rows.period(row)
        is_concluded = row.closed_at is not None or bool(row.is_refused and row.read_back_at is not None)
        lacking = _lacking(row, carried, is_concluded=is_concluded)
        scale = row.its_scale if row.its_scale is not None else Decimal(1)
        at, usage, due = _measured(row, trail, lacking, is_concluded=is_concluded)
        by_day = usage
        if usage is None and due is not None:
            by_day = Decimal(due - carried_in) / scale
        return Position(
            item=item,
            whose=rows.read_as(Whose, row, period=period, meter=row.its_meter),
            price=row.its_price or item.price.id,
            subjects=tuple(json.loads(row.its_subjects or "[]")),
            scale=scale,
            usage=usage,
            due=due,
            stands=row.its_acknowledged,
            is_concluded=is_concluded,
            is_closed=row.closed_at is not None,
            carried_in=carried_in,
            lacking=lacking,
            obstacle=obstacle,
            rejected=row.its_rejected,
            invoice=row.invoice,
            used_by_day=_used_by_day(period, trail, at or period.end, by_day, scale),
            reported_by_day=_reported_by_day(trail),
        )


def _measured(
    row: Row[Any], trail: _Trail, lacking: Lacking, *, is_concluded: bool
) -> tuple[datetime | None, Decimal | None, int | None]:
    """Return when the usage of a period was read last, what it was, and the quantity that is due for it.

    Where nothing was ever written the ledger does not know the scale, and the usage is that of the quantity.
    """
    at, usage, due = trail.newest or (None, None, None)
    if row.due is not None:
        at, usage, due = row.period_end, row.usage, row.due
    elif is_concluded and row.its_acknowledged is not None:
        then = row.its_acknowledged + lacking.quantity  # as an earlier version has concluded it
        usage, due = usage if due == then else None, then
    elif due is not None:
        due += lacking.quantity  # of a write that is what Stripe still takes
    return at, None if row.its_scale is None else usage, due


def _lacking(row: Row[Any], carried: int, *, is_concluded: bool) -> Lacking:
    """Return what Stripe does not bill of a period, also of hours or days of one that goes on."""
    settled = row.settled or 0
    return Lacking(
        quantity=row.remainder if is_concluded or row.named_at is not None else row.its_closed or 0,
        why=row.why,
        named_at=row.named_at,
        carried=carried,
        waits=row.late_usage == LateUsage.CARRY.value,
        settled=settled,
        settled_at=row.settled_at,
        note=row.note,
        not_known=row.not_known,
        is_forgiven=row.voided_at is not None and row.own == () and row.remainder == settled + carried,
    )


def _used_by_day(
    period: Period, trail: _Trail, read_at: datetime, usage: Decimal | None, scale: Decimal
) -> dict[date, Decimal]:
    """Return what was used on each UTC day of a period.

    By hours or days that is exact. Else it counts on the day until whose end, and some minutes, a run has written it:
    what was used between a day's last write and midnight is the next day's. What was read only after the period has
    ended is its last day's.
    """
    points = [(min(at, period.end), total) for at, total in sorted(trail.windows or trail.usages)]
    if usage is not None:
        last = points[-1][0] if points else period.start
        points.append((max(min(read_at, period.end), last), usage))
    found, before = defaultdict[date, Decimal](Decimal), Decimal(0)
    for at, total in points:
        found[(at - _A_MOMENT).astimezone(UTC).date()] += (total - before) * scale
        before = total
    return {day: used for day, used in found.items() if used}


def _reported_by_day(trail: _Trail) -> dict[date, int]:
    found, before = defaultdict[date, int](int), 0
    for at, quantity in sorted(trail.taken):
        found[at.astimezone(UTC).date()] += quantity - before
        before = quantity
    return {day: more for day, more in found.items() if more}
