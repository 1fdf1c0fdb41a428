"""Who bills which usage, beside the items that a run has listed."""

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from meter_sync.core.ownership import BilledUsage
from meter_sync.ledger import rows
from meter_sync.ledger.database import Database
from meter_sync.ledger.runs import Runs
from meter_sync.ledger.schema import item_periods, seen_periods


@dataclass(frozen=True, slots=True)
class BilledUsages:
    """What items bill, as far as is known."""

    database: Database

    def open_after(self, since: datetime) -> tuple[BilledUsage, ...]:
        """Return what items bill whose period is open after `since`, as far as the last whole run still saw them.

        Of one on a billing meter that was never written, for whatever reason, that is only which meter it is.
        """
        last_whole = Runs(self.database).last_complete()
        current = self.database.of(item_periods).where(item_periods.c.period_end > since)
        if last_whole is not None:
            current = current.where(item_periods.c.seen_at >= last_whole)
        gone = self._gone(since)
        written = {row.item: rows.billed_usage(row) for row in self.database.rows(current) if row.item not in gone}
        beside = [one for one in self.open_on_meters(since) if one.item not in written]
        return (*written.values(), *beside)

    def _gone(self, since: datetime) -> frozenset[str]:
        """Return the items whose newest period has ended by an instant."""
        last = sa.func.max(seen_periods.c.period_end)
        query = self.database.of(seen_periods, "item").group_by(seen_periods.c.item).having(last <= since)
        return frozenset(row.item for row in self.database.rows(query))

    def open_on_meters(self, since: datetime) -> list[BilledUsage]:
        """Return the items on billing meters whose period is open after an instant, as far as is known."""
        query = self.database.of(seen_periods, "item", "customer", "stripe_meter", "period_start", "period_end").where(
            seen_periods.c.stripe_meter.is_not(None),
            seen_periods.c.period_end > since,
            seen_periods.c.closed_at.is_(None),
        )
        return [
            BilledUsage(
                item=row.item,
                meter="",
                filter=(),
                subjects=(),
                start=row.period_start,
                end=row.period_end,
                customer=row.customer,
                stripe_meter=row.stripe_meter,
            )
            for row in self.database.rows(query)
        ]
