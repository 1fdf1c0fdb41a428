"""The ledger's book of events that add to what Stripe holds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Row

from meter_sync.core.billing.item import Period, PeriodKey
from meter_sync.core.planning.memory import Addition, RememberedAdditions
from meter_sync.core.planning.sends import Add, Cancel
from meter_sync.core.planning.stages import Acknowledged, Write
from meter_sync.ledger import past_additions, rows, writers
from meter_sync.ledger.database import Book, Database, of_same_period
from meter_sync.ledger.rows import RunRecord
from meter_sync.ledger.schema import additions, item_periods
from meter_sync.ledger.schema import past_additions as packed

_KEY = ("item", "period_start", "identifier")


@dataclass(frozen=True, slots=True)
class Unsettled:
    """An addition of which it is not known whether Stripe has it, with all that is needed to find out."""

    item: str
    period: Period
    customer: str
    stripe_meter: str | None
    acknowledged: int
    """What Stripe holds of the period as far as it is known."""
    is_answered: bool
    """Whether Stripe has said that it was carried out: then it is only in doubt whether with this quantity, or whether
    it was rejected later."""
    addition: Addition

    @property
    def place(self) -> PeriodKey:
        """Which item it is, in which period."""
        return self.item, self.period.start


class Additions(Book):
    """The additions of which it is not known whether Stripe has them."""

    def unsettled(self, items: Sequence[str], run: RunRecord, at: datetime) -> tuple[list[Unsettled], frozenset[str]]:
        """Return the additions of these items, in any period, that may or may not have been carried out.

        Beside them the items that another run is writing at this moment: theirs are not among them, since that run
        knows.
        """
        of_period = [item_periods.c[name] for name in ("period_end", "customer", "stripe_meter", "acknowledged")]
        query = _newest(self.database).add_columns(*of_period).where(*self.database.in_scope(item_periods))
        query = query.join(item_periods, of_same_period(item_periods, additions))
        with self.database.at_one_moment():
            busy = writers.busy(self.database, run, items, at)
            found = [_unsettled(row) for row in self.database.rows_of(query, additions.c.item, items)]
        return [one for one in found if not one.addition.is_delivered and one.item not in busy], busy

    def record_attempt(self, one: Unsettled, at: datetime) -> None:
        """Record that such an addition is about to be sent again."""
        with self.database.transaction():
            self.database.update(additions, [{**_key(one.place, one.addition), "attempted_at": at}], by=_KEY)

    def settle(self, one: Unsettled, at: datetime, *, is_in_doubt: bool = False) -> None:
        """Record that such an addition, or its cancellation, was carried out, perhaps with another quantity."""
        column = "cancelled_at" if one.addition.is_cancel else "delivered_at"
        found: dict[str, Any] = {column: at, **_doubt(is_in_doubt)}
        with self.database.transaction():
            self.database.update(additions, [{**_key(one.place, one.addition), **found}], by=_KEY)
            recount(self.database, *one.place)

    def clear_doubt(self, one: Unsettled) -> None:
        """Record that Stripe was found to hold what it took of an item's period."""
        with self.database.transaction():
            self.database.update(additions, rows.keys([one.place]), in_doubt=False)


def _unsettled(row: Row[Any]) -> Unsettled:
    found = {"period": rows.period(row), "acknowledged": row.acknowledged or 0, "addition": _addition(row)}
    return rows.read_as(Unsettled, row, is_answered=_settled_at(row) is not None, **found)


def recall(database: Database, periods: Mapping[str, datetime]) -> dict[str, RememberedAdditions | rows.RowUnread]:
    """Given items with the start of their period, return what is remembered of the additions to each that has any.

    Of one of which some cannot be read, return why.
    """
    to_same_base = (
        database.of(additions, "item", "period_start", sa.func.count().label("how_many"))
        .join(item_periods, of_same_period(item_periods, additions))
        .where(*database.in_scope(item_periods), additions.c.base == sa.func.coalesce(item_periods.c.acknowledged, 0))
        .group_by(additions.c.item, additions.c.period_start)
    )
    same, unread = past_additions.to_same_base(database, periods)
    for row in database.rows_in(to_same_base, additions, periods):
        same[row.item] = same.get(row.item, 0) + row.how_many
    newest = database.rows_in(_newest(database), additions, periods)
    return {row.item: RememberedAdditions(_addition(row), same.get(row.item, 0)) for row in newest} | unread


def _newest(database: Database) -> sa.Select[Any]:
    return database.of(additions).where(database.is_newest(additions, "number", "item", "period_start"))


def _addition(row: Row[Any]) -> Addition:
    is_delivered = _settled_at(row) is not None and not row.in_doubt
    return rows.read_as(Addition, row, is_delivered=is_delivered, is_cancel=row.cancel_intended_at is not None)


def _settled_at(row: Row[Any]) -> datetime | None:
    settled_at: datetime | None = row.delivered_at if row.cancel_intended_at is None else row.cancelled_at
    return settled_at


def lacks_answer() -> ColumnElement[bool]:
    """Return the condition that it is not known what became of an addition, or of its cancellation."""
    lacks_cancel = sa.and_(additions.c.cancel_intended_at.is_not(None), additions.c.cancelled_at.is_(None))
    return sa.or_(additions.c.delivered_at.is_(None), lacks_cancel)


def intend(database: Database, run: str, planned: Sequence[Write], at: datetime) -> None:
    """Record what is about to be added or cancelled, exactly as it will be sent."""
    adding = _sent_as(Add, planned)
    before = database.rows_of(_newest(database), additions.c.item, [item for (item, _), _ in adding])
    numbers: dict[PeriodKey, int] = {(row.item, row.period_start): row.number for row in before}
    new = [
        {
            **_key(place, addition),
            "run": run,
            "number": numbers.get(place, 0) + 1,
            "base": addition.base,
            "value": addition.value,
            "timestamp": addition.timestamp,
            "intended_at": addition.intended_at,
            "as_of": addition.as_of,
            "attempted_at": addition.attempted_at,
            "base_is_read": addition.base_is_read,
            "in_doubt": False,
        }
        for place, addition in adding
    ]
    database.insert(additions, new)
    cancelling = [_key(*one) for one in _sent_as(Cancel, planned)]
    database.update(additions, cancelling, by=_KEY, cancel_intended_at=at)


def _sent_as(kind: type[Add] | type[Cancel], planned: Iterable[Write]) -> list[tuple[PeriodKey, Addition]]:
    return [(one.item.key, one.sends.addition) for one in planned if isinstance(one.sends, kind)]


def acknowledge(database: Database, acknowledgements: Iterable[Acknowledged]) -> None:
    """Record which additions and cancellations Stripe has carried out; one that was rejected meanwhile adds nothing."""
    names = []
    for done in acknowledgements:
        write = done.intended.write
        if isinstance(write.sends, Add | Cancel):
            took = {"request_id": done.request_id, "delivered_at": done.at, **_doubt(done.is_in_doubt)}
            values = {"cancelled_at": done.at} if isinstance(write.sends, Cancel) else took
            database.update(additions, [{**_key(write.item.key, write.sends.addition), **values}], by=_KEY)
            names.append(write.sends.addition.identifier)
    rejected = database.of(additions, "item", "period_start").where(additions.c.rejected.is_not(None))
    for row in list(database.rows_of(rejected, additions.c.identifier, names)):
        recount(database, row.item, row.period_start)


def _doubt(is_in_doubt: bool) -> dict[str, bool]:
    """Return the column that says so, if it is: a doubt that another run has found meanwhile stays."""
    return {"in_doubt": True} if is_in_doubt else {}


def withdraw(database: Database, unsent: Sequence[Write]) -> None:
    """Take back what was certainly not carried out."""
    database.delete(additions, [_key(*one) for one in _sent_as(Add, unsent)])
    database.update(additions, [_key(*one) for one in _sent_as(Cancel, unsent)], by=_KEY, cancel_intended_at=None)


def recount(database: Database, item: str, period_start: datetime) -> None:
    """Count anew what Stripe holds of an item's period: what it held at first, and every addition that stands.

    Counting on from the last number instead would go wrong where an addition was rejected that was never
    acknowledged, or was cancelled already.
    """
    stands = (
        additions.c.delivered_at.is_not(None),
        additions.c.cancelled_at.is_(None),
        additions.c.rejected.is_(None),
    )
    every = database.of(additions, sa.func.coalesce(sa.func.sum(additions.c.value), 0)).where(*stands)
    added = every.where(additions.c.item == item, additions.c.period_start == period_start).scalar_subquery()
    before = database.of(packed, sa.func.coalesce(sa.func.sum(packed.c.added), 0))
    added_before = before.where(packed.c.item == item, packed.c.period_start == period_start).scalar_subquery()
    holds = item_periods.c.opening + added + added_before
    place = rows.keys([(item, period_start)])
    database.update(item_periods, place, acknowledged=holds, quantity=holds, acknowledged_at=None)


def _key(place: PeriodKey, addition: Addition) -> dict[str, Any]:
    item, period_start = place
    return {"item": item, "period_start": period_start, "identifier": addition.identifier}
