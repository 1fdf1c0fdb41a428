"""The queue of events that came by webhook, in the ledger."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from meter_sync.ledger.database import Database, batches
from meter_sync.ledger.schema import webhook_events

_REMEMBERED = timedelta(days=35)
"""Stripe delivers an event again for 3 days, and can be asked to for 30."""


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """An event that waits for its report."""

    id: str
    type: str
    subscription: str | None
    """None in an event that asks for reading the meters' error events."""
    received_at: datetime


def enqueue(database: Database, connection: Connection, event: WebhookEvent) -> bool:
    """Record an event and return whether it is new; a known one, also one that is done, stays as it is."""
    insert = sqlite_insert(webhook_events).on_conflict_do_nothing()
    row = {
        **database.scope,
        "event": event.id,
        "type": event.type,
        "subscription": event.subscription,
        "received_at": event.received_at,
    }
    return connection.execute(insert.values(**row)).rowcount == 1


def waiting(database: Database) -> list[WebhookEvent]:
    """Return the events that are not done, oldest first."""
    query = (
        database.of(webhook_events, *webhook_events.c)
        .where(webhook_events.c.done_at.is_(None))
        .order_by(webhook_events.c.received_at, webhook_events.c.event)
    )
    return [WebhookEvent(row.event, row.type, row.subscription, row.received_at) for row in database.rows(query)]


def done(database: Database, connection: Connection, ids: Sequence[str], at: datetime) -> None:
    """Record that events are done, and forget those that were so long ago that they cannot come again."""
    of_scope = database.in_scope(webhook_events)
    for some in batches(ids):
        is_one = webhook_events.c.event.in_(some)
        connection.execute(sa.update(webhook_events).where(*of_scope, is_one).values(done_at=at))
    connection.execute(sa.delete(webhook_events).where(*of_scope, webhook_events.c.done_at < at - _REMEMBERED))
