"""Reports in the ledger that Stripe refused, or did not answer."""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from meter_sync.ledger.database import Database, batches
from meter_sync.ledger.schema import item_periods, writes


def unanswered(database: Database, periods: Mapping[str, datetime]) -> dict[str, int]:
    """Given items, each with the start of its period, return the quantity of the last report where it lacks an answer.

    That is one of the run that wrote the item last, if Stripe took no write of it in that run.
    """
    of_last_run = sa.and_(
        *(writes.c[name] == item_periods.c[name] for name in ("account", "mode", "item", "period_start", "run"))
    )
    columns = (writes.c.item, writes.c.period_start, writes.c.quantity, writes.c.acknowledged_at)
    found: dict[str, int] = {}
    answered: set[str] = set()
    for ids in batches(list(periods)):
        query = sa.select(*columns).join(item_periods, of_last_run).where(*database.in_scope(writes))
        for row in database.rows(query.where(writes.c.item.in_(ids)).order_by(writes.c.intended_at, writes.c.step)):
            if row.period_start == periods[row.item]:
                found[row.item] = row.quantity
                answered |= {row.item} if row.acknowledged_at else set()
    return {item: quantity for item, quantity in found.items() if item not in answered}
