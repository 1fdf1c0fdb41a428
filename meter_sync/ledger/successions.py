"""Handing what is known of a removed item over to the one that took its place on the same billing meter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Table

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.ledger.database import Book, Database
from meter_sync.ledger.rows import key
from meter_sync.ledger.schema import additions, item_periods, items, parts, seen_periods


@dataclass(frozen=True, slots=True)
class Continued:
    """What an item goes on with that took a place: the first item that had it."""

    first: str
    born_at: datetime
    """When that one was created."""


class Successions(Book):
    """Which items took the place of others."""

    def hand_over(self, old: SubscriptionItem, new: SubscriptionItem, at: datetime) -> bool:
        """Move what was reported for a removed item to its successor, and return whether that could be done.

        It cannot be where something was reported for the successor already. The history of the removed item stays its
        own.
        """
        with self.database.transaction():
            if self._rows(item_periods, new):
                return False
            self._move(old, new)
            (seen,) = self._rows(seen_periods, old)
            why = f"its usage is billed with {new.id}, which took its place on the billing meter"
            self.database.update(seen_periods, [key(old)], closed_at=at, why=why)
            first = {"continues": seen.continues or old.id, "born_at": min(seen.born_at or old.created, new.created)}
            self.database.update(seen_periods, [{**key(new), **first}])
        return True

    def _rows(self, table: Table, item: SubscriptionItem) -> Sequence[Row[Any]]:
        is_it = table.c.item == item.id, table.c.period_start == item.period.start
        return self.database.rows(self.database.of(table).where(*is_it))

    def _move(self, old: SubscriptionItem, new: SubscriptionItem) -> None:
        for table in (parts, additions):
            self.database.update(table, [key(old)], **key(new))
        row = {**key(new), "period_end": new.period.end, "subscription": new.subscription.id, "read_whole_at": None}
        self.database.update(item_periods, [key(old)], **row)
        looked = self.database.rows(self.database.of(items, "looked_at").where(items.c.item == old.id))
        self.database.insert_missing(items, [{"item": new.id, "looked_at": one.looked_at} for one in looked])


def continued(database: Database, periods: Mapping[str, datetime]) -> dict[str, Continued]:
    """Given items and the starts of their periods, return what those go on with that took a place in that period."""
    query = database.of(seen_periods, "item", "period_start", "continues", "born_at")
    found = database.rows_in(query.where(seen_periods.c.continues.is_not(None)), seen_periods, periods)
    return {row.item: Continued(row.continues, row.born_at) for row in found}
