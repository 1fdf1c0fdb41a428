"""The queue of events that came by webhook, in the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from meter_sync.core.scope import Scope
from meter_sync.ledger.database import Book
from meter_sync.ledger.rows import read_as
from meter_sync.ledger.schema import webhook_events

_REMEMBERED = timedelta(days=35)
"""Stripe delivers an event again for 3 days, and can be asked to for 30."""


_WHOSE = webhook_events.c.account, webhook_events.c.mode


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """An event that waits for its report."""

    id: str
    type: str
    subscription: str | None
    """None in an event that asks for reading the meters' error events."""
    received_at: datetime


class WebhookQueue(Book):
    """Which events came, and which of them wait for their report."""

    def enqueue(self, event: WebhookEvent) -> bool:
        """Record an event and return whether it is new; a known one, also one that is done, stays as it is."""
        row = {
            "event": event.id,
            "type": event.type,
            "subscription": event.subscription,
            "received_at": event.received_at,
        }
        with self.database.transaction():
            return self.database.insert_missing(webhook_events, [row]) == 1

    def waiting(self) -> list[WebhookEvent]:
        """Return the events that are not done, oldest first."""
        not_done = self.database.of(webhook_events).where(webhook_events.c.done_at.is_(None))
        oldest_first = not_done.order_by(webhook_events.c.received_at, webhook_events.c.event)
        return [read_as(WebhookEvent, row, id=row.event) for row in self.database.rows(oldest_first)]

    def by_account(self) -> dict[Scope, int]:
        """Return how many events wait for each account that has any, whoever's books these are.

        It reads the index of those that wait, and nothing of those that are done.
        """
        left = sa.func.count().label("waiting")
        query = sa.select(*_WHOSE, left).where(webhook_events.c.done_at.is_(None)).group_by(*_WHOSE)
        return {Scope(row.account, row.mode): row.waiting for row in self.database.rows(query)}

    def accounts(self, since: datetime) -> set[Scope]:
        """Return the accounts of which an event waits, or came since, whoever's books these are."""
        lately = sa.select(*_WHOSE).where(webhook_events.c.received_at >= since).distinct()
        return {*self.by_account(), *(Scope(row.account, row.mode) for row in self.database.rows(lately))}

    def record_done(self, ids: Sequence[str], at: datetime) -> None:
        """Record that what these events asked for was done.

        Those that were done so long ago that they cannot come again are forgotten.
        """
        with self.database.transaction():
            self.database.update(webhook_events, [{"event": id, "done_at": at} for id in ids], by=("event",))
            self.database.delete_where(webhook_events, webhook_events.c.done_at < at - _REMEMBERED)
