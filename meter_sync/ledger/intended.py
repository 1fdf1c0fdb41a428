"""What was last to be written for items, whatever became of it."""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from meter_sync.ledger.database import Database, batches
from meter_sync.ledger.schema import item_periods, writes


def last_intended(database: Database, periods: Mapping[str, datetime]) -> dict[str, int]:
    """Given items, each with the start of its period, return the quantity that was last intended for each.

    That of an item's state is taken back when Stripe refuses it; here it stays.
    """
    of_last_run = sa.and_(
        *(writes.c[name] == item_periods.c[name] for name in ("account", "mode", "item", "period_start", "run"))
    )
    columns = (writes.c.item, writes.c.period_start, writes.c.quantity)
    found: dict[str, int] = {}
    for ids in batches(list(periods)):
        query = sa.select(*columns).join(item_periods, of_last_run).where(*database.in_scope(writes))
        for row in database.rows(query.where(writes.c.item.in_(ids)).order_by(writes.c.intended_at, writes.c.step)):
            if row.period_start == periods[row.item]:
                found[row.item] = row.quantity
    return found
