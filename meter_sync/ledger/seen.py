"""The ledger's rows of items and periods that were listed, and of how their ends were brought about."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from meter_sync.core.billing.intake import usage_ended
from meter_sync.core.billing.item import Period, SubscriptionItem
from meter_sync.core.planning.known import Claim
from meter_sync.ledger.database import Database, batches, execute_many
from meter_sync.ledger.schema import seen_periods
from meter_sync.ledger.snapshot import item_from, stored


@dataclass(frozen=True, slots=True)
class Seen:
    """An item in a period, as it was listed last, and how far its end has come."""

    item: SubscriptionItem
    seen_at: datetime
    complete_until: datetime | None
    """Until when its usage was reported in full."""
    is_refused: bool
    """Whether Stripe has said that it takes no more usage of the period."""
    is_invoiced: bool | None
    """Whether an invoice bills the period; None where none was looked for, or it may still come."""
    read_back_at: datetime | None
    remainder: int
    """What Stripe does not bill of it, by sign."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What a run has found out about the end of a period."""

    item: str
    period_start: datetime
    complete_until: datetime | None = None
    is_refused: bool = False
    is_invoiced: bool | None = None
    is_read_back: bool = False
    remainder: int | None = None
    why: str | None = None
    is_closed: bool = False


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


def record(database: Database, connection: Connection, listed: Sequence[SubscriptionItem], at: datetime) -> None:
    """Record the listed items in their periods. A period that another one of its item overtook ended at its start.

    Where periods were missed altogether, or there were none while the subscription was paused, one that fills the gap
    stands for them. What is as it was is not written.
    """
    items = {item.id: item for item in listed}
    for ids in batches(list(items)):
        before = _newest(database, connection, ids)
        _record(database, connection, [(items[id], before.get(id)) for id in ids], at)


def _record(
    database: Database, connection: Connection, listed: Iterable[tuple[SubscriptionItem, Row[Any] | None]], at: datetime
) -> None:
    rows = []
    for item, last in listed:
        row = _row(item, at)
        if last is None or last.period_start > item.period.start:
            rows.append(row)
        elif last.period_start == item.period.start:
            rows += [row] if (last.snapshot, last.period_end) != (row["snapshot"], item.period.end) else []
        else:
            rows.append(row)
            if last.period_end < item.period.start:
                _pause(database, connection, item_of(last))
                rows.append(_row(_paused(replace(item, period=Period(last.period_end, item.period.start))), at))
            elif last.period_end > item.period.start:
                end(database, connection, item_of(last), item.period.start, is_followed=True)
    upsert = sqlite_insert(seen_periods)
    upsert = upsert.on_conflict_do_update(
        index_elements=["account", "mode", "item", "period_start"],
        set_={name: upsert.excluded[name] for name in ("period_end", "snapshot", "seen_at", "stripe_meter")},
    )
    execute_many(connection, upsert, [{**database.scope, **row} for row in rows])


def _pause(database: Database, connection: Connection, seen: SubscriptionItem) -> None:
    """Record that after a period none came for a while."""
    connection.execute(
        sa.update(seen_periods)
        .where(*database.in_scope(seen_periods), *_is(seen.id, seen.period.start))
        .values(snapshot=stored(_paused(seen)))
    )


def _paused(item: SubscriptionItem) -> SubscriptionItem:
    """Return an item as of a paused subscription: unless an invoice tells otherwise, nothing bills the period."""
    return replace(item, subscription=replace(item.subscription, status="paused"))


def end(database: Database, connection: Connection, seen: SubscriptionItem, at: datetime, *, is_followed: bool) -> None:
    """Record that a period ended at an instant, before its time, and whether another one follows."""
    ended = replace(seen, period=Period(seen.period.start, max(at, seen.period.start)), is_followed=is_followed)
    connection.execute(
        sa.update(seen_periods)
        .where(*database.in_scope(seen_periods), *_is(seen.id, seen.period.start))
        .values(period_end=ended.period.end, snapshot=stored(ended))
    )


def ended(database: Database, as_of: datetime) -> list[Seen]:
    """Return the periods that have ended by an instant and are not closed, the oldest first."""
    return [_seen(row) for row in database.rows(_not_closed(database).where(seen_periods.c.period_end <= as_of))]


def of_subscriptions(database: Database, subscriptions: Collection[str]) -> list[Seen]:
    """Return the periods of these subscriptions' items that are not closed, the one that ends first first."""
    found: list[Seen] = []
    for ids in batches(sorted(subscriptions)):
        of_these = _not_closed(database).where(seen_periods.c.subscription.in_(ids))
        found += [_seen(row) for row in database.rows(of_these)]
    return found


def billed_until(database: Database, periods: Mapping[str, datetime]) -> dict[str, datetime]:
    """Given items and the starts of their periods, return where the usage of the periods before these ended.

    That goes by the price that an item was last seen with in that period.
    """
    found: dict[str, datetime] = {}
    for ids in batches(list(periods)):
        earliest = min(periods[item] for item in ids)
        query = database.of(seen_periods, *seen_periods.c).where(
            seen_periods.c.item.in_(ids), seen_periods.c.period_end >= earliest
        )
        for row in database.rows(query):
            if row.period_end == periods[row.item]:
                found[row.item] = usage_ended(item_of(row)) if row.stripe_meter else row.period_end
    return found


CLOSED_WITHIN = timedelta(days=1)
"""For so long a period that is watched no more waits for a last look, if it fails time and again."""


def due(database: Database, as_of: datetime, within: timedelta, watched_for: timedelta) -> list[Seen]:
    """Return the periods that end within some time of an instant, but for those that were reported in full since.

    With them come the ones that were watched for late usage long enough, for a last look.
    """
    end, until = seen_periods.c.period_end, seen_periods.c.complete_until
    is_near = end.between(as_of - within, as_of + within)
    is_incomplete = sa.or_(end > as_of, until.is_(None), until < end)
    is_to_be_reported = sa.and_(is_near, is_incomplete, seen_periods.c.is_refused.is_(False))
    is_over = end.between(as_of - watched_for - CLOSED_WITHIN, as_of - watched_for - timedelta(seconds=1))
    query = _not_closed(database).where(sa.or_(is_to_be_reported, is_over))
    return [_seen(row) for row in database.rows(query)]


def missing(database: Database, listed: Collection[str]) -> list[Seen]:
    """Return the newest period of each item that a listing had not any more, unless it is known to be the last one."""
    known = database.of(seen_periods, seen_periods.c.item).where(seen_periods.c.closed_at.is_(None))
    gone = sorted({row.item for row in database.rows(known)} - set(listed))
    rows: dict[str, Row[Any]] = {}
    for ids in batches(gone):
        rows |= {row.item: row for row in database.rows(_not_closed(database).where(seen_periods.c.item.in_(ids)))}
    return [seen for row in rows.values() if (seen := _seen(row)).item.is_followed]


def unseen(database: Database, items: Sequence[str]) -> frozenset[str]:
    """Return those of the items that have no row."""
    known: set[str] = set()
    for ids in batches(items):
        rows = database.rows(database.of(seen_periods, seen_periods.c.item).where(seen_periods.c.item.in_(ids)))
        known.update(row.item for row in rows)
    return frozenset(items) - known


def first_seen(database: Database) -> datetime | None:
    """Return when the oldest row that is not closed was written."""
    oldest = database.of(seen_periods, sa.func.min(seen_periods.c.seen_at)).where(seen_periods.c.closed_at.is_(None))
    found: datetime | None = database.value(oldest)
    return found


def over(database: Database, since: datetime) -> frozenset[str]:
    """Return the items whose newest period has ended by an instant: they are gone."""
    last = sa.func.max(seen_periods.c.period_end)
    query = database.of(seen_periods, seen_periods.c.item).group_by(seen_periods.c.item).having(last <= since)
    return frozenset(row.item for row in database.rows(query))


def on_meters(database: Database, since: datetime) -> list[Claim]:
    """Return the items on billing meters whose period is open after an instant."""
    columns = ("item", "customer", "stripe_meter", "period_start", "period_end")
    query = database.of(seen_periods, *(seen_periods.c[name] for name in columns)).where(
        seen_periods.c.stripe_meter.is_not(None), seen_periods.c.period_end > since, seen_periods.c.closed_at.is_(None)
    )
    return [
        Claim(
            item=row.item,
            meter="",
            filter=(),
            subjects=(),
            start=row.period_start,
            end=row.period_end,
            customer=row.customer,
            stripe_meter=row.stripe_meter,
        )
        for row in database.rows(query)
    ]


def conclude(database: Database, connection: Connection, conclusions: Sequence[Conclusion], at: datetime) -> None:
    """Record what was found out about the ends of periods."""
    for one in conclusions:
        values: dict[str, Any] = {}
        if one.complete_until:
            values["complete_until"] = one.complete_until
        if one.is_refused:
            values["is_refused"] = True
        if one.is_invoiced is not None:
            values["is_invoiced"] = one.is_invoiced
        if one.is_read_back:
            values["read_back_at"] = at
        if one.remainder is not None:
            values |= {"remainder": one.remainder, "why": one.why, "named_at": at}
        if one.is_closed:
            values["closed_at"] = at
        if values:
            is_it = _is(one.item, one.period_start)
            connection.execute(sa.update(seen_periods).where(*database.in_scope(seen_periods), *is_it).values(**values))


def unbilled(database: Database) -> list[Unbilled]:
    """Return every remainder that no person has marked as settled, the oldest first."""
    open_quantity = seen_periods.c.remainder - sa.func.coalesce(seen_periods.c.settled, 0)
    query = database.of(seen_periods, *seen_periods.c).where(open_quantity != 0)
    return [_unbilled(row) for row in database.rows(query.order_by(seen_periods.c.period_end, seen_periods.c.item))]


def remainder_of(database: Database, item: str, period_start: datetime) -> Unbilled | None:
    """Return what Stripe does not bill of an item's period, or None where the ledger does not know it."""
    rows = database.rows(database.of(seen_periods, *seen_periods.c).where(*_is(item, period_start)))
    return _unbilled(rows[0]) if rows else None


def settle(database: Database, connection: Connection, one: Unbilled, note: str, at: datetime) -> None:
    """Record that a person has settled what stands open of an item's period."""
    connection.execute(
        sa.update(seen_periods)
        .where(*database.in_scope(seen_periods), *_is(one.item, one.period.start))
        .values(settled=one.remainder, settled_at=at, note=note)
    )


def _not_closed(database: Database) -> sa.Select[Any]:
    query = database.of(seen_periods, *seen_periods.c).where(seen_periods.c.closed_at.is_(None))
    return query.order_by(seen_periods.c.period_end, seen_periods.c.item)


def _newest(database: Database, connection: Connection, ids: Sequence[str]) -> Mapping[str, Row[Any]]:
    """Return the newest period of each item."""
    last = (
        database.of(seen_periods, seen_periods.c.item, sa.func.max(seen_periods.c.period_start).label("start"))
        .where(seen_periods.c.item.in_(ids))
        .group_by(seen_periods.c.item)
        .subquery()
    )
    is_last = sa.and_(seen_periods.c.item == last.c.item, seen_periods.c.period_start == last.c.start)
    columns = (seen_periods.c[name] for name in ("item", "period_start", "period_end", "snapshot"))
    rows = connection.execute(database.of(seen_periods, *columns).join(last, is_last)).all()
    return {row.item: row for row in rows}


def _row(item: SubscriptionItem, at: datetime) -> dict[str, Any]:
    return {
        "item": item.id,
        "period_start": item.period.start,
        "period_end": item.period.end,
        "subscription": item.subscription.id,
        "customer": item.subscription.customer.id,
        "stripe_meter": item.price.stripe_meter,
        "snapshot": stored(item),
        "seen_at": at,
    }


def item_of(row: Row[Any]) -> SubscriptionItem:
    """Return an item as it was listed last in the period of a row."""
    return item_from(row.snapshot)


def _seen(row: Row[Any]) -> Seen:
    return Seen(
        item=item_of(row),
        seen_at=row.seen_at,
        complete_until=row.complete_until,
        is_refused=row.is_refused,
        is_invoiced=row.is_invoiced,
        read_back_at=row.read_back_at,
        remainder=row.remainder,
    )


def _unbilled(row: Row[Any]) -> Unbilled:
    return Unbilled(
        item=row.item,
        subscription=row.subscription,
        customer=row.customer,
        period=Period(row.period_start, row.period_end),
        remainder=row.remainder,
        why=row.why,
        named_at=row.named_at,
        settled=row.settled,
        settled_at=row.settled_at,
        note=row.note,
    )


def _is(item: str, period_start: datetime) -> tuple[Any, ...]:
    return seen_periods.c.item == item, seen_periods.c.period_start == period_start
