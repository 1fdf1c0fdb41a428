"""Keeping the ledger small by itself: what is superseded takes little room, and after some time none.

Of an item's open periods and its last one every write is kept, of earlier ones the last of each UTC day. What is not
today's is packed: the rows of a day, or of a period, into one. These stay rows, whatever their age: the newest write of
a period and the last one that Stripe took, those of the run that the period's state is of, what Stripe has not taken,
and what an addition belongs to that is in doubt or was rejected. Nothing but `history` reads the others.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

from meter_sync.core.billing.item import PeriodKey
from meter_sync.errors import LedgerError
from meter_sync.ledger import past_additions, past_parts
from meter_sync.ledger.additions import lacks_answer
from meter_sync.ledger.column_types import UNREADABLE
from meter_sync.ledger.database import Book
from meter_sync.ledger.packing import DAY_ENDS_LATER, WRITES, PastWrite, RunNames, past_write, runs_of
from meter_sync.ledger.rows import RowUnread
from meter_sync.ledger.run_numbers import names, numbers_of
from meter_sync.ledger.schema import additions, cursors, item_periods, parts, past_writes, seen_periods, writes
from meter_sync.ledger.store import RowUnwritten

_NOT_READ = (ValueError, TypeError, ArithmeticError, OSError)
"""What reading a row may raise that is damaged."""
_SWEEP = "compaction"
_ITEMS_AT_ONCE = 100
_ROWS_AT_ONCE = 5000
"""A transaction is over well within a second: closing and webhook runs wait for it."""
_IS_GONE_AFTER = timedelta(days=40)
"""Of an item that is gone, no period is its last one any more after so long."""


@dataclass(frozen=True, slots=True)
class _Sweep:
    """How far the items were gone through, which is done once a day, by however many runs it takes."""

    began_on: date
    after: str | None
    """The last item that was gone through; None once all were."""


class Compaction(Book):
    """What of the writes takes less room."""

    def compact_some(self, as_of: datetime) -> int | None:
        """Go through some more items, in one transaction.

        Return how many rows were looked at, or None where all items were gone through on this day. Raise LedgerError
        where those of one cannot be read or written: they stay as they are, and the next ones come next.
        """
        sweep = self._sweep(as_of)
        if sweep.after is None:
            return None
        items, how_many = self._next(sweep.after)
        try:
            while not self._is_compacted(sweep, items, as_of):
                pass
        except (RowUnwritten, *_NOT_READ) as error:
            # The matter of one of these items: the others are not to wait for it for ever.
            with self.database.transaction():
                self._move(sweep, items)
            raise LedgerError(
                f"writes of {items[0]}, or of up to {len(items) - 1} items after it, could not be packed: {error}",
                "look at these items with meter-sync history",
            ) from error
        return how_many

    def _is_compacted(self, sweep: _Sweep, items: Sequence[str], as_of: datetime) -> bool:
        """Compact these items, but for those of which a row is damaged: they stay for who can read them.

        Return False where one was found meanwhile: then nothing was changed.
        """
        damaged = self.database.damaged
        known = len(damaged)
        try:
            with self.database.transaction():
                self._compact([one for one in items if one not in damaged], as_of)
                self._move(sweep, items)
                if len(damaged) > known:
                    raise _FoundDamaged
        except _FoundDamaged:
            return False
        return True

    def _sweep(self, as_of: datetime) -> _Sweep:
        stored = self.database.value(self.database.of(cursors, "position").where(cursors.c.cursor == _SWEEP))
        today = as_of.astimezone(UTC).date()
        try:
            position = json.loads(stored or "{}")
            sweep = _Sweep(date.fromisoformat(position["began_on"]), position["after"])
        except (ValueError, TypeError, KeyError):
            return _Sweep(today, "")
        return sweep if sweep.after is not None or sweep.began_on >= today else _Sweep(today, "")

    def _move(self, sweep: _Sweep, items: Sequence[str]) -> None:
        position = {"began_on": sweep.began_on.isoformat(), "after": items[-1] if items else None}
        self.database.put(cursors, [{"cursor": _SWEEP, "position": json.dumps(position)}], ("position",))

    def _next(self, after: str) -> tuple[list[str], int]:
        """Return the items that come next, and how many rows of writes, parts and additions: few, or one item's."""
        every = self.database.of(seen_periods, "item").distinct().where(seen_periods.c.item > after)
        items = [row.item for row in self.database.rows(every.order_by(seen_periods.c.item).limit(_ITEMS_AT_ONCE))]
        rows_of = Counter[str]()
        for table in (writes, parts, additions):
            count = self.database.of(table, "item", sa.func.count().label("how_many")).group_by(table.c.item)
            rows_of.update({row.item: row.how_many for row in self.database.rows_of(count, table.c.item, items)})
        some, how_many = list[str](), 0
        for item in items:
            if some and how_many + rows_of[item] > _ROWS_AT_ONCE:
                break
            some.append(item)
            how_many += rows_of[item]
        return some, how_many

    def _compact(self, items: Sequence[str], as_of: datetime) -> None:
        midnight = as_of.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        earlier = self._earlier(items, as_of)
        thinned, kept = self._to_be_thinned(items, earlier), self._kept_runs(items)
        rows = defaultdict[PeriodKey, list[Row[Any]]](list)
        for row in self.database.rows_of(self.database.of(writes), writes.c.item, items):
            rows[row.item, row.period_start].append(row)
        packing = _Packing(self._days_packed(items), names(self.database))
        for key in rows.keys() | thinned:
            gone = _superseded(rows.get(key, ()), midnight, kept.get(key, ()))
            try:
                if key in earlier:
                    if gone or key in thinned:
                        self._thin_out(key, gone, rows.get(key, ()), packing)
                elif gone:
                    self._pack(key, gone, packing)
            except RowUnread:  # stays for who can read it
                continue
            packing.remove(key, gone)
        # All at once: a statement for each period would take more time than the rest.
        self.database.delete(past_writes, packing.thinned)
        numbers = numbers_of(self.database, packing.runs)
        self.database.put(past_writes, packing.rows(numbers), ("how_many", "is_by_day", "content"))
        self.database.delete(writes, packing.gone)
        past_parts.pack(self.database, items, midnight)
        past_additions.pack(self.database, items, midnight)

    def _days_packed(self, items: Sequence[str]) -> set[tuple[str, datetime, datetime]]:
        """Return of which days of which periods there are packed writes."""
        query = self.database.of(past_writes, "item", "period_start", "since")
        found = self.database.rows_of(query, past_writes.c.item, items)
        return {(row.item, row.period_start, row.since) for row in found}

    def _earlier(self, items: Sequence[str], as_of: datetime) -> set[PeriodKey]:
        """Return the periods of items that are neither open nor their last ones: all are closed, and two follow."""
        query = self.database.of(seen_periods, "item", "period_start", "period_end", "closed_at")
        periods = defaultdict[str, list[Row[Any]]](list)
        for row in self.database.rows_of(query, seen_periods.c.item, items):
            periods[row.item].append(row)
        earlier = set[PeriodKey]()
        for item, of_item in periods.items():
            ordered = sorted(of_item, key=lambda row: row.period_start)
            newest = ordered[-1]
            is_gone = newest.closed_at is not None and newest.period_end + _IS_GONE_AFTER < as_of
            rest = ordered if is_gone else ordered[:-2]
            earlier |= {(item, row.period_start) for row in rest if row.closed_at is not None}
        return earlier

    def _to_be_thinned(self, items: Sequence[str], earlier: Collection[PeriodKey]) -> set[PeriodKey]:
        """Return the earlier periods of which every write of a day was packed, when they were open."""
        query = self.database.of(past_writes, "item", "period_start").where(past_writes.c.is_by_day.is_(False))
        found = self.database.rows_of(query, past_writes.c.item, items)
        return {(row.item, row.period_start) for row in found} & set(earlier)

    def _kept_runs(self, items: Sequence[str]) -> Mapping[PeriodKey, set[str]]:
        """Return the runs whose writes stay rows: those that later runs ask for, or may have to."""
        is_open = sa.or_(lacks_answer(), additions.c.in_doubt, additions.c.rejected.is_not(None))
        kept = defaultdict[PeriodKey, set[str]](set)
        for table, *conditions in ((item_periods, item_periods.c.run.is_not(None)), (additions, is_open)):
            query = self.database.of(table, "item", "period_start", "run").where(*conditions)
            for row in self.database.rows_of(query, table.c.item, items):
                kept[row.item, row.period_start].add(row.run)
        return kept

    def _pack(self, key: PeriodKey, gone: Sequence[PastWrite], packing: "_Packing") -> None:
        """Keep writes with those of the same day and period, one row for each day."""
        by_day = defaultdict[datetime, list[PastWrite]](list)
        for one in gone:
            by_day[_day(one)].append(one)
        if any((*key, day) in packing.days for day in by_day):
            for row in self.database.rows_about(past_writes, *key):
                if row.since in by_day:
                    by_day[row.since] += WRITES.unpacked(row, packing.names)
        packing.put(key, by_day, is_by_day=False)

    def _thin_out(
        self, key: PeriodKey, gone: Sequence[PastWrite], rows: Iterable[Row[Any]], packing: "_Packing"
    ) -> None:
        """Keep the last write of each day, all of a period in one row. What stays a row may be the last of its day."""
        packed = self.database.rows_about(past_writes, *key)
        before = [one for row in packed for one in WRITES.unpacked(row, packing.names)]
        last = {_day(one): one for one in sorted((*before, *gone), key=lambda one: one.order)}
        going = {(one.run, one.step) for one in gone}
        for row in rows:
            day = _day(row)
            is_later = day in last and (row.intended_at, row.step) > last[day].order
            if is_later and row.acknowledged_at is not None and (row.run, row.step) not in going:
                del last[day]
        packing.thinned.append({"item": key[0], "period_start": key[1]})
        if last:
            packing.put(key, {min(last): list(last.values())}, is_by_day=True)


class _FoundDamaged(Exception):
    """A row of an item cannot be read: what was to be changed of it would have lacked that."""


class _Packing:
    """What is to be written of some items."""

    def __init__(self, days: Collection[tuple[str, datetime, datetime]], names: RunNames) -> None:
        self.days = days
        """Of which days there are packed writes before."""
        self.names = names
        self.runs: set[str] = set()
        """The runs of what is to be packed."""
        self._packed: list[tuple[dict[str, Any], list[PastWrite]]] = []
        self.thinned: list[dict[str, Any]] = []
        """The periods all of whose packed writes are replaced."""
        self.gone: list[dict[str, Any]] = []
        """The writes that are rows no more."""

    def put(self, key: PeriodKey, by_day: Mapping[datetime, Sequence[PastWrite]], *, is_by_day: bool) -> None:
        """Have writes packed, by the day that they begin at."""
        for since, written in by_day.items():
            in_order = sorted(written, key=lambda one: one.order)
            about = {"how_many": len(written), "is_by_day": is_by_day}
            self._packed.append(({"item": key[0], "period_start": key[1], "since": since, **about}, in_order))
            self.runs.update(runs_of(in_order))

    def rows(self, numbers: Mapping[str, int]) -> list[dict[str, Any]]:
        """Return what is to be written of packed writes, given the numbers of their runs."""
        return [{**row, "content": WRITES.packed(written, numbers)} for row, written in self._packed]

    def remove(self, key: PeriodKey, gone: Iterable[PastWrite]) -> None:
        """Have writes go that are packed, or not kept any more."""
        place = {"item": key[0], "period_start": key[1]}
        self.gone += [{**place, "run": one.run, "step": one.step} for one in gone]


def _superseded(rows: Sequence[Row[Any]], midnight: datetime, kept_runs: Collection[str]) -> list[PastWrite]:
    """Return which writes of an item's period need no row of their own any more."""
    ordered = sorted(rows, key=lambda row: (row.intended_at, row.step))
    taken = [row for row in ordered if row.acknowledged_at is not None]
    newest = {(row.run, row.step) for row in (*ordered[-1:], *taken[-1:])}
    return [
        past_write(row)
        for row in taken
        if row.intended_at < midnight
        and (row.run, row.step) not in newest
        and row.run not in kept_runs
        and row.usage is not UNREADABLE
    ]


def _day(one: PastWrite | Row[Any]) -> datetime:
    at: datetime = one.intended_at - DAY_ENDS_LATER
    return at.replace(hour=0, minute=0, second=0, microsecond=0)
