"""What there is to say of all books together, in a few numbers: for who wants to know whether all is well."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

from meter_sync.core.billing.item import Period, PeriodKey
from meter_sync.ledger import rows
from meter_sync.ledger.database import Book
from meter_sync.ledger.runs import IS_COMPLETE
from meter_sync.ledger.schema import holds, item_periods, past_writes, runs, seen_periods, writes

_A_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class HeldNow:
    """What keeps an item's period from being reported at present."""

    item: str
    subscription: str
    customer: str
    period: Period
    meter: str | None
    outcome: str
    reason: str
    message: str | None
    first_at: datetime
    """Since when it has been so."""


@dataclass(frozen=True, slots=True)
class Ends:
    """When periods end, as far as runs have listed them."""

    next_end: datetime | None
    """When the next one does."""
    within_a_day: int
    """How many end within a day."""
    unreported: int
    """How many have ended, and were not reported in full since."""


class Overview(Book):
    """What is held, what is due, and how large the books are."""

    def held(self) -> list[HeldNow]:
        """Return what the last complete run left, and any since, the oldest first, but for what was reported since.

        A run that an error ended has looked at no item: it says nothing of what was held before.
        """
        began = self.database.of(runs, sa.func.max(runs.c.started_at)).where(*IS_COMPLETE)
        since = self.database.value(began)
        if since is None:
            return []
        is_newest = self.database.is_newest(holds, "number", "item", "period_start")
        query = self.database.of(holds).where(holds.c.last_at >= since, is_newest)
        left = self.database.rows(query.order_by(holds.c.first_at, holds.c.item))
        seen, states = (self._by_key(table, {row.item for row in left}) for table in (seen_periods, item_periods))
        found = []
        for row in left:
            key = row.item, row.period_start
            state = states.get(key)
            is_over = state is not None and state.acknowledged_at is not None and state.acknowledged_at > row.last_at
            if key in seen and not is_over:
                found.append(_held(row, seen[key], state.meter if state else None))
        return found

    def meters_of(self, periods: Collection[PeriodKey]) -> dict[PeriodKey, str]:
        """Return the OpenMeter meter of each of these items' periods of which anything was reported."""
        states = self._by_key(item_periods, {item for item, _ in periods})
        return {key: states[key].meter for key in periods if key in states}

    def meter_ids(self) -> frozenset[str]:
        """Return the ids of the meters in OpenMeter that anything was reported from."""
        query = self.database.of(item_periods, "meter_id").where(item_periods.c.meter_id.is_not(None))
        return frozenset(row.meter_id for row in self.database.rows(query.distinct()))

    def _by_key(self, table: sa.Table, items: Collection[str]) -> dict[PeriodKey, Row[Any]]:
        found = self.database.rows_of(self.database.of(table), table.c.item, sorted(items))
        return {(row.item, row.period_start): row for row in found}

    def ends(self, now: datetime) -> Ends:
        """Return when periods end, seen from an instant."""
        end, until = seen_periods.c.period_end, seen_periods.c.complete_until
        is_open = seen_periods.c.closed_at.is_(None)
        is_incomplete = sa.or_(until.is_(None), until < end), seen_periods.c.is_refused.is_(False)
        return Ends(
            next_end=self.database.value(self._of_periods(sa.func.min(end), is_open, end > now)),
            within_a_day=self._count(is_open, end > now, end <= now + _A_DAY),
            unreported=self._count(is_open, end <= now, *is_incomplete),
        )

    def size(self) -> dict[str, int]:
        """Return how many items, periods of these, and writes there are in the books, and how many bytes these take."""
        items = self.database.value(self._of_periods(sa.func.count(seen_periods.c.item.distinct())))
        written = self.database.value(self.database.of(writes, sa.func.count()))
        packed = self.database.value(self.database.of(past_writes, sa.func.sum(past_writes.c.how_many)))
        return {
            "bytes": self.database.size_bytes(),
            "items": items or 0,
            "periods": self._count(),
            "writes": int((written or 0) + (packed or 0)),
        }

    def _count(self, *conditions: Any) -> int:
        return self.database.value(self._of_periods(sa.func.count(), *conditions)) or 0

    def _of_periods(self, wanted: Any, *conditions: Any) -> sa.Select[Any]:
        return self.database.of(seen_periods, wanted).where(*conditions)


def _held(row: Row[Any], seen: Row[Any], meter: str | None) -> HeldNow:
    whose = {"subscription": seen.subscription, "customer": seen.customer, "period": rows.period(seen)}
    return rows.read_as(HeldNow, row, meter=meter, **whose)
