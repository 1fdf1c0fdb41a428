"""The ledger's book of items and periods that were listed, and of how their ends were brought about."""

from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Row

from meter_sync.core.billing.item import Period, PeriodKey, SubscriptionItem
from meter_sync.core.metering.mapping import LateUsage
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.conclusion import Concluded
from meter_sync.ledger.carries import carried_on, open_quantity, waits_in_vain
from meter_sync.ledger.conclusions import Conclusion, columns, concluded_of
from meter_sync.ledger.database import Book, Rows, itself, of_same_period, unindexed
from meter_sync.ledger.rows import RowUnread, key, keys, read_as, reading
from meter_sync.ledger.schema import holds, prices, seen_periods
from meter_sync.ledger.snapshot import item_of, stored, unread

CLOSED_WITHIN = timedelta(days=1)
"""For so long a period that is watched no more waits for a last look, if it fails time and again."""
TAKEN_FOR = timedelta(minutes=10)
"""For so long after a period's end closing runs ask again for usage of it, as long as Stripe refuses none.

Stripe takes usage records for "a few minutes" (legacy guide), and meter events for an hour at the least, within which
the full runs come.
"""
_REPLACED = ("period_end", "snapshot", "seen_at", "stripe_meter", "changes_at", "may_change_until")
"""What becomes new of a period that is seen again."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An item in a period, as it was listed last, and how far its end has come."""

    item: SubscriptionItem
    seen_at: datetime
    complete_until: datetime | None
    """Until when its usage was reported in full."""
    is_refused: bool
    """Whether Stripe has said that it takes no more usage of the period."""
    is_invoiced: bool | None
    """Whether an invoice bills the period; None where none was looked for, or it may still come."""
    read_back_at: datetime | None
    concluded: Concluded | None = None
    """What Stripe bills of it, as far as that was concluded before."""
    closed_at: datetime | None = None
    """Since when it is watched no more."""
    own: tuple[Period, ...] | None = None
    """What of it was its own when Stripe took no more of it."""
    late_usage: LateUsage | None = None
    """What was said of the remainder; None where nothing was."""
    settled_at: datetime | None = None
    """Since when a person has settled what was named of it."""
    voided_at: datetime | None = None
    """Since when it is known that its invoice was voided, or the draft of it deleted."""


class ListedPeriods(Book):
    """Every item and period that was ever listed, and how far its end has come."""

    def record(self, items: Sequence[SubscriptionItem], at: datetime) -> frozenset[str]:
        """Record the listed items in their periods, and return those that were never listed before.

        A period that another one of its item overtook ended at its start. Where periods were missed altogether, or
        there were none while the subscription was paused, one that fills the gap stands for them. What is as it was
        is not written.
        """
        return frozenset().union(*self.database.write_each(items, itself, lambda some: self._record(some, at)))

    def _record(self, items: Sequence[SubscriptionItem], at: datetime) -> frozenset[str]:
        listed = {item.id: item for item in items}
        is_newest = self.database.is_newest(seen_periods, "period_start", "item")
        query = self.database.of(seen_periods, "item", "period_start", "period_end", "snapshot").where(is_newest)
        newest = {row.item: row for row in self.database.rows_of(query, seen_periods.c.item, listed)}
        rows = [row for id, item in listed.items() for row in self._rows(item, newest.get(id), at)]
        self.database.put(seen_periods, rows, _REPLACED)
        return frozenset(listed.keys() - newest.keys())

    def _rows(self, item: SubscriptionItem, last: Row[Any] | None, at: datetime) -> Rows:
        """Return the rows to write of an item, and end the period before it."""
        row = _row(item, at)
        if last is None or last.period_start > item.period.start:
            return [row]
        if last.period_start == item.period.start:
            return [row] if (last.snapshot, last.period_end) != (row["snapshot"], item.period.end) else []
        if last.period_end < item.period.start:
            before = item_of(last)
            if before.is_read:
                self.database.update(seen_periods, [{**key(before), "snapshot": stored(_paused(before))}])
            return [row, _row(_paused(replace(item, period=Period(last.period_end, item.period.start))), at)]
        if last.period_end > item.period.start:
            # Where Stripe's period goes on, its price has changed.
            self._end(item_of(last), item.period.start, is_cut=item.cycle_start is not None)
        return [row]

    def record_unseen(self, item: SubscriptionItem, at: datetime) -> None:
        """Record that an item's period ended earlier than was thought, and that one followed which no run saw."""
        with self.database.own_trouble_of(item), self.database.transaction():
            self._end(item, at, is_cut=False)
            unseen = replace(item, period=Period(at, item.period.end))
            self.database.put(seen_periods, [_row(unseen, item.period.end)], _REPLACED)

    def record_end(self, item: SubscriptionItem, at: datetime, *, is_cut: bool) -> None:
        """Record that an item's period ended at an instant, before its time, and that none follows.

        `is_cut` says whether its subscription goes on without it.
        """
        with self.database.own_trouble_of(item), self.database.transaction():
            self._end(replace(item, is_followed=False), at, is_cut=is_cut)

    def _end(self, seen: SubscriptionItem, at: datetime, *, is_cut: bool) -> None:
        period = Period(seen.period.start, max(at, seen.period.start))
        ended = replace(seen, period=period, is_followed=seen.is_followed and not is_cut, is_cut=is_cut)
        # What cannot be read stays for the version that can.
        snapshot = {"snapshot": stored(ended)} if seen.is_read else {}
        self.database.update(seen_periods, [{**key(seen), "period_end": period.end, **snapshot}])

    def record_prices(self, asked: Iterable[str], empty_ones: Iterable[str], at: datetime) -> None:
        """Record which archived prices a listing asked for and which it found empty."""
        empty = [{"price": price, "found_empty_at": at} for price in empty_ones]
        with self.database.transaction():
            self.database.delete(prices, [{"price": price} for price in asked])
            self.database.insert(prices, empty)

    def empty_prices(self, since: datetime) -> frozenset[str]:
        """Return the archived prices that were found without subscriptions since that instant."""
        rows = self.database.rows(self.database.of(prices, "price").where(prices.c.found_empty_at > since))
        return frozenset(row.price for row in rows)

    def conclude(self, conclusions: Sequence[Conclusion], at: datetime) -> None:
        """Record what was found out about the ends of periods."""

        def write(some: Sequence[Conclusion]) -> None:
            for one in some:
                values = columns(one, at)
                if values:
                    self.database.update(seen_periods, keys([(one.item, one.period_start)]), **values)

        self.database.write_each(conclusions, lambda one: (one.item, one.period_start), write)

    def record_voided(self, voided: Collection[PeriodKey], at: datetime) -> None:
        """Record that the invoices of items' periods were voided: they are concluded once more, also if closed before.

        That stays so, whatever a summary says.
        """
        is_news = seen_periods.c.voided_at.is_(None)

        def write(some: Sequence[PeriodKey]) -> None:
            self.database.update(seen_periods, keys(some), is_news, voided_at=at, closed_at=None, not_known=None)

        self.database.write_each(list(voided), itself, write)

    def forgive(self, voided: Collection[PeriodKey], why: str, at: datetime) -> None:
        """Record that nobody has to pay what the voided invoices of items' periods held: nothing of these is open.

        What a person has settled, and what later periods have, stays as it is.
        """
        left = sa.func.coalesce(seen_periods.c.settled, 0) + carried_on(self.database)
        with self.database.transaction():
            self.database.update(
                seen_periods,
                keys(voided),
                remainder=left,
                why=why,
                named_at=at,
                is_invoiced=True,
                closed_at=at,
                own=(),
                not_known=None,
            )

    def first_seen(self) -> datetime | None:
        """Return when the oldest of the open periods was recorded, or None where there is none."""
        oldest = self.database.of(seen_periods, sa.func.min(seen_periods.c.seen_at))
        return self.database.value(oldest.where(seen_periods.c.closed_at.is_(None)))

    def beside(self, listed: Set[PeriodKey]) -> list[Seen]:
        """Return the periods that are not closed, but for those that were listed, the one that ends first first."""
        known = self.database.of(seen_periods, "item", "period_start").where(seen_periods.c.closed_at.is_(None))
        keys = {key for row in self.database.each(known) if (key := (row.item, row.period_start)) not in listed}
        found = self._not_closed_of({item for item, _ in keys})
        return [one for one in _seen(found) if one.item.key in keys]

    def closed_since(self, customers: Collection[str], since: datetime) -> list[Seen]:
        """Return the periods of customers that ended after an instant and are closed."""
        query = self.database.of(seen_periods).where(
            unindexed(seen_periods.c.closed_at).is_not(None),
            unindexed(seen_periods.c.period_end) > int(since.timestamp()),
        )
        return _seen(self.database.rows_of(query, seen_periods.c.customer, sorted(customers)))

    def ended_at(self, subscription: str, ends: Collection[datetime]) -> list[PeriodKey]:
        """Return the periods of a subscription's items that ended at one of these instants."""
        is_its = seen_periods.c.subscription == subscription, seen_periods.c.period_end.in_(ends)
        rows = self.database.rows(self.database.of(seen_periods, "item", "period_start").where(*is_its))
        return [(row.item, row.period_start) for row in rows]

    def recorded(self, items: Collection[str]) -> frozenset[PeriodKey]:
        """Return the periods of items that are known."""
        rows = self.database.rows_of(self.database.of(seen_periods, "item", "period_start"), seen_periods.c.item, items)
        return frozenset((row.item, row.period_start) for row in rows)

    def billed_as(self, lines: Collection[PeriodKey]) -> list[PeriodKey]:
        """Given lines of invoices, items and the starts of Stripe's periods, return which periods they bill.

        One that began with a change of price is billed by a line that has the start of Stripe's.
        """
        query = self.database.of(seen_periods)
        rows = self.database.rows_of(query, seen_periods.c.item, sorted({item for item, _ in lines}))
        return [one.item.key for one in _seen(rows) if one.item.invoice_key in lines]

    def customers_of_gone(self, since: datetime) -> frozenset[str]:
        """Return the customers of items of which a period ended after an instant, and every one is closed."""
        closed_at, of_living = seen_periods.c.closed_at, self.database.of(seen_periods, "item").correlate(None)
        query = self.database.of(seen_periods, "customer").where(
            closed_at.is_not(None),
            seen_periods.c.period_end > since,
            seen_periods.c.item.not_in(of_living.where(closed_at.is_(None))),
        )
        return frozenset(row.customer for row in self.database.rows(query.distinct()))

    def as_known(self, listed: Sequence[SubscriptionItem]) -> dict[str, SubscriptionItem]:
        """Return each of these items in its newest period, as it was listed last; a new one is not among them.

        One that is as it was is the very item that is given: an account in which nothing changed is there once.
        """
        items, found = {item.id: item for item in listed}, dict[str, SubscriptionItem]()
        columns = ("item", "period_start", "period_end", "subscription", "customer", "stripe_meter", "snapshot")
        is_newest = self.database.is_newest(seen_periods, "period_start", "item")
        query = self.database.of(seen_periods, *columns).where(is_newest)
        for row in self.database.rows_of(query, seen_periods.c.item, items):
            item = items[row.item]
            known = item if _is_as_stored(item, row) else item_of(row)
            if known.is_read:
                found[item.id] = known
        return found

    def newest(self, items: Collection[str]) -> dict[str, SubscriptionItem]:
        """Return each of these items in its newest period, as it was listed last; a new one is not among them."""
        query = self.database.of(seen_periods).where(self.database.is_newest(seen_periods, "period_start", "item"))
        rows = self.database.rows_of(query, seen_periods.c.item, items)
        return {row.item: item for row in rows if (item := item_of(row)).is_read}

    def newest_since(self, since: datetime) -> list[Seen]:
        """Return the newest period of each item, but for those that ended by an instant and are closed."""
        is_newest = self.database.is_newest(seen_periods, "period_start", "item")
        is_late = sa.or_(seen_periods.c.closed_at.is_(None), seen_periods.c.period_end > since)
        return _seen(self.database.rows(self.database.of(seen_periods).where(is_newest, is_late)))

    def ended(self, as_of: datetime) -> list[Seen]:
        """Return the periods that have ended by an instant and are not closed, the oldest first."""
        return _seen(self.database.rows(self._not_closed().where(seen_periods.c.period_end <= as_of)))

    def waiting_in_vain(self) -> list[tuple[Seen, int]]:
        """Return the closed periods of which something waits that no later one takes any more, and how much it is."""
        left = open_quantity(self.database).label("left")
        is_in_vain = seen_periods.c.closed_at.is_not(None), waits_in_vain(self.database)
        found = self.database.rows(self.database.of(seen_periods, *seen_periods.c, left).where(*is_in_vain))
        return [(seen, row.left) for seen, row in zip(_seen(found), found, strict=True)]

    def ended_since(self, since: datetime, until: datetime) -> list[Seen]:
        """Return the periods that ended after an instant and by another one, closed or not, the oldest first."""
        ended = sa.and_(seen_periods.c.period_end > since, seen_periods.c.period_end <= until)
        query = self.database.of(seen_periods).where(ended).order_by(seen_periods.c.period_end, seen_periods.c.item)
        return _seen(self.database.rows(query))

    def due(self, as_of: datetime, within: timedelta, watched_for: timedelta) -> list[Seen]:
        """Return the periods that end within some time of an instant, or have ended and were not reported in full.

        For some minutes more come all of which Stripe may still take usage, unless a person has to look at them. With
        them come those in which a change is planned within that time, or may come at any instant, and the ones that
        were watched for late usage long enough, for a last look.
        """
        end, until = seen_periods.c.period_end, seen_periods.c.complete_until
        is_near = end.between(as_of - within, as_of + within)
        is_incomplete = sa.or_(end > as_of, until.is_(None), until < end)
        is_asked_again = sa.and_(end.between(as_of - TAKEN_FOR, as_of), ~self._is_held())
        is_to_be_reported = sa.and_(
            sa.or_(sa.and_(is_near, is_incomplete), is_asked_again), seen_periods.c.is_refused.is_(False)
        )
        is_over = end.between(as_of - watched_for - CLOSED_WITHIN, as_of - watched_for - timedelta(seconds=1))
        is_changing = sa.and_(
            end > as_of,
            sa.or_(
                seen_periods.c.changes_at.between(as_of - within, as_of + within),
                seen_periods.c.may_change_until >= as_of,
            ),
        )
        return _seen(self.database.rows(self._not_closed().where(sa.or_(is_to_be_reported, is_changing, is_over))))

    def _is_held(self) -> ColumnElement[bool]:
        """Return the condition that a person has to look at a period since its end, before it can be reported."""
        is_so = holds.c.outcome != Outcome.FAILED.value, holds.c.reason != Reason.PERIOD_CLOSED.value
        since_its_end = holds.c.last_at >= seen_periods.c.period_end
        return self.database.exists(holds, of_same_period(holds, seen_periods), since_its_end, *is_so)

    def missing(self, listed: Set[str], as_of: datetime) -> list[Seen]:
        """Return the newest period of each item that a listing had not any more, unless it was the last and is over."""
        known = self.database.of(seen_periods, "item").where(seen_periods.c.closed_at.is_(None))
        gone = {row.item for row in self.database.each(known) if row.item not in listed}
        newest = {row.item: row for row in self._not_closed_of(gone)}
        return [one for one in _seen(newest.values()) if one.item.is_followed or one.item.period.end > as_of]

    def _not_closed_of(self, items: Collection[str]) -> Iterator[Row[Any]]:
        """Return these items' periods that are not closed, those of some hundred items after the other."""
        query = self.database.of(seen_periods).where(unindexed(seen_periods.c.closed_at).is_(None))
        in_order = query.order_by(seen_periods.c.period_end, seen_periods.c.item)
        return self.database.rows_of(in_order, seen_periods.c.item, sorted(items))

    def _not_closed(self) -> sa.Select[Any]:
        query = self.database.of(seen_periods).where(seen_periods.c.closed_at.is_(None))
        return query.order_by(seen_periods.c.period_end, seen_periods.c.item)


def _paused(item: SubscriptionItem) -> SubscriptionItem:
    """Return an item as of a paused subscription: unless an invoice tells otherwise, nothing bills the period."""
    return replace(item, subscription=replace(item.subscription, status="paused"))


def _is_as_stored(item: SubscriptionItem, row: Row[Any]) -> bool:
    period = item.period
    return (period.start, period.end) == (row.period_start, row.period_end) and row.snapshot == stored(item)


def _row(item: SubscriptionItem, at: datetime) -> dict[str, Any]:
    return {
        **key(item),
        "period_end": item.period.end,
        "subscription": item.subscription.id,
        "customer": item.subscription.customer.id,
        "stripe_meter": item.price.stripe_meter,
        "snapshot": stored(item),
        "seen_at": at,
        "changes_at": item.changes_at,
        "may_change_until": item.may_change_until,
    }


def _seen(rows: Iterable[Row[Any]]) -> list[Seen]:
    return [_one_seen(row) for row in rows]


def _one_seen(row: Row[Any]) -> Seen:
    """Return a row's item in its period. One that cannot be read is named by its columns, and says why of itself."""
    concluded = concluded_of(row)
    try:
        with reading(row.item):
            return read_as(Seen, row, item=item_of(row), concluded=concluded, late_usage=_becomes(row))
    except RowUnread as error:
        item = unread(row, f"{error.message}; {error.hint}")
        return read_as(Seen, row, item=item, concluded=concluded, own=None, late_usage=None)


def _becomes(row: Row[Any]) -> LateUsage | None:
    """Return what was said of a remainder; before late usage could be carried, it was named."""
    if row.late_usage:
        return LateUsage(row.late_usage)
    return LateUsage.NAME if row.remainder else None
