"""What the ledger remembers of items, for the plan: what was written of them."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Row

from meter_sync.core.billing.intake import usage_end_of
from meter_sync.core.billing.item import Period, PeriodKey, SubscriptionItem
from meter_sync.core.billing.way import Way
from meter_sync.core.metering.mapping import Grouping
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.memory import PAST, Memory, PastPeriod, Remembered, compared
from meter_sync.ledger import additions, carries, falls, rows, windows
from meter_sync.ledger.column_types import UNREADABLE
from meter_sync.ledger.damage import is_damaged, note
from meter_sync.ledger.database import Book, batches, of_same_period
from meter_sync.ledger.schema import (
    forgotten,
    holds,
    item_periods,
    items,
    past_periods,
    seen_periods,
    writes,
)
from meter_sync.ledger.snapshot import item_of

_ENDED = ("item", "period_start", "period_end", "subscription", "customer", "stripe_meter", "snapshot")


class Memories(Book):
    """What was intended and acknowledged for items."""

    def find_damaged(self) -> None:
        """Find the rows of items that cannot be read: nothing is written for these by this run, and it says so.

        Raise LedgerError where it cannot be told whose one is.
        """
        for table in (item_periods, seen_periods) if self.database.store.takes_any_value else ():
            for row in self.database.rows(self.database.of(table, "item").where(is_damaged(table))):
                note(self.database.damaged, row.item, f"a row of {table.name} has something else than is stored there")

    def of(self, listed_items: Sequence[SubscriptionItem]) -> Memory:
        """Return what is known of the listed items in their current periods, as of one moment."""
        with self.database.at_one_moment():
            return self._of(listed_items)

    def _of(self, listed_items: Sequence[SubscriptionItem]) -> Memory:
        periods = _periods(listed_items)
        meters = {item.id: item.price.stripe_meter for item in listed_items}
        looked_at = self._looked_at(periods)
        not_known = set[str]()
        remembered: dict[str, Remembered] = {}
        names = _names(listed_items)
        # Of what could not be recorded by this run nothing is written either.
        unreadable = {
            item: f"{refused.why}; nothing was written for it"
            for item, start in periods.items()
            if (refused := self.database.refused.get((item, start)))
        }
        for row in self.database.rows_until(self.database.of(item_periods), item_periods, periods):
            item = names[row.item]
            if row.period_start == periods[item]:
                try:
                    remembered[item] = rows.remembered(row, names)
                except rows.RowUnread as error:
                    unreadable[item] = f"{error.message}; {error.hint}"
            elif row.period_end == periods[item] and row.stripe_meter != meters[item]:
                not_known.add(item)
        # Of these it is not known any more what Stripe holds.
        not_known |= {row.item for row in self.database.rows_in(self.database.of(forgotten), forgotten, periods)}
        adding = {item: periods[item] for item, one in remembered.items() if one.method.way is Way.ADDITIONS}
        for item, recalled in additions.recall(self.database, adding).items():
            if isinstance(recalled, rows.RowUnread):
                unreadable[item] = f"{recalled.message}; {recalled.hint}"
            else:
                remembered[item] = replace(remembered[item], additions=recalled)
        unreadable |= {item: self.database.damaged[item] for item in periods if item in self.database.damaged}
        return Memory(
            known_items=looked_at.keys() - not_known if not_known else looked_at.keys(),
            looked_at=looked_at,
            remembered=remembered,
            before=self._before({item: start for item, start in periods.items() if item not in remembered}),
            billed_until=self._billed_until(periods),
            past=self._past(periods),
            changed_within=self._changed_within(listed_items, periods),
            waiting=carries.recall(self.database, periods),
            unreadable=unreadable,
            falls=falls.recall(self.database, periods),
        )

    def _looked_at(self, periods: Mapping[str, datetime]) -> dict[str, datetime]:
        """Return when items were looked at, by the very names that are given: a copy of each would be kept as long."""
        query, found = self.database.of(items, "item", "looked_at"), dict[str, datetime]()
        for some in batches(periods):
            looked = {row.item: row.looked_at for row in self.database.rows_of(query, items.c.item, some)}
            found |= {item: looked[item] for item in some if item in looked}
        return found

    def _before(self, periods: Mapping[str, datetime]) -> dict[str, Remembered]:
        """Given items and the starts of their periods, return how each was reported last before that."""
        found = self.database.rows_until(self.database.of(item_periods), item_periods, periods, PAST)
        before = sorted(
            (row for row in found if row.period_start < periods[row.item]), key=lambda row: row.period_start
        )
        found_before = {}
        for row in {row.item: row for row in before}.values():
            # What cannot be read of an earlier period is not compared with.
            with suppress(rows.RowUnread):
                found_before[row.item] = rows.remembered(row)
        return found_before

    def _billed_until(self, periods: Mapping[str, datetime]) -> dict[str, datetime]:
        """Given items and the starts of their periods, return where the usage of the periods before these ended.

        That goes by the price that an item was last seen with in that period.
        """
        return {
            row.item: usage_end_of(item_of(row)) if row.stripe_meter else row.period_end
            for row in self.database.rows_before(self.database.of(seen_periods, *_ENDED), seen_periods, periods)
            if row.period_end == periods[row.item]
        }

    def _changed_within(
        self, listed_items: Iterable[SubscriptionItem], periods: Mapping[str, datetime]
    ) -> frozenset[str]:
        """Return the items that a run held within their period since their mapping had changed."""
        ends = {item.id: item.period.end for item in listed_items}
        query = self.database.of(holds, "item", "period_start", "first_at").where(
            holds.c.reason == Reason.MAPPING_CHANGED.value
        )
        return frozenset(
            row.item for row in self.database.rows_in(query, holds, periods) if row.first_at < ends[row.item]
        )

    def _past(self, periods: Mapping[str, datetime]) -> dict[str, tuple[PastPeriod, ...]]:
        """Return what Stripe acknowledged in the items' last periods, or else said of them at the first look."""
        # By their ends: where one began that is read of at the first look is not always known exactly.
        found = defaultdict[str, dict[datetime, PastPeriod]](dict)
        for table, quantity in ((past_periods, "quantity"), (item_periods, "acknowledged")):
            query = self.database.of(table, "item", "period_start", "period_end", table.c[quantity].label("quantity"))
            for row in self.database.rows_before(query, table, periods, PAST):
                found[row.item][row.period_end] = PastPeriod(rows.period(row), row.quantity or 0)
        past = {item: compared(ended.values(), periods[item]) for item, ended in found.items()}
        return {item: ended for item, ended in past.items() if ended}

    def with_windows(self, memory: Memory, wanted: Sequence[windows.Wanted]) -> Memory:
        """Given what is known, return it with the hours or days that are wanted, or why some could not be read."""
        remembered, unreadable = dict(memory.remembered), dict(memory.unreadable)
        for item, recalled in windows.recall(self.database, wanted).items():
            if isinstance(recalled, rows.RowUnread):
                unreadable[item] = f"{recalled.message}; {recalled.hint}"
            elif item in remembered:
                remembered[item] = replace(remembered[item], windows=recalled)
        return replace(memory, remembered=remembered, unreadable=unreadable)

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

    def stretches(self, others: Sequence[SubscriptionItem]) -> dict[PeriodKey, tuple[Period, ...]]:
        """Return which stretches of items' periods were reported and taken, of those for which any was."""
        wanted = {item.key for item in others}
        oldest = min((start for _, start in wanted), default=None)
        if oldest is None:
            return {}
        query = self.database.of(item_periods, "item", "period_start", "reported").where(
            item_periods.c.acknowledged.is_not(None),
            item_periods.c.reported.is_not(None),
            item_periods.c.period_start >= oldest,
        )
        found = self.database.rows_of(query, item_periods.c.item, {item.id for item in others})
        read = (row for row in found if row.reported is not UNREADABLE)
        return {(row.item, row.period_start): row.reported for row in read if (row.item, row.period_start) in wanted}

    def scales(self, items_seen: Collection[str]) -> dict[PeriodKey, Decimal]:
        """Return the scales that all periods of these items were begun with, as far as anything was to be written."""
        query = self.database.of(item_periods, "item", "period_start", "scale")
        found = self.database.rows_of(query, item_periods.c.item, items_seen)
        return {(row.item, row.period_start): row.scale for row in found}

    def openmeter_customers(self, customers: Collection[str]) -> dict[str, str]:
        """Return the OpenMeter customer by whose usage each Stripe customer was billed last, where it was so."""
        query = self.database.of(item_periods, "customer", "subjects", "period_start")
        of_customers = query.where(item_periods.c.grouping == Grouping.CUSTOMER.value)
        found = self.database.rows_of(of_customers, item_periods.c.customer, sorted(customers))
        in_order = sorted(found, key=lambda row: row.period_start)
        return {row.customer: subjects[0] for row in in_order if (subjects := rows.subjects_of(row))}

    def customers_billed_by(
        self, subjects: Collection[str], grouping: Grouping, since: datetime
    ) -> dict[str, frozenset[str]]:
        """Return which Stripe customers were billed by the usage of which of these subjects.

        That is in periods that ended after an instant.
        """
        billed, wanted = defaultdict[str, frozenset[str]](frozenset), frozenset(subjects)
        query = self.database.of(item_periods, "item", "customer", "subjects").where(
            item_periods.c.grouping == grouping.value, item_periods.c.period_end > since
        )
        for row in self.database.rows(query):
            billed[row.customer] |= wanted.intersection(_named(row))
        return {customer: by for customer, by in billed.items() if by}

    def subjects_of(self, periods: Collection[PeriodKey], grouping: Grouping) -> dict[PeriodKey, tuple[str, ...]]:
        """Return by which subjects items' periods were reported, those that were by subjects of such a kind."""
        query = self.database.of(item_periods, "item", "period_start", "subjects")
        of_kind = query.where(item_periods.c.grouping == grouping.value)
        found = self.database.rows_of(of_kind, item_periods.c.item, {item for item, _ in periods})
        return {key: _named(row) for row in found if (key := (row.item, row.period_start)) in periods}

    def reported(self, seen_items: Sequence[SubscriptionItem]) -> frozenset[PeriodKey]:
        """Return those of the items, each with the start of its period, for which anything was ever to be written."""
        ids, asked = {item.id for item in seen_items}, {item.key for item in seen_items}
        found = set[PeriodKey]()
        for table in (item_periods, forgotten):
            query = self.database.of(table, "item", "period_start")
            found |= {(row.item, row.period_start) for row in self.database.rows_of(query, table.c.item, ids)}
        return frozenset(asked & found)


def _names(listed_items: Iterable[SubscriptionItem]) -> dict[str, str]:
    """Return the names that are in memory already: of many thousands of items a copy of each would be kept as long."""
    return {name: name for item in listed_items for name in (item.id, item.subscription.customer.id)}


def _named(row: Row[Any]) -> tuple[str, ...]:
    """Return the subjects that a row keeps, none where they cannot be read: that is told where its item is billed."""
    try:
        with rows.reading(row.item):
            return rows.subjects_of(row)
    except rows.RowUnread:
        return ()


def _periods(listed_items: Iterable[SubscriptionItem]) -> dict[str, datetime]:
    return dict(item.key for item in listed_items)
