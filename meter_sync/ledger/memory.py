"""What the ledger remembers of items, for the plan: what was written of them, and which usage they bill."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from meter_sync.core.billing.intake import usage_end_of
from meter_sync.core.billing.item import PeriodKey, SubscriptionItem
from meter_sync.core.billing.way import Way
from meter_sync.core.ownership import BilledUsage
from meter_sync.core.planning.memory import Memory, PastPeriod, Remembered
from meter_sync.ledger import additions, rows, windows
from meter_sync.ledger.database import Book, of_same_period
from meter_sync.ledger.runs import Runs
from meter_sync.ledger.schema import forgotten, item_periods, items, seen_periods, writes
from meter_sync.ledger.snapshot import item_from

PAST = timedelta(days=100)
"""How long before an item's newest period its older ones are compared with what it uses now."""


class Memories(Book):
    """What was intended and acknowledged for items."""

    def of(self, listed_items: Sequence[SubscriptionItem]) -> Memory:
        """Return what is known of the listed items in their current periods, as of one moment."""
        with self.database.at_one_moment():
            return self._of(listed_items)

    def _of(self, listed_items: Sequence[SubscriptionItem]) -> Memory:
        periods = _periods(listed_items)
        meters = {item.id: item.price.stripe_meter for item in listed_items}
        known = {row.item for row in self.database.rows_of(self.database.of(items, "item"), items.c.item, periods)}
        remembered: dict[str, Remembered] = {}
        for row in self.database.rows_until(self.database.of(item_periods), item_periods, periods):
            if row.period_start == periods[row.item]:
                remembered[row.item] = rows.remembered(row)
            elif row.period_end == periods[row.item] and row.stripe_meter != meters[row.item]:
                known.discard(row.item)
        # Of these it is not known any more what Stripe holds.
        known -= {row.item for row in self.database.rows_in(self.database.of(forgotten), forgotten, periods)}
        adding = {item: periods[item] for item, one in remembered.items() if one.method.way is Way.ADDITIONS}
        for item, recalled in additions.recall(self.database, adding).items():
            remembered[item] = replace(remembered[item], additions=recalled)
        # An item that took another's place goes on with the usage of the first item that had it.
        query = self.database.of(seen_periods, "item", "period_start", "continues", "born_at")
        took_place = query.where(seen_periods.c.continues.is_not(None))
        continued = list(self.database.rows_in(took_place, seen_periods, periods))
        until = self._billed_until(periods | {row.continues: periods[row.item] for row in continued})
        billed_by_firsts = {row.item: until[row.continues] for row in continued if row.continues in until}
        return Memory(
            known_items=frozenset(known),
            remembered=remembered,
            billed_until=until | billed_by_firsts,
            past=self._past(periods),
            born={row.item: row.born_at for row in continued},
        )

    def _billed_until(self, periods: Mapping[str, datetime]) -> dict[str, datetime]:
        """Given items and the starts of their periods, return where the usage of the periods before these ended.

        That goes by the price that an item was last seen with in that period.
        """
        return {
            row.item: usage_end_of(item_from(row.snapshot)) if row.stripe_meter else row.period_end
            for row in self.database.rows_until(self.database.of(seen_periods), seen_periods, periods)
            if row.period_end == periods[row.item]
        }

    def _past(self, periods: Mapping[str, datetime]) -> dict[str, tuple[PastPeriod, ...]]:
        """Return what Stripe acknowledged in the items' last periods: of a hundred days, or the one before this."""
        found: dict[str, tuple[PastPeriod, ...]] = {}
        query = self.database.of(item_periods, "item", "period_start", "period_end", "acknowledged")
        newest_first = query.order_by(item_periods.c.period_start.desc())
        for row in self.database.rows_until(newest_first, item_periods, periods, PAST):
            start = periods[row.item]
            if row.period_end == start or start - PAST <= row.period_end < start:
                past = PastPeriod(rows.period(row), row.acknowledged or 0)
                found[row.item] = (*found.get(row.item, ()), past)
        return found

    def with_windows(self, memory: Memory, wanted: Sequence[windows.Wanted]) -> Memory:
        """Given what is known, return it with the hours or days that are wanted."""
        remembered = dict(memory.remembered)
        for item, recalled in windows.recall(self.database, wanted).items():
            if item in remembered:
                remembered[item] = replace(remembered[item], windows=recalled)
        return replace(memory, remembered=remembered)

    def last_intended(self, listed_items: Sequence[SubscriptionItem]) -> dict[str, int]:
        """Return for items, in their periods, the quantity that was last intended, whatever became of it.

        That of an item's state is taken back when Stripe refuses it; here it stays.
        """
        is_last_run = *self.database.in_scope(item_periods), writes.c.run == item_periods.c.run
        query = self.database.of(writes, "item", "period_start", "quantity").where(*is_last_run)
        of_last_run = query.join(item_periods, of_same_period(writes, item_periods))
        oldest_first = of_last_run.order_by(writes.c.intended_at, writes.c.step)
        found = self.database.rows_in(oldest_first, writes, _periods(listed_items))
        return {row.item: row.quantity for row in found}

    def reported(self, seen_items: Sequence[SubscriptionItem]) -> frozenset[PeriodKey]:
        """Return those of the items, each with the start of its period, for which anything was ever to be written."""
        ids, asked = {item.id for item in seen_items}, {item.key for item in seen_items}
        found = set[PeriodKey]()
        for table in (item_periods, forgotten):
            query = self.database.of(table, "item", "period_start")
            found |= {(row.item, row.period_start) for row in self.database.rows_of(query, table.c.item, ids)}
        return frozenset(asked & found)


class BilledUsages(Book):
    """Who bills which usage, beside the items that a run has listed, as far as is known."""

    def open_after(self, since: datetime) -> tuple[BilledUsage, ...]:
        """Return what items bill whose period is open after `since`, as far as the last whole run still saw them.

        Of one on a billing meter that was never written, for whatever reason, that is only which meter it is.
        """
        last_whole = Runs(self.database).last_complete()
        current = self.database.of(item_periods).where(item_periods.c.period_end > since)
        if last_whole is not None:
            current = current.where(item_periods.c.seen_at >= last_whole)
        last = sa.func.max(seen_periods.c.period_end)
        ended = self.database.of(seen_periods, "item").group_by(seen_periods.c.item).having(last <= since)
        gone = {row.item for row in self.database.rows(ended)}
        written = {
            row.item: rows.read_as(
                BilledUsage,
                row,
                filter=rows.filter_of(row),
                subjects=rows.subjects_of(row),
                start=row.usage_start,
                end=row.period_end,
            )
            for row in self.database.rows(current)
            if row.item not in gone
        }
        beside = [one for one in self.open_on_meters(since) if one.item not in written]
        return (*written.values(), *beside)

    def open_on_meters(self, since: datetime) -> list[BilledUsage]:
        """Return the items on billing meters whose period is open after an instant, as far as is known."""
        query = self.database.of(seen_periods, "item", "customer", "stripe_meter", "period_start", "period_end").where(
            seen_periods.c.stripe_meter.is_not(None),
            seen_periods.c.period_end > since,
            seen_periods.c.closed_at.is_(None),
        )
        return [
            BilledUsage(row.item, "", (), (), row.period_start, row.period_end, row.customer, row.stripe_meter)
            for row in self.database.rows(query)
        ]


def _periods(listed_items: Iterable[SubscriptionItem]) -> dict[str, datetime]:
    return dict(item.key for item in listed_items)
