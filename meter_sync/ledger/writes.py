"""The ledger's book of writes: each is intended before it is sent, and acknowledged once Stripe has taken it."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.item import PeriodKey, SubscriptionItem, Target
from meter_sync.core.billing.way import Way, window_of
from meter_sync.core.planning.carrying import total_of
from meter_sync.core.planning.memory import PastPeriod
from meter_sync.core.planning.sends import Add, SetWindows, WindowQuantity
from meter_sync.core.planning.stages import Acknowledged, Checked, Intended, Write
from meter_sync.ledger import additions, carries, rows, schema, windows, writers
from meter_sync.ledger.database import PERIOD, Book, Database, Rows, itself, of_same_period
from meter_sync.ledger.rows import RunRecord, WindowTaken, key
from meter_sync.ledger.schema import (
    forgotten,
    item_periods,
    items,
    parts,
    past_additions,
    past_parts,
    past_periods,
    seen_periods,
    writes,
)

_KEY_OF_PART = ("item", "period_start", "start")
_KEPT = ("acknowledged", "seen_at", "read_whole_at", "opening", "reported")
"""What an intent leaves as it is in the row of an item and period."""
_REPLACED = [one.name for one in item_periods.c if not one.primary_key and one.name not in _KEPT]


class Writes(Book):
    """What is about to be written, and what became of it."""

    def record_looks(self, run: RunRecord, looked: Iterable[SubscriptionItem], at: datetime) -> None:
        """Record that the items were looked at in Stripe: nothing is held there that this ledger does not know.

        Of those that were looked at in an earlier period, that they were in this one; what is known of a period that
        has ended says nothing of those that follow it.
        """
        in_time = [one for one in looked if one.period.end > run.as_of]
        since = {one.id: one.period.start for one in in_time}

        def write(some: Sequence[SubscriptionItem]) -> None:
            before = self.database.rows_of(self.database.of(items), items.c.item, [one.id for one in some])
            known = {row.item for row in before if row.looked_at >= since[row.item]}
            rows = [{"item": one.id, "looked_at": at} for one in some if one.id not in known]
            self.database.put(items, rows, ("looked_at",))

        self.database.write_each(in_time, itself, write)

    def record_past(self, read: Iterable[tuple[str, Sequence[PastPeriod]]]) -> None:
        """Record what Stripe said of items' earlier periods, so that later runs compare with them too."""
        said: Rows = [
            {"item": item, "period_start": one.period.start, "period_end": one.period.end, "quantity": one.quantity}
            for item, past in read
            for one in past
        ]

        def write(some: Rows) -> None:
            self.database.put(past_periods, some, ("period_end", "quantity"))

        self.database.write_each(said, lambda row: (str(row["item"]), row["period_start"]), write)

    def claim(self, run: RunRecord, checked: Sequence[Checked], at: datetime, number: int) -> list[Intended]:
        """Claim the items of writes, record what is about to be written, and return the writes that were granted.

        One whose item another run is writing, or has written since the write was planned, is not, nor is one of which
        a row is refused. `number` says which one of the run's writes for each item it is.
        """

        damaged = self.database.damaged

        def write(some: Sequence[Checked]) -> list[Intended]:
            free = writers.claim(self.database, run, [one for one in some if one.item.id not in damaged], at)
            granted = [Intended(one, number) for one in some if one.item.id in free]
            self._intend(run, granted, at)
            return granted

        parts = self.database.write_each(checked, lambda one: one.item, write)
        return [one for part in parts for one in part]

    def renew(self, run: RunRecord, items: Sequence[str], at: datetime) -> frozenset[str]:
        """Claim items for longer that a run has claimed before, and return those that no other run has taken since."""
        with self.database.transaction():
            return writers.renew(self.database, run, items, at)

    def release(self, run: RunRecord, written: Sequence[Write]) -> None:
        """Give claims back: these writes are over."""
        with self.database.transaction():
            writers.release(self.database, run, [one.item.id for one in written])

    def intend_correction(self, run: RunRecord, intended: Intended, write: Write, at: datetime) -> Intended:
        """Record what is about to be written in place of what was intended, once that has shown whose usage it is."""
        correction = Intended(write, intended.number + 1)
        with self.database.transaction():
            self._intend(run, [correction], at)
        return correction

    def _intend(self, run: RunRecord, intended: Sequence[Intended], at: datetime) -> None:
        """Record what is about to be written, with all that is needed to repeat it exactly."""
        planned = [one.write for one in intended]
        states = [_state(write, run, at) for write in planned]
        history = [
            {
                **key(write.item),
                "run": run.id,
                "step": one.number,
                "anchor": write.anchor,
                "usage": write.found.usage,
                "quantity": write.quantity,
                "at_anchor": write.at_anchor,
                "previous": write.found.standing,
                "intended_at": at,
                "carried": total_of(write.carried),
            }
            for one, write in zip(intended, planned, strict=True)
            if write.how_many
        ]
        # What is added to what was read has all that was known before in it.
        _forget(self.database, [one.item.key for one in planned if _is_added_to_what_was_read(one)])
        self.database.put(item_periods, states, _REPLACED, completed=("read_whole_at", "reported"))
        self.database.insert(writes, history)
        windows.intend(self.database, run.id, planned)
        additions.intend(self.database, run.id, planned, at)
        carries.intend(self.database, planned)

    def acknowledge(self, run: RunRecord, acknowledgements: Sequence[Acknowledged]) -> None:
        """Record what Stripe has taken.

        An item beside which other records were found counts as never looked at in its next period, and what is known of
        a period that has ended says nothing of those that follow it. Where nothing was sent, an earlier write of the
        same run, that Stripe refused, is not taken for acknowledged. One of which a row is refused stays intended.
        What another run has read meanwhile, that Stripe rejected it after all, stays so: that comes after the answer.
        """

        self.database.write_each(acknowledgements, lambda one: one.intended.write.item, partial(self._acknowledge, run))

    def _acknowledge(self, run: RunRecord, acknowledgements: Sequence[Acknowledged]) -> None:
        states, settled, settled_events, sent, looked, beside_others = [], [], [], [], [], []
        for done in acknowledgements:
            write = done.intended.write
            place = key(write.item)
            taken = {"acknowledged": write.quantity, "foreign_held": done.is_foreign_held}
            states.append({**place, **taken, "closed": write.lacking})
            if event := _one_event(write, run):
                settled_events.append({**place, "identifier": event, "acknowledged_at": done.at})
            else:
                settled.append({**place, "acknowledged_at": done.at})
            if write.how_many:
                step = {"run": run.id, "step": done.intended.number}
                sent.append({**place, **step, "acknowledged_at": done.at, "request_id": done.request_id})
            if write.foreign:
                beside_others.append({"item": write.item.id})
            elif write.item.period.end > run.as_of:
                looked.append({"item": write.item.id, "looked_at": done.at})
        self.database.update(item_periods, states, total_before=None)
        self.database.update(item_periods, settled)
        self.database.update(item_periods, settled_events, by=(*PERIOD, "identifier"))
        self.database.update(writes, sent, by=("run", "item", "period_start", "step"))
        self.database.insert_missing(items, looked)
        self.database.delete(items, beside_others)
        additions.acknowledge(self.database, acknowledgements)

    def acknowledge_windows(self, run: RunRecord, taken: Sequence[WindowTaken]) -> None:
        """Record which hours or days Stripe has taken, when, and its name for each request.

        An event that was rejected meanwhile, or followed by that of another run, is not the hour's or day's any more.
        """

        def write(some: Sequence[WindowTaken]) -> None:
            records, events = [], []
            for one in some:
                row = {
                    **key(one.written.item),
                    "start": one.part.start,
                    "acknowledged": one.part.value,
                    "acknowledged_at": one.at,
                    "request_id": one.request_id,
                }
                if one.written.method.way.target is Target.METER_EVENT:
                    name = identifiers.of_set(run.id, one.written.item.id, one.part.start)
                    events.append({**row, "identifier": name})
                else:
                    records.append(row)
            self.database.update(parts, records, by=_KEY_OF_PART)
            self.database.update(parts, events, by=(*_KEY_OF_PART, "identifier"))

        self.database.write_each(taken, lambda one: one.written.item, write)

    def record_partly(self, write: Write, standing: int | None, unsent: Sequence[WindowQuantity]) -> None:
        """Record what became of a write of which only some was taken.

        `standing` is what Stripe holds of the item's period with that, None where nothing new was taken; `unsent` is
        what certainly never arrived.
        """
        place = key(write.item)
        before = [{**place, "start": part.start, "acknowledged": part.standing} for part in unsent]
        with self.database.own_trouble_of(write.item), self.database.transaction():
            self.database.update(parts, before, by=_KEY_OF_PART)
            if standing is not None:
                self.database.update(item_periods, [{**place, "acknowledged": standing}])

    def withdraw(self, unsent: Sequence[Write]) -> None:
        """Take back what was intended but never sent, or was refused: Stripe holds what it had acknowledged before.

        Where it had acknowledged nothing the item is unknown again, and is looked at before its next write.
        """

        def write(some: Sequence[Write]) -> None:
            keys = [key(one.item) for one in some]
            guessed = [key(one.item) for one in some if _is_added_to_what_was_read(one)]
            additions.withdraw(self.database, some)
            self.database.delete(item_periods, guessed)
            self.database.delete(item_periods, keys, item_periods.c.acknowledged.is_(None))
            self.database.update(item_periods, keys, quantity=item_periods.c.acknowledged)
            # What was never sent must not be taken for something that has to be sent again.
            for table in (parts, past_parts):
                has_row = self.database.exists(item_periods, of_same_period(item_periods, table))
                self.database.delete(table, keys, ~has_row)

        self.database.write_each(unsent, lambda one: one.item, write)

    def forget(self, unknown: Iterable[PeriodKey]) -> None:
        """Forget what Stripe holds of items, each with the start of its period: they are looked at before a write.

        Additions are forgotten with them: what is read then has them in it.
        """

        self.database.write_each(list(unknown), itself, partial(_forget, self.database))


def forget_what_may_have_changed(database: Database, as_of: datetime) -> None:
    """Forget, within a transaction, what Stripe holds of what runs may have written that this ledger does not know of.

    That is every period that is open at an instant, and of those that have ended, until they are closed, what depends
    on the last event: what was added, and when the last total was stamped. All else of an ended period is set again,
    whatever stands there. What is known of periods by what was read back after their end stays, and so does what was
    named, held and written.
    """
    is_final = database.exists(
        seen_periods,
        of_same_period(seen_periods, item_periods),
        sa.or_(seen_periods.c.closed_at.is_not(None), seen_periods.c.read_back_at.is_not(None)),
    )
    depends_on_last = item_periods.c.way.in_([Way.ADDITIONS.value, Way.LAST.value])
    may_have_changed = ~is_final, sa.or_(item_periods.c.period_end > as_of, depends_on_last)
    query = database.of(item_periods, "item", "period_start").where(*may_have_changed)
    _forget(database, [(row.item, row.period_start) for row in database.rows(query)])
    # Also of what had nothing: it may have something by now.
    database.delete_where(items)


def _forget(database: Database, unknown: Iterable[PeriodKey]) -> None:
    keys = rows.keys(unknown)
    for table in (schema.additions, past_additions, parts, past_parts, item_periods):
        database.delete(table, keys)
    database.delete(items, [{"item": one["item"]} for one in keys])
    database.insert_missing(forgotten, keys)


def _is_added_to_what_was_read(write: Write) -> bool:
    return isinstance(write.sends, Add) and write.sends.addition.base_is_read


def _one_event(write: Write, run: RunRecord) -> str | None:
    """Return the name of the event that sets a whole period's total, if one does; others have rows of their own."""
    is_one_event = write.method.way is Way.LAST and write.how_many
    return identifiers.of_set(run.id, write.item.id, write.anchor) if is_one_event else None


def _state(write: Write, run: RunRecord, at: datetime) -> dict[str, Any]:
    """Return the row of an item and period that is about to be written."""
    found, item, method = write.found, write.item, write.method
    is_additions = method.way is Way.ADDITIONS
    is_whole = isinstance(write.sends, SetWindows) and write.sends.is_whole
    return {
        **key(item),
        "period_end": item.period.end,
        "subscription": item.subscription.id,
        "customer": item.subscription.customer.id,
        "price": item.price.id,
        "run": run.id,
        "target": method.way.target.value,
        "meter": method.meter,
        "filter": json.dumps(method.filter),
        "scale": method.scale,
        "rounding": method.rounding.value,
        "subjects": json.dumps(found.subjects),
        "grouping": found.grouping.value,
        "shared": found.row.shared,
        "usage_start": found.span.start if found.span else item.period.start,
        "earlier_subjects": rows.stored_subjects(found.earlier_subjects),
        "meter_id": found.meter.id if found.meter else None,
        "aggregation": found.meter.aggregation.value if found.meter else None,
        "events_from": found.meter.events_from if found.meter else None,
        "reported": found.own if write.intake.is_open else None,
        "anchor": write.anchor,
        "quantity": write.quantity,
        "as_of": run.as_of,
        "acknowledged": found.standing if is_additions else None,
        "acknowledged_at": None,
        "foreign_quantity": write.foreign,
        "foreign_held": False,
        "total_before": write.total_before,
        "seen_at": at,
        "way": method.way.value,
        "stripe_meter": method.stripe_meter,
        "window": window_of(method.way, item.price).value if method.way is Way.WINDOWS else None,
        "identifier": _one_event(write, run),
        "read_whole_at": run.as_of if is_whole else None,
        "closed": write.named_before,
        "rejected": None,
        "opening": found.standing or 0 if is_additions else 0,
    }
