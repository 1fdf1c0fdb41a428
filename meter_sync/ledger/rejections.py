"""The ledger's book of what Stripe rejected after it had taken it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.event_times import summary_span, summary_windows
from meter_sync.core.billing.item import Period, PeriodKey, WindowSize
from meter_sync.ledger import past_additions, past_parts, rows, writers
from meter_sync.ledger.additions import lacks_answer, recount
from meter_sync.ledger.database import Book, itself, of_same_period
from meter_sync.ledger.rows import RunRecord
from meter_sync.ledger.schema import additions, cursors, item_periods, parts, seen_periods
from meter_sync.ledger.schema import past_parts as past

_ERROR_EVENTS = "error_events"


@dataclass(frozen=True, slots=True)
class Written:
    """An item whose events were taken within some time: how much Stripe should hold of its period."""

    item: str
    customer: str
    stripe_meter: str
    period: Period
    summarized: Period
    """What Stripe's summary has to be asked for."""
    acknowledged: int
    """What it should hold: what was acknowledged, or is being written by another run."""
    lacks_answer: bool
    """Whether an addition is on its way of which the outcome is not known."""


class Rejections(Book):
    """What Stripe took and does not hold."""

    def read_until(self) -> str | None:
        """Return when the last error event was made that was read, or None before the first."""
        of_list = cursors.c.cursor == _ERROR_EVENTS
        return self.database.value(self.database.of(cursors, "position").where(of_list))

    def record(self, messages: Mapping[str, str], read_until: str) -> int:
        """Given why Stripe rejected events, by their identifiers, record that it does not hold them; return how many.

        Record how far its error events were read with it. An event that was followed by another one in its place
        matters no more.
        """
        with self.database.transaction():
            found = sum(self._record_one(identifier, why) for identifier, why in messages.items())
            self.database.put(cursors, [{"cursor": _ERROR_EVENTS, "position": read_until}], ("position",))
        return found

    def _record_one(self, identifier: str, why: str) -> int:
        self._unpack(identifier)
        this = [{"identifier": identifier}]
        by_part = self._places(parts, identifier)
        if by_part:
            self.database.update(parts, this, by=("identifier",), acknowledged=None, identifier=None)
            self._mark(by_part, rejected=why)
        by_total = self._places(item_periods, identifier)
        self._mark(by_total, rejected=why, identifier=None)
        is_news = additions.c.rejected.is_(None)
        by_addition = self._places(additions, identifier, is_news)
        if by_addition:
            delivered = {"delivered_at": sa.func.coalesce(additions.c.delivered_at, 0), "in_doubt": False}
            self.database.update(additions, this, is_news, by=("identifier",), rejected=why, **delivered)
        for place in by_addition:
            recount(self.database, *place)
        self._mark(by_addition, rejected=why)
        return len(by_part) + len(by_total) + len(by_addition)

    def _unpack(self, identifier: str) -> None:
        """Make rows again of what is packed with what an identifier names."""
        named = identifiers.named(identifier)
        if named and named.part:
            places = self.database.rows(self.database.of(past, "period_start").where(past.c.item == named.item))
            starts = {(named.item, row.period_start): [named.part] for row in places}
            past_parts.unpack_starts(self.database, starts)
        elif named and named.period_start:
            past_additions.unpack_all(self.database, [(named.item, named.period_start)])

    def _places(self, table: sa.Table, identifier: str, *conditions: sa.ColumnElement[bool]) -> list[PeriodKey]:
        query = self.database.of(table, "item", "period_start").where(table.c.identifier == identifier, *conditions)
        return [(row.item, row.period_start) for row in self.database.rows(query)]

    def _mark(self, places: Sequence[PeriodKey], **values: Any) -> None:
        self.database.update(item_periods, rows.keys(places), acknowledged_at=None, **values)

    def written(self, stripe_meter: str | None, since: datetime, run: RunRecord, at: datetime) -> list[Written]:
        """Return the items on a billing meter of which Stripe took something in runs about `since` or later.

        None is for those on any billing meter. So are those that another run than this is writing at this moment.
        """
        of_meter = item_periods.c.stripe_meter
        lacks = self.database.exists(additions, of_same_period(additions, item_periods), lacks_answer())
        is_under_way = writers.under_way(self.database, run, at)
        should_hold = sa.case((is_under_way, item_periods.c.quantity), else_=item_periods.c.acknowledged)
        columns = [one for one in item_periods.c if one.name != "acknowledged"]
        of_rows = [*columns, should_hold.label("acknowledged"), lacks.label("lacks_answer")]
        query = self.database.of(item_periods, *of_rows).where(
            of_meter.is_not(None) if stripe_meter is None else of_meter == stripe_meter,
            item_periods.c.rejected.is_(None),
            should_hold.is_not(None),
            item_periods.c.as_of >= since,
        )
        return [_written(row) for row in self.database.rows(query)]

    def subscriptions(self) -> tuple[str, ...]:
        """Return the subscriptions of which something was rejected within a period that is not closed, and not told."""
        is_watched = self.database.exists(
            seen_periods, of_same_period(seen_periods, item_periods), seen_periods.c.closed_at.is_(None)
        )
        query = self.database.of(item_periods, "subscription").where(item_periods.c.rejected.is_not(None), is_watched)
        return tuple(row.subscription for row in self.database.rows(query.distinct().order_by("subscription")))

    def record_doubt(self, one: Written, why: str, taken_since: datetime) -> None:
        """Record that Stripe holds less of an item's period than it took, without its saying which event it rejected.

        Hours and days that it still takes, with a timestamp of `taken_since` or later, are set again, and so is a
        total. What was added is not: whether it is there is found out first. Without their identifiers, an answer that
        another run has had, and records later, says nothing of them any more.
        """
        place = (one.item, one.period.start)
        is_newest = self.database.is_newest(additions, "number", "item", "period_start")
        with self.database.own_trouble_of(place), self.database.transaction():
            past_parts.unpack_all(self.database, [place])
            unknown: dict[str, Any] = {"acknowledged": None, "identifier": None}
            self.database.update(parts, rows.keys([place]), parts.c.timestamp >= taken_since, **unknown)
            self.database.update(additions, rows.keys([place]), is_newest, in_doubt=True)
            self._mark([place], rejected=why, identifier=None)

    def record_shown(self, shown: Sequence[PeriodKey]) -> None:
        """Record that a person was told of these items' rejections: the next run reports them again."""
        self.database.write_each(
            shown, itself, lambda some: self.database.update(item_periods, rows.keys(some), rejected=None)
        )


def _written(row: Row[Any]) -> Written:
    period = rows.period(row)
    window = WindowSize(row.window) if row.window else None
    is_turn = row.usage_start <= period.start
    stamps = Period(max(row.usage_start, period.start), period.end)
    summarized = summary_windows(stamps, window, is_turn=is_turn) if window else summary_span(stamps)
    return rows.read_as(Written, row, period=period, summarized=summarized)
