"""What the ledger tells of the past: what was written and held of items in their periods."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row, Table

from meter_sync.core.billing.intake import intake_as_known
from meter_sync.core.billing.item import Period, PeriodKey
from meter_sync.core.metering.mapping import LateUsage
from meter_sync.core.ownership import Claim, MeteredUsage, Share, shares
from meter_sync.core.planning.own import claim_as_known
from meter_sync.core.telling.history import Added, Entry, Held, Remainder, Sought, Story, Whose, Write, WrittenPart
from meter_sync.ledger import falls, past_additions, past_parts, rows, run_numbers, schema
from meter_sync.ledger.carries import carried_on, moves
from meter_sync.ledger.database import Book, Database, of_same_period
from meter_sync.ledger.packing import WRITES
from meter_sync.ledger.runs import Runs
from meter_sync.ledger.schema import additions, holds, item_periods, parts, past_writes, runs, seen_periods, writes
from meter_sync.ledger.snapshot import item_of

NOT_KNOWN = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for when an addition arrived that was never acknowledged, but rejected."""
_SOME = 5

_Reader = Callable[[Row[Any], Whose], Entry | None]
_Unpacker = Callable[[Database, Iterable[Row[Any]]], Iterator[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A selector that matches nothing."""

    kind: str
    value: str
    known: tuple[str, ...]
    """Some values that would."""


class History(Book):
    """What was written and held of items in their periods."""

    def unmatched(self, sought: Sought) -> Unmatched | None:
        """Return the first selector of what is sought that matches nothing in the ledger, or None."""
        wanted = {
            "customer": (seen_periods.c.customer, sought.customers),
            "subscription": (seen_periods.c.subscription, sought.subscriptions),
            "item": (seen_periods.c.item, sought.items),
            "meter": (item_periods.c.meter, sought.meters),
        }
        for kind, (column, values) in wanted.items():
            every = self.database.of(column.table, column.label("value")).distinct().order_by(column)
            for value in values:
                if not self.database.rows(every.where(column == value)):
                    known = self.database.rows(every.limit(_SOME))
                    return Unmatched(kind, value, tuple(row.value for row in known))
        return None

    def matches_together(self, sought: Sought) -> bool:
        """Say whether there is an item that all the selectors match."""
        return bool(self.database.rows(self._items(sought).limit(1)))

    def entries(self, sought: Sought, *, with_parts: bool) -> list[Entry]:
        """Return everything that happened to what is sought, oldest first.

        `with_parts` each hour, day and addition too.
        """
        places = self._places(sought)
        # First, since within a second what was superseded came before.
        found = list(self._past_writes(sought, places))
        if with_parts:
            found += self._past_parts(sought, places)
        for table, read in (*_READERS, *(_READERS_OF_PARTS if with_parts else ())):
            query = self.database.of(table).where(table.c.item.in_(self._items(sought)))
            if table is writes:
                # Also when an addition, whose write had no answer, was found to have arrived, and the run's instant.
                is_its = of_same_period(additions, writes), additions.c.run == writes.c.run
                is_found = *self.database.in_scope(additions), additions.c.delivered_at > NOT_KNOWN
                query = query.outerjoin(additions, sa.and_(*is_its, *is_found))
                query = query.outerjoin(runs, sa.and_(runs.c.run == writes.c.run, *self.database.in_scope(runs)))
                query = query.add_columns(additions.c.delivered_at, runs.c.as_of)
            if table is seen_periods:
                query = query.add_columns(carried_on(self.database).label("carried"))
            for row in self.database.rows(query):
                whose = places.get((row.item, row.period_start))
                entry = read(row, whose) if whose else None
                if entry:
                    found.append(entry)
        return sorted(found, key=lambda entry: (entry.at, entry.whose.item))

    def _past_writes(self, sought: Sought, places: Mapping[PeriodKey, Whose]) -> Iterator[Entry]:
        """Yield the writes that need no row of their own any more."""
        query = self.database.of(past_writes).where(past_writes.c.item.in_(self._items(sought)))
        names = run_numbers.names(self.database)
        found = [
            (whose, one)
            for row in self.database.rows(query)
            if (whose := places.get((row.item, row.period_start)))
            for one in WRITES.unpacked(row, names)
        ]
        asked = self.database.rows_of(self.database.of(runs, "run", "as_of"), runs.c.run, {one.run for _, one in found})
        as_of = {row.run: row.as_of for row in asked}
        for whose, one in found:
            yield rows.read_as(Write, one, whose=whose, timestamp=one.anchor, as_of=as_of.get(one.run))

    def _past_parts(self, sought: Sought, places: Mapping[PeriodKey, Whose]) -> Iterator[Entry]:
        """Yield the hours, days and additions that need no row of their own any more."""
        for table, unpack, kind in _PAST_PARTS:
            query = self.database.of(table).where(table.c.item.in_(self._items(sought)))
            known = [row for row in self.database.rows(query) if (row.item, row.period_start) in places]
            for values in unpack(self.database, known):
                one = SimpleNamespace(**values)
                yield rows.read_as(kind, one, whose=places[one.item, one.period_start])

    def stories(self, name: str, period_start: datetime | None) -> list[Story]:
        """Given an item, a subscription or a customer, return all that is known of each item's period.

        That is the period that starts at an instant, or else the newest one of each item.
        """
        is_named = sa.or_(*(seen_periods.c[column] == name for column in ("item", "subscription", "customer")))
        query = self.database.of(seen_periods).where(is_named).order_by(seen_periods.c.period_start)
        if period_start is not None:
            query = query.where(seen_periods.c.period_start == period_start)
        newest = {row.item: row for row in self.database.rows(query)}
        return [self._story(row) for row in newest.values()]

    def _story(self, seen: Row[Any]) -> Story:
        told = self.entries(Sought(items=(seen.item,)), with_parts=True)
        carried, added_to = moves(self.database, seen.item, seen.period_start)
        state = next(iter(self.database.rows_about(item_periods, seen.item, seen.period_start)), None)
        return rows.read_as(
            Story,
            seen,
            item=item_of(seen),
            whose=rows.read_as(Whose, seen, period=rows.period(seen), meter=state.meter if state else None),
            entries=[one for one in told if one.whose.period.start == seen.period_start],
            remembered=rows.remembered(state) if state else None,
            usage_start=state.usage_start if state else None,
            reported=state.reported if state else None,
            share=self._share(seen),
            closed_why=None if seen.named_at else seen.why,
            carried=carried,
            carried_on=added_to,
            falls=falls.recall(self.database, {seen.item: seen.period_start}).get(seen.item, ()),
        )

    def _share(self, seen: Row[Any]) -> Share | None:
        """Return what of an item's period is its own, by what the ledger knows of its customer's items.

        None where that is nothing, since it ended with the second in which it began.
        """
        is_its = sa.and_(of_same_period(item_periods, seen_periods), *self.database.in_scope(item_periods))
        written = "acknowledged", "reported", "usage_start", "meter", "filter", "subjects"
        query = self.database.of(seen_periods, *seen_periods.c, *(item_periods.c[name] for name in written))
        beside = query.outerjoin(item_periods, is_its).where(
            seen_periods.c.customer == seen.customer,
            seen_periods.c.period_start < seen.period_end,
            seen_periods.c.period_end > seen.period_start,
        )
        as_of = Runs(self.database).newest_as_of() or seen.seen_at
        claims = [_claim(row, as_of) for row in self.database.rows(beside)]
        return shares(claims).get((seen.item, seen.period_start))

    def _places(self, sought: Sought) -> dict[PeriodKey, Whose]:
        """Return the items in their periods that are sought."""
        of_period = "item", "period_start", "period_end", "customer", "subscription"
        is_its = sa.and_(of_same_period(item_periods, seen_periods), *self.database.in_scope(item_periods))
        query = self.database.of(seen_periods, *of_period, item_periods.c.meter).outerjoin(item_periods, is_its)
        return {
            (row.item, row.period_start): rows.read_as(Whose, row, period=rows.period(row))
            for row in self.database.rows(query.where(seen_periods.c.item.in_(self._items(sought))))
            if not sought.meters or row.meter is None or row.meter in sought.meters
        }

    def _items(self, sought: Sought) -> sa.Select[Any]:
        """Ask for the ids of the items that are sought."""
        query = self.database.of(seen_periods, "item")
        named = {"customer": sought.customers, "subscription": sought.subscriptions, "item": sought.items}
        for column, values in named.items():
            if values:
                query = query.where(seen_periods.c[column].in_(values))
        if sought.meters:
            reported = self.database.of(item_periods, "item").where(item_periods.c.meter.in_(sought.meters))
            query = query.where(seen_periods.c.item.in_(reported))
        return query


def _claim(row: Row[Any], as_of: datetime) -> Claim:
    item, period = item_of(row), rows.period(row)
    is_over, is_invoiced = row.is_refused or row.closed_at is not None, bool(row.is_invoiced)
    claim = claim_as_known(
        item,
        intake_as_known(item, as_of, takes_no_more=is_over, is_invoiced=is_invoiced),
        Period(row.usage_start or period.start, period.end),
        MeteredUsage(row.meter, rows.filter_of(row), rows.subjects_of(row)) if row.meter else None,
        (row.reported or ()) if row.acknowledged is not None else (),
    )
    return replace(claim, settled=row.own)


def _write(row: Row[Any], whose: Whose) -> Entry:
    at = row.acknowledged_at or row.delivered_at
    return rows.read_as(Write, row, whose=whose, timestamp=row.anchor, acknowledged_at=at)


def _remainder(row: Row[Any], whose: Whose) -> Entry | None:
    if row.named_at is None:
        return None
    waits = row.late_usage == LateUsage.CARRY.value
    return rows.read_as(Remainder, row, whose=whose, quantity=row.remainder, waits=waits)


def _added(row: Row[Any], whose: Whose) -> Entry:
    is_known = row.delivered_at is not None and row.delivered_at > NOT_KNOWN
    return rows.read_as(Added, row, whose=whose, delivered_at=row.delivered_at if is_known else None)


_READERS: tuple[tuple[Table, _Reader], ...] = (
    (writes, _write),
    (holds, lambda row, whose: rows.read_as(Held, row, whose=whose)),
    (seen_periods, _remainder),
)
_READERS_OF_PARTS: tuple[tuple[Table, _Reader], ...] = (
    (parts, lambda row, whose: rows.read_as(WrittenPart, row, whose=whose)),
    (additions, _added),
)
_PAST_PARTS: tuple[tuple[Table, _Unpacker, type[WrittenPart] | type[Added]], ...] = (
    (schema.past_parts, past_parts.as_rows, WrittenPart),
    (schema.past_additions, past_additions.as_rows, Added),
)
