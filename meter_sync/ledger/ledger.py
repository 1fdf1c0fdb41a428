"""Reading and writing the ledger; every public write is one short transaction."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.billing.way import Way
from meter_sync.core.planning.known import Claim, Memory, PastPeriod, Remembered
from meter_sync.core.planning.stages import Part, Result, Set
from meter_sync.core.telling.history import Entry, PastRun, Sought, Story
from meter_sync.ledger import (
    additions,
    bindings,
    history,
    holds,
    intended,
    parts,
    prune,
    rejections,
    rows,
    schema,
    seen,
    successions,
    webhook_events,
    writers,
)
from meter_sync.ledger.database import Database, batches, execute_many
from meter_sync.ledger.rows import Acknowledgement, RunRecord
from meter_sync.ledger.schema import forgotten, item_periods, items, prices, runs, writes

_WORK_DONE = (0, 3, 4)
"""The exit codes of runs that listed everything and did what could be done."""
_PAST_DAYS = timedelta(days=100)
_ERROR_EVENTS = "error_events"
_KEPT = ("acknowledged", "seen_at", "read_whole_at", "opening")
"""What an intent leaves as it is in the row of an item and period."""


class Ledger:
    """The books of one Stripe account and mode."""

    def __init__(self, database: Database) -> None:
        self._books = database
        self._scope = database.scope

    @property
    def mode(self) -> str:
        """The mode of Stripe that these books are about: `live` or `sandbox`."""
        return self._scope["mode"]

    def binding(self) -> bindings.Binding | None:
        """Return the account and mode that the ledger is bound to, or None before its first use."""
        return bindings.bound(self._books)

    def bind(self, binding: bindings.Binding, at: datetime) -> None:
        """Bind the ledger to an account and mode."""
        with self._books.transaction() as connection:
            bindings.bind(connection, binding, at)

    def newest_as_of(self) -> datetime | None:
        """Return the newest instant up to which anything was intended to be reported, or None before that."""
        newest: datetime | None = self._books.value(self._books.of(item_periods, sa.func.max(item_periods.c.as_of)))
        return newest

    def last_complete_run(self) -> datetime | None:
        """Return when the last run over the whole account that did its work was begun, or None."""
        done = self._books.of(runs, sa.func.max(runs.c.started_at)).where(
            runs.c.everything.is_(True), runs.c.exit_code.in_(_WORK_DONE)
        )
        last: datetime | None = self._books.value(done)
        return last

    def last_complete_as_of(self) -> datetime | None:
        """Return the newest instant that a run over the whole account which did its work was about, or None."""
        done = self._books.of(runs, sa.func.max(runs.c.as_of)).where(
            runs.c.everything.is_(True), runs.c.exit_code.in_(_WORK_DONE)
        )
        last: datetime | None = self._books.value(done)
        return last

    def empty_prices(self, since: datetime) -> frozenset[str]:
        """Return the archived prices that were found without subscriptions since that instant."""
        rows = self._books.rows(self._books.of(prices, prices.c.price).where(prices.c.found_empty_at > since))
        return frozenset(row.price for row in rows)

    def memory(self, listed: Sequence[SubscriptionItem]) -> Memory:
        """Return what is known of the listed items in their current periods, as of one moment."""
        with self._books.at_one_moment():
            return self._memory(listed)

    def _memory(self, listed: Sequence[SubscriptionItem]) -> Memory:
        periods = {item.id: item.period.start for item in listed}
        meters = {item.id: item.price.stripe_meter for item in listed}
        known: set[str] = set()
        remembered: dict[str, Remembered] = {}
        for ids in batches(list(periods)):
            known.update(
                row.item for row in self._books.rows(self._books.of(items, items.c.item).where(items.c.item.in_(ids)))
            )
            recent = self._books.of(item_periods, *item_periods.c).where(
                item_periods.c.item.in_(ids), item_periods.c.period_end >= min(periods[item] for item in ids)
            )
            for row in self._books.rows(recent):
                if row.period_start == periods[row.item]:
                    remembered[row.item] = rows.remembered(row)
                elif row.period_end == periods[row.item] and row.stripe_meter != meters[row.item]:
                    known.discard(row.item)
        known -= self._forgotten(periods)
        continued = successions.continued(self._books, periods)
        firsts = {one.first: periods[item] for item, one in continued.items()}
        until = seen.billed_until(self._books, periods | firsts)
        return Memory(
            known_items=frozenset(known),
            remembered=self._with_additions(remembered, periods),
            billed_until=until | {item: until[one.first] for item, one in continued.items() if one.first in until},
            past=self._past(periods),
            born={item: one.born_at for item, one in continued.items()},
        )

    def _forgotten(self, periods: Mapping[str, datetime]) -> set[str]:
        """Return the items of which it is not known any more what Stripe holds in these periods."""
        found: set[str] = set()
        for ids in batches(list(periods)):
            query = self._books.of(forgotten, forgotten.c.item, forgotten.c.period_start)
            rows_of = self._books.rows(query.where(forgotten.c.item.in_(ids)))
            found.update(row.item for row in rows_of if row.period_start == periods[row.item])
        return found

    def _past(self, periods: Mapping[str, datetime]) -> dict[str, tuple[PastPeriod, ...]]:
        """Return what Stripe acknowledged in the items' last periods: of a hundred days, or the one before this."""
        found: dict[str, list[PastPeriod]] = {}
        columns = [item_periods.c[name] for name in ("item", "period_start", "period_end", "acknowledged")]
        for ids in batches(list(periods)):
            since = min(periods[item] for item in ids) - _PAST_DAYS
            query = self._books.of(item_periods, *columns).where(
                item_periods.c.item.in_(ids), item_periods.c.period_end >= since
            )
            for row in self._books.rows(query.order_by(item_periods.c.period_start.desc())):
                start = periods[row.item]
                if row.period_end == start or start - _PAST_DAYS <= row.period_end < start:
                    past = PastPeriod(rows.period(row), row.acknowledged or 0)
                    found.setdefault(row.item, []).append(past)
        return {item: tuple(of_item) for item, of_item in found.items()}

    def _with_additions(
        self, remembered: Mapping[str, Remembered], periods: Mapping[str, datetime]
    ) -> dict[str, Remembered]:
        adding = {item: periods[item] for item, one in remembered.items() if one.method.way is Way.ADDITIONS}
        recalled = additions.recall(self._books, adding)
        return {
            item: replace(one, additions=recalled[item]) if item in recalled else one
            for item, one in remembered.items()
        }

    def with_parts(self, memory: Memory, wanted: Sequence[parts.Wanted]) -> Memory:
        """Given what is known, return it with the hours or days that are wanted."""
        recalled = parts.recall(self._books, wanted)
        remembered = {
            item: replace(one, parts=recalled[item]) if item in recalled else one
            for item, one in memory.remembered.items()
        }
        return replace(memory, remembered=remembered)

    def last_intended(self, listed: Sequence[SubscriptionItem]) -> dict[str, int]:
        """Return for the listed items, in their current periods, the quantity that was last intended for each."""
        return intended.last_intended(self._books, {item.id: item.period.start for item in listed})

    def unsettled_additions(
        self, items: Sequence[str], run: RunRecord, at: datetime
    ) -> tuple[list[additions.Unsettled], frozenset[str]]:
        """Return the additions of these items, in any period, of which it is not known whether Stripe has them.

        Beside them the items that another run is writing at this moment: theirs are not among them, since that run
        knows.
        """
        with self._books.at_one_moment():
            busy = writers.busy(self._books, run, items, at)
            return [one for one in additions.unsettled(self._books, items) if one.item not in busy], busy

    def attempt_addition(self, one: additions.Unsettled, at: datetime) -> None:
        """Record that such an addition is about to be sent again."""
        with self._books.transaction() as connection:
            additions.attempt(self._books, connection, one, at)

    def settle_addition(self, one: additions.Unsettled, at: datetime) -> None:
        """Record that such an addition, or its cancellation, was carried out."""
        with self._books.transaction() as connection:
            additions.settle(self._books, connection, one, at)

    def clear_doubt(self, one: additions.Unsettled) -> None:
        """Record that Stripe holds what it took of an item's period."""
        with self._books.transaction() as connection:
            additions.clear_doubt(self._books, connection, one)

    def error_events_position(self) -> str | None:
        """Return when the last error event was made that was read, or None before the first."""
        return rejections.position(self._books, _ERROR_EVENTS)

    def reject(self, messages: Mapping[str, str], read_until: str) -> int:
        """Record what Stripe rejected, by identifier, and how far its error events were read; return how many."""
        with self._books.transaction() as connection:
            found = rejections.reject(self._books, connection, messages)
            rejections.move(self._books, connection, _ERROR_EVENTS, read_until)
        return found

    def written(self, stripe_meter: str | None, since: datetime) -> list[rejections.Written]:
        """Return the items on a billing meter of which Stripe took something in runs about `since` or later."""
        return rejections.written(self._books, stripe_meter, since)

    def doubt(self, one: rejections.Written, why: str, taken_since: datetime) -> None:
        """Record that Stripe holds less of an item's period than it took."""
        with self._books.transaction() as connection:
            rejections.doubt(self._books, connection, one, why, taken_since)

    def record_shown(self, shown: Sequence[tuple[str, datetime]]) -> None:
        """Record that a person was told of the rejections of these items and periods."""
        with self._books.transaction() as connection:
            rejections.shown(self._books, connection, shown)

    def record_seen(self, listed: Sequence[SubscriptionItem], at: datetime) -> None:
        """Record items in their periods, as they are now."""
        with self._books.transaction() as connection:
            seen.record(self._books, connection, listed, at)

    def unseen(self, items: Sequence[str]) -> frozenset[str]:
        """Return those of the items that were never listed before."""
        return seen.unseen(self._books, items)

    def first_seen(self) -> datetime | None:
        """Return when the oldest of the open periods was recorded, or None where there is none."""
        return seen.first_seen(self._books)

    def end_seen(self, item: SubscriptionItem, at: datetime) -> None:
        """Record that an item's period ended at an instant and that none follows."""
        with self._books.transaction() as connection:
            seen.end(self._books, connection, item, at, is_followed=False)

    def hand_over(self, old: SubscriptionItem, new: SubscriptionItem, at: datetime) -> bool:
        """Hand what was reported for a removed item over to its successor; return whether that could be done."""
        with self._books.transaction() as connection:
            return successions.hand_over(self._books, connection, old, new, at)

    def seen_of(self, subscriptions: Collection[str]) -> list[seen.Seen]:
        """Return the periods of these subscriptions' items that are not closed."""
        return seen.of_subscriptions(self._books, subscriptions)

    def ended(self, as_of: datetime) -> list[seen.Seen]:
        """Return the periods that have ended by an instant and are not closed."""
        return seen.ended(self._books, as_of)

    def due(self, as_of: datetime, within: timedelta, watched_for: timedelta) -> list[seen.Seen]:
        """Return the periods that end within some time, ended since their last complete report, or are to be closed."""
        return seen.due(self._books, as_of, within, watched_for)

    def missing(self, listed: Collection[str]) -> list[seen.Seen]:
        """Return the newest periods of items that are not listed although they should go on."""
        return seen.missing(self._books, listed)

    def conclude(self, conclusions: Sequence[seen.Conclusion], at: datetime) -> None:
        """Record what was found out about the ends of periods."""
        with self._books.transaction() as connection:
            seen.conclude(self._books, connection, conclusions, at)

    def unbilled(self) -> list[seen.Unbilled]:
        """Return every remainder that no person has marked as settled."""
        return seen.unbilled(self._books)

    def remainder_of(self, item: str, period_start: datetime) -> seen.Unbilled | None:
        """Return what Stripe does not bill of an item's period, or None where it is not known."""
        return seen.remainder_of(self._books, item, period_start)

    def settle_remainder(self, one: seen.Unbilled, note: str, at: datetime) -> None:
        """Record that a person has settled it."""
        with self._books.transaction() as connection:
            seen.settle(self._books, connection, one, note, at)

    def record_holds(self, run: RunRecord, results: Sequence[Result], at: datetime) -> None:
        """Record what a run held, failed, or skipped with possible harm."""
        with self._books.transaction() as connection:
            holds.record(self._books, connection, run.id, results, at)

    def past_runs(self, since: datetime | None, until: datetime | None, limit: int) -> list[PastRun]:
        """Return the newest runs that began within some time, the newest first."""
        return history.past_runs(self._books, since, until, limit)

    def unmatched(self, sought: Sought) -> history.Unmatched | None:
        """Return the first selector that matches nothing, or None."""
        return history.unmatched(self._books, sought)

    def matches_together(self, sought: Sought) -> bool:
        """Say whether there is an item that all the selectors match."""
        return history.matches_together(self._books, sought)

    def entries(self, sought: Sought, *, with_parts: bool) -> list[Entry]:
        """Return everything that happened to what is sought, oldest first."""
        return history.entries(self._books, sought, with_parts=with_parts)

    def stories(self, name: str, period_start: datetime | None) -> list[Story]:
        """Given an item, a subscription or a customer, return all that is known of each item's period."""
        return history.stories(self._books, name, period_start)

    def prune(self, before: datetime) -> dict[str, int]:
        """Forget what was over before an instant and no later run can need; return how many rows went, by table."""
        keep = prune.Keep(_PAST_DAYS, self.last_complete_run())
        with self._books.transaction() as connection:
            return prune.prune(self._books, connection, before, keep)

    def claims(self, since: datetime) -> tuple[Claim, ...]:
        """Return what items bill whose period is open after `since`, as far as the last whole run still saw them.

        Of one on a billing meter that was never written, for whatever reason, that is only which meter it is.
        """
        last_whole = self.last_complete_run()
        current = self._books.of(item_periods, *item_periods.c).where(item_periods.c.period_end > since)
        if last_whole is not None:
            current = current.where(item_periods.c.seen_at >= last_whole)
        over = seen.over(self._books, since)
        written = {row.item: rows.claim(row) for row in self._books.rows(current) if row.item not in over}
        beside = [one for one in seen.on_meters(self._books, since) if one.item not in written]
        return (*written.values(), *beside)

    def reported(self, seen_items: Sequence[SubscriptionItem]) -> frozenset[tuple[str, datetime]]:
        """Return those of the items, each with the start of its period, for which anything was ever to be written."""
        periods = {(item.id, item.period.start) for item in seen_items}
        found: set[tuple[str, datetime]] = set()
        for ids in batches(sorted({item.id for item in seen_items})):
            query = self._books.of(item_periods, item_periods.c.item, item_periods.c.period_start)
            rows_of = self._books.rows(query.where(item_periods.c.item.in_(ids)))
            found.update((row.item, row.period_start) for row in rows_of)
        return frozenset(found & periods)

    def open_on_meters(self, since: datetime) -> list[Claim]:
        """Return the items on billing meters whose period is open after `since`, as far as is known."""
        return seen.on_meters(self._books, since)

    def begin_run(self, run: RunRecord) -> None:
        """Record that a run has begun, before its first effect."""
        row = {
            **self._scope,
            "run": run.id,
            "started_at": run.started_at,
            "as_of": run.as_of,
            "schedule": run.schedule,
            "everything": run.everything,
        }
        with self._books.transaction() as connection:
            connection.execute(sa.insert(runs), [row])

    def finish_run(self, run: str, at: datetime, exit_code: int, counts: Mapping[str, int]) -> None:
        """Record how a run ended."""
        ended = sa.update(runs).where(*self._books.in_scope(runs), runs.c.run == run)
        with self._books.transaction() as connection:
            connection.execute(ended.values(finished_at=at, exit_code=exit_code, counts=json.dumps(dict(counts))))

    def record_listing(
        self,
        listed: Iterable[SubscriptionItem],
        asked_prices: Iterable[str],
        empty_prices: Iterable[str],
        at: datetime,
    ) -> None:
        """Record which items a listing saw and which archived prices it found empty."""
        seen = (
            sa.update(item_periods)
            .where(
                *self._books.in_scope(item_periods),
                item_periods.c.item == sa.bindparam("seen_item"),
                item_periods.c.period_start == sa.bindparam("seen_start"),
            )
            .values(seen_at=at)
        )
        seen_rows = [{"seen_item": item.id, "seen_start": item.period.start} for item in listed]
        asked = [{"asked": price} for price in asked_prices]
        empty = [{**self._scope, "price": price, "found_empty_at": at} for price in empty_prices]
        asked_before = sa.delete(prices).where(*self._books.in_scope(prices), prices.c.price == sa.bindparam("asked"))
        with self._books.transaction() as connection:
            execute_many(connection, seen, seen_rows)
            execute_many(connection, asked_before, asked)
            execute_many(connection, sa.insert(prices), empty)

    def record_looks(self, looked: Iterable[str], at: datetime) -> None:
        """Record that the items were looked at in Stripe: nothing is held there that this ledger does not know."""
        rows = [{**self._scope, "item": item, "looked_at": at} for item in looked]
        with self._books.transaction() as connection:
            execute_many(connection, sqlite_insert(items).on_conflict_do_nothing(), rows)

    def claim(self, run: RunRecord, planned: Sequence[Set], at: datetime, step: int = 0) -> frozenset[str]:
        """Claim the items of writes, record what is about to be written, and return the items that were granted.

        One that another run is writing, or has written since the write was planned, is not.
        """
        with self._books.transaction() as connection:
            granted = writers.claim(self._books, connection, run, planned, at)
            self._intend(connection, run, [one for one in planned if one.line.item.id in granted], at, step)
        return granted

    def release(self, run: RunRecord, written: Sequence[Set]) -> None:
        """Give claims back: these writes are over."""
        with self._books.transaction() as connection:
            writers.release(self._books, connection, run, [one.line.item.id for one in written])

    def intend(self, run: RunRecord, planned: Sequence[Set], at: datetime, step: int = 0) -> None:
        """Record what is about to be written, with all that is needed to repeat it exactly."""
        with self._books.transaction() as connection:
            self._intend(connection, run, planned, at, step)

    def _intend(
        self, connection: sa.Connection, run: RunRecord, planned: Sequence[Set], at: datetime, step: int
    ) -> None:
        states = [{**self._scope, **rows.state(write, run, at)} for write in planned]
        history = [{**self._scope, **rows.history(write, run, at, step)} for write in planned if write.sends]
        upsert = sqlite_insert(item_periods)
        upsert = upsert.on_conflict_do_update(
            index_elements=["account", "mode", "item", "period_start"],
            set_={
                column.name: upsert.excluded[column.name]
                for column in item_periods.c
                if not column.primary_key and column.name not in _KEPT
            }
            | {"read_whole_at": sa.func.coalesce(upsert.excluded.read_whole_at, item_periods.c.read_whole_at)},
        )
        execute_many(connection, upsert, states)
        execute_many(connection, sa.insert(writes), history)
        parts.intend(self._books, connection, run.id, planned)
        additions.intend(self._books, connection, run.id, planned, at)

    def acknowledge(self, run: RunRecord, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Record what Stripe has taken.

        An item beside which other records were found counts as never looked at in its next period. Where nothing was
        sent, an earlier write of the same run, that Stripe refused, is not taken for acknowledged.
        """
        state = sa.update(item_periods).where(
            *self._books.in_scope(item_periods),
            item_periods.c.item == sa.bindparam("of_item"),
            item_periods.c.period_start == sa.bindparam("of_start"),
        )
        sent = [done for done in acknowledgements if done.written.sends]
        history = sa.update(writes).where(
            *self._books.in_scope(writes),
            writes.c.run == run.id,
            writes.c.item == sa.bindparam("of_item"),
            writes.c.period_start == sa.bindparam("of_start"),
            writes.c.step == sa.bindparam("of_step"),
        )
        looked = [
            {**self._scope, "item": done.written.line.item.id, "looked_at": done.at}
            for done in acknowledgements
            if not done.written.foreign
        ]
        beside_others = [rows.key(done) for done in acknowledgements if done.written.foreign]
        forget = sa.delete(items).where(*self._books.in_scope(items), items.c.item == sa.bindparam("of_item"))
        with self._books.transaction() as connection:
            execute_many(connection, state, [rows.acknowledged_state(done) for done in acknowledgements])
            execute_many(connection, history, [rows.acknowledged_write(done) for done in sent])
            execute_many(connection, sqlite_insert(items).on_conflict_do_nothing(), looked)
            execute_many(connection, forget, [{"of_item": key["of_item"]} for key in beside_others])
            added = [(done.written, done.at, done.request_id) for done in acknowledgements]
            additions.acknowledge(self._books, connection, added)

    def acknowledge_parts(self, taken: Sequence[rows.PartTaken]) -> None:
        """Record which hours or days Stripe has taken."""
        with self._books.transaction() as connection:
            done = [(one.written, one.part, one.at, one.request_id) for one in taken]
            parts.acknowledge(self._books, connection, done)

    def record_partly(self, write: Set, standing: int | None, unsent: Sequence[Part]) -> None:
        """Record what became of a write of which only some was taken.

        `standing` is what Stripe holds of the item's period with that, None where nothing new was taken; `unsent` is
        what certainly never arrived.
        """
        of_item = self._is_item(write)
        with self._books.transaction() as connection:
            parts.withdraw(self._books, connection, [(write, part) for part in unsent])
            if standing is not None:
                connection.execute(sa.update(item_periods).where(*of_item).values(acknowledged=standing))

    def forget(self, unknown: Iterable[tuple[str, datetime]]) -> None:
        """Forget what Stripe holds of items, each with the start of its period: they are looked at before a write.

        Additions are forgotten with them: what is read then has them in it.
        """
        with self._books.transaction() as connection:
            for item, period_start in unknown:
                for table in (schema.additions, schema.parts, item_periods):
                    is_it = (table.c.item == item, table.c.period_start == period_start)
                    connection.execute(sa.delete(table).where(*self._books.in_scope(table), *is_it))
                connection.execute(sa.delete(items).where(*self._books.in_scope(items), items.c.item == item))
                row = {**self._scope, "item": item, "period_start": period_start}
                connection.execute(sqlite_insert(forgotten).values(row).on_conflict_do_nothing())

    def _is_item(self, write: Set) -> tuple[Any, ...]:
        item = write.line.item
        return (
            *self._books.in_scope(item_periods),
            item_periods.c.item == item.id,
            item_periods.c.period_start == item.period.start,
        )

    def withdraw(self, unsent: Sequence[Set]) -> None:
        """Take back what was intended but never sent, or was refused: Stripe holds what it had acknowledged before.

        Where it had acknowledged nothing the item is unknown again, and is looked at before its next write.
        """
        of_item = (
            *self._books.in_scope(item_periods),
            item_periods.c.item == sa.bindparam("of_item"),
            item_periods.c.period_start == sa.bindparam("of_start"),
        )
        keys = [{"of_item": one.line.item.id, "of_start": one.line.item.period.start} for one in unsent]
        guessed = [key for key, one in zip(keys, unsent, strict=True) if one.addition and one.addition.base_is_read]
        known = sa.update(item_periods).where(*of_item).values(quantity=item_periods.c.acknowledged)
        with self._books.transaction() as connection:
            additions.withdraw(self._books, connection, unsent)
            execute_many(connection, sa.delete(item_periods).where(*of_item), guessed)
            execute_many(connection, sa.delete(item_periods).where(*of_item, _is_unknown()), keys)
            execute_many(connection, known, keys)
            parts.drop_orphans(self._books, connection, keys)

    def enqueue_webhook_event(self, event: webhook_events.WebhookEvent) -> bool:
        """Record an event that came by webhook, and return whether it is new."""
        with self._books.transaction() as connection:
            return webhook_events.enqueue(self._books, connection, event)

    def waiting_webhook_events(self) -> list[webhook_events.WebhookEvent]:
        """Return the events that wait for their report, oldest first."""
        return webhook_events.waiting(self._books)

    def webhook_events_done(self, ids: Sequence[str], at: datetime) -> None:
        """Record that what these events asked for was done."""
        with self._books.transaction() as connection:
            webhook_events.done(self._books, connection, ids, at)


def _is_unknown() -> sa.ColumnElement[bool]:
    return item_periods.c.acknowledged.is_(None)
