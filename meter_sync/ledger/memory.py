"""What the ledger remembers of items, for the plan."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from meter_sync.core.billing.item import PeriodKey, SubscriptionItem
from meter_sync.core.billing.way import Way
from meter_sync.core.planning.memory import Memory, PastPeriod, Remembered
from meter_sync.ledger import additions, listed, rows, successions, windows
from meter_sync.ledger.database import Book
from meter_sync.ledger.schema import forgotten, item_periods, items, writes

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
        continued = successions.continued(self.database, periods)
        firsts = {one.first: periods[item] for item, one in continued.items()}
        until = listed.billed_until(self.database, periods | firsts)
        return Memory(
            known_items=frozenset(known - self._forgotten(periods)),
            remembered=self._with_additions(remembered, periods),
            billed_until=until | {item: until[one.first] for item, one in continued.items() if one.first in until},
            past=self._past(periods),
            born={item: one.born_at for item, one in continued.items()},
        )

    def _forgotten(self, periods: Mapping[str, datetime]) -> set[str]:
        """Return the items of which it is not known any more what Stripe holds in these periods."""
        return {row.item for row in self.database.rows_in(self.database.of(forgotten), forgotten, periods)}

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

    def _with_additions(
        self, remembered: Mapping[str, Remembered], periods: Mapping[str, datetime]
    ) -> dict[str, Remembered]:
        adding = {item: periods[item] for item, one in remembered.items() if one.method.way is Way.ADDITIONS}
        recalled = additions.recall(self.database, adding)
        return {
            item: replace(one, additions=recalled[item]) if item in recalled else one
            for item, one in remembered.items()
        }

    def with_windows(self, memory: Memory, wanted: Sequence[windows.Wanted]) -> Memory:
        """Given what is known, return it with the hours or days that are wanted."""
        recalled = windows.recall(self.database, wanted)
        remembered = {
            item: replace(one, windows=recalled[item]) if item in recalled else one
            for item, one in memory.remembered.items()
        }
        return replace(memory, remembered=remembered)

    def last_intended(self, listed_items: Sequence[SubscriptionItem]) -> dict[str, int]:
        """Return for items, in their periods, the quantity that was last intended, whatever became of it.

        That of an item's state is taken back when Stripe refuses it; here it stays.
        """
        is_of_last_run = sa.and_(
            *(writes.c[name] == item_periods.c[name] for name in ("account", "mode", "item", "period_start", "run"))
        )
        query = self.database.of(writes, "item", "period_start", "quantity").join(item_periods, is_of_last_run)
        oldest_first = query.order_by(writes.c.intended_at, writes.c.step)
        found = self.database.rows_in(oldest_first, writes, _periods(listed_items))
        return {row.item: row.quantity for row in found}

    def reported(self, seen_items: Sequence[SubscriptionItem]) -> frozenset[PeriodKey]:
        """Return those of the items, each with the start of its period, for which anything was ever to be written."""
        query = self.database.of(item_periods, "item", "period_start")
        found = self.database.rows_of(query, item_periods.c.item, {item.id for item in seen_items})
        asked = {item.key for item in seen_items}
        return frozenset(asked & {(row.item, row.period_start) for row in found})


def _periods(listed_items: Iterable[SubscriptionItem]) -> dict[str, datetime]:
    return dict(item.key for item in listed_items)
