"""The ledger's book of what Stripe does not bill, until a person has settled it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

from meter_sync.core.billing.item import Period
from meter_sync.ledger import rows
from meter_sync.ledger.database import Book
from meter_sync.ledger.schema import seen_periods


@dataclass(frozen=True, slots=True)
class Unbilled:
    """What Stripe does not bill of an item's period, or bills too much."""

    item: str
    subscription: str
    customer: str
    period: Period
    remainder: int
    why: str | None
    named_at: datetime | None
    settled: int | None
    settled_at: datetime | None
    note: str | None

    @property
    def open_quantity(self) -> int:
        """What no person has marked as settled yet."""
        return self.remainder - (self.settled or 0)


class Remainders(Book):
    """What Stripe does not bill of items' periods."""

    def unbilled(self) -> list[Unbilled]:
        """Return every remainder that no person has marked as settled, the oldest first."""
        open_quantity = seen_periods.c.remainder - sa.func.coalesce(seen_periods.c.settled, 0)
        query = self.database.of(seen_periods).where(open_quantity != 0)
        oldest_first = query.order_by(seen_periods.c.period_end, seen_periods.c.item)
        return _unbilled(self.database.rows(oldest_first))

    def of(self, item: str, period_start: datetime) -> Unbilled | None:
        """Return what Stripe does not bill of an item's period, or None where the ledger does not know it."""
        return next(iter(_unbilled(self.database.rows_about(seen_periods, item, period_start))), None)

    def settle(self, one: Unbilled, note: str, at: datetime) -> None:
        """Record that a person has settled what stands open of an item's period."""
        place = rows.keys([(one.item, one.period.start)])
        with self.database.transaction():
            self.database.update(seen_periods, place, settled=one.remainder, settled_at=at, note=note)


def _unbilled(found: Iterable[Row[Any]]) -> list[Unbilled]:
    return [rows.read_as(Unbilled, row, period=rows.period(row)) for row in found]
