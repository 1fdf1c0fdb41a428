"""Forgetting what is long over, and nothing that a later run could need."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from meter_sync.core.planning.memory import PAST
from meter_sync.ledger.additions import lacks_answer
from meter_sync.ledger.carries import is_open
from meter_sync.ledger.database import PERIOD, Book, of_same_period
from meter_sync.ledger.rows import keys
from meter_sync.ledger.runs import Runs
from meter_sync.ledger.schema import (
    additions,
    carries,
    falls,
    forgotten,
    holds,
    item_periods,
    parts,
    past_additions,
    past_parts,
    past_periods,
    past_writes,
    runs,
    seen_periods,
    webhook_events,
    writes,
)

_OF_PERIODS = (
    carries, falls, writes, past_writes, parts, past_parts, additions, past_additions, holds, forgotten, item_periods,
    seen_periods,
)  # fmt: skip


class Pruning(Book):
    """What of the ledger can go."""

    def prune(self, before: datetime, at_most: int | None = None) -> dict[str, int]:
        """Delete what is about periods that were over before an instant, and return how many rows went, by table.

        `at_most` so many periods, and rows that are of none; None for all of them.


        These stay, whatever their age:

        - a period that is not closed, an item's newest one, and those shortly before each of these: where the usage of
          the last one ended, and on which billing meter that was, says where that of the next one starts, and brakes
          compare with them;
        - a remainder that no person has marked as settled, and no later period has, or one that is not closed;
        - an addition of which it is not known whether Stripe has it;
        - the write with the newest instant of all: by it a clock is known that went back;
        - the last complete run, and what says which items were looked at, which account this is, and how far lists
          were read.
        """
        last_run = Runs(self.database).last_complete()
        is_over = [sa.func.coalesce(runs.c.finished_at, runs.c.started_at) < before]
        if last_run is not None:
            is_over.append(runs.c.started_at != last_run)
        with self.database.transaction():
            over = keys((row.item, row.period_start) for row in self.database.rows(self._over(before).limit(at_most)))
            gone = {table.name: self.database.delete(table, over) for table in _OF_PERIODS}
            is_past = past_periods.c.period_end < before, ~self._is_shortly_before_a_needed_one(past_periods)
            gone[past_periods.name] = self._delete(past_periods, is_past, PERIOD, at_most)
            gone[runs.name] = self._delete(runs, is_over, ("run",), at_most)
            is_done = (webhook_events.c.done_at < before,)
            gone[webhook_events.name] = self._delete(webhook_events, is_done, ("event",), at_most)
            return gone

    def _delete(
        self, table: sa.Table, conditions: Iterable[ColumnElement[bool]], by: Sequence[str], at_most: int | None
    ) -> int:
        """Delete at most so many rows that fulfil conditions, and return how many went; `by` names each."""
        if at_most is None:
            return self.database.delete_where(table, *conditions)
        some = self.database.rows(self.database.of(table, *by).where(*conditions).limit(at_most))
        return self.database.delete(table, [{name: getattr(row, name) for name in by} for row in some])

    def _over(self, before: datetime) -> sa.Select[Any]:
        """Ask for the periods that can go."""
        one = seen_periods.c
        is_old = (
            one.period_end < before,
            one.closed_at < before,
            sa.or_(one.settled_at.is_(None), one.settled_at < before),
        )
        is_settled = ~is_open(self.database)
        later = seen_periods.alias("later")
        is_into = carries.c.item == later.c.item, carries.c.into == later.c.period_start, later.c.closed_at.is_(None)
        is_needed_later = self.database.exists(
            carries, of_same_period(carries, seen_periods), *is_into, *self.database.in_scope(later)
        )
        is_in_doubt = sa.or_(lacks_answer(), additions.c.in_doubt)
        has_newest_instant = self.database.is_newest(item_periods, "as_of")
        is_needed = (
            self.database.is_newest(seen_periods, "period_start", "item"),
            self._is_shortly_before_a_needed_one(seen_periods),
            is_needed_later,
            self.database.exists(additions, of_same_period(additions, seen_periods), is_in_doubt),
            self.database.exists(item_periods, of_same_period(item_periods, seen_periods), has_newest_instant),
        )
        return self.database.of(seen_periods, "item", "period_start").where(*is_old, is_settled, ~sa.or_(*is_needed))

    def _is_shortly_before_a_needed_one(self, one: sa.Table) -> ColumnElement[bool]:
        """Return the condition that a period is followed soon by one that is its item's newest, or not closed."""
        following = seen_periods.alias("following")
        looked_back = sa.type_coerce(following.c.period_start, sa.BigInteger) - int(PAST.total_seconds())
        return self.database.exists(
            following,
            following.c.item == one.c.item,
            following.c.period_start > one.c.period_start,
            looked_back <= sa.type_coerce(one.c.period_end, sa.BigInteger),
            sa.or_(following.c.closed_at.is_(None), self.database.is_newest(following, "period_start", "item")),
        )
