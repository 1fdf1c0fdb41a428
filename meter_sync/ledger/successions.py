"""Handing what is known of a removed item over to the one that took its place on the same billing meter."""

from datetime import datetime

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.ledger.database import Book
from meter_sync.ledger.rows import key
from meter_sync.ledger.schema import additions, item_periods, items, parts, seen_periods


class Successions(Book):
    """Which items took the place of others."""

    def hand_over(self, old: SubscriptionItem, new: SubscriptionItem, at: datetime) -> bool:
        """Move what was reported for a removed item to its successor, and return whether that could be done.

        It cannot be where something was reported for the successor already. The history of the removed item stays its
        own.
        """
        with self.database.transaction():
            if self.database.rows_about(item_periods, *new.key):
                return False
            for table in (parts, additions):
                self.database.update(table, [key(old)], **key(new))
            row = {**key(new), "period_end": new.period.end, "subscription": new.subscription.id, "read_whole_at": None}
            self.database.update(item_periods, [key(old)], **row)
            looked = self.database.rows(self.database.of(items, "looked_at").where(items.c.item == old.id))
            self.database.insert_missing(items, [{"item": new.id, "looked_at": one.looked_at} for one in looked])
            (seen,) = self.database.rows_about(seen_periods, *old.key)
            why = f"its usage is billed with {new.id}, which took its place on the billing meter"
            self.database.update(seen_periods, [key(old)], closed_at=at, why=why)
            first = {"continues": seen.continues or old.id, "born_at": min(seen.born_at or old.created, new.created)}
            self.database.update(seen_periods, [{**key(new), **first}])
        return True
