"""The ledger's book of what Stripe does not bill, until a person has settled it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Row

from meter_sync.core.billing.item import Period, PeriodKey
from meter_sync.core.metering.mapping import LateUsage
from meter_sync.ledger import rows
from meter_sync.ledger.carries import is_open, open_quantity
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
    open_quantity: int
    """What no person has marked as settled yet, and no later period has."""
    not_known: str | None = None
    """Why it is not known what is not billed, beyond the remainder."""
    waits: bool = False
    """Whether it waits for the item's next period, rather than for a person."""

    @property
    def is_unknown(self) -> bool:
        """Whether what stands open of it is not known, and no person has marked it as settled."""
        return self.not_known is not None and self.settled_at is None

    @property
    def carried(self) -> int:
        """What later periods have of it."""
        return self.remainder - (self.settled or 0) - self.open_quantity


class Remainders(Book):
    """What Stripe does not bill of items' periods."""

    def unbilled(self) -> list[Unbilled]:
        """Return every remainder that no person has marked as settled, and no later period has, the oldest first."""
        query = self._remainders().where(is_open(self.database))
        oldest_first = query.order_by(seen_periods.c.period_end, seen_periods.c.item)
        return _unbilled(self.database.rows(oldest_first))

    def for_a_person(self) -> list[Unbilled]:
        """Return those of the unbilled that wait for a person, rather than for the item's next period."""
        return [one for one in self.unbilled() if one.is_unknown or not one.waits]

    def since(self, since: datetime) -> dict[PeriodKey, Unbilled]:
        """Return what Stripe does not bill of each period that ended after an instant, settled or not."""
        found = self.database.rows(self._remainders().where(seen_periods.c.period_end > since))
        return {(one.item, one.period.start): one for one in _unbilled(found)}

    def of(self, item: str, period_start: datetime) -> Unbilled | None:
        """Return what Stripe does not bill of an item's period, or None where the ledger does not know it."""
        place = seen_periods.c.item == item, seen_periods.c.period_start == period_start
        return next(iter(_unbilled(self.database.rows(self._remainders().where(*place)))), None)

    def _remainders(self) -> sa.Select[Any]:
        return self.database.of(seen_periods, *seen_periods.c, open_quantity(self.database).label("open_quantity"))

    def settle(self, one: Unbilled, note: str, at: datetime) -> None:
        """Record that a person has settled what stands open of an item's period."""
        place = rows.keys([(one.item, one.period.start)])
        with self.database.transaction():
            self.database.update(seen_periods, place, settled=one.remainder - one.carried, settled_at=at, note=note)


def _unbilled(found: Iterable[Row[Any]]) -> list[Unbilled]:
    return [
        rows.read_as(Unbilled, row, period=rows.period(row), waits=row.late_usage == LateUsage.CARRY.value)
        for row in found
    ]
