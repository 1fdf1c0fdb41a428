"""Reading and writing the ledger; every public write is one short transaction."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, Select, Table, event
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from meter_sync.core.actions import Set
from meter_sync.core.mapping import Filter
from meter_sync.core.memory import Claim, Memory, Method, Remembered
from meter_sync.core.model import SubscriptionItem, Target
from meter_sync.core.quantity import Rounding
from meter_sync.ledger.files import make_file, translated, unwritable
from meter_sync.ledger.migrate import REVISIONS, revision, upgrade
from meter_sync.ledger.schema import item_periods, items, metadata, prices, runs, writes

_ROWS_AT_ONCE = 500
_BUSY_SECONDS = 30
_WORK_DONE = (0, 3, 4)
"""The exit codes of runs that listed everything and did what could be done."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose books these are: the Stripe account (empty for the key's own) and `live` or `sandbox`."""

    account: str
    mode: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run, as the ledger keeps it."""

    id: str
    started_at: datetime
    as_of: datetime
    schedule: str
    everything: bool
    """Whether it was about the whole account, not about what a selector named."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Stripe has taken a write."""

    written: Set
    at: datetime
    request_id: str | None
    step: int = 0
    foreign_held: bool = False
    """Whether the item was left with what it held, because other records were found beside it."""


class Ledger:
    """The books of one Stripe account and mode."""

    def __init__(self, connection: Connection, path: Path, scope: Scope) -> None:
        self._connection = connection
        self._path = path
        self._scope = {"account": scope.account, "mode": scope.mode}

    def newest_as_of(self) -> datetime | None:
        """Return the newest instant up to which anything was intended to be reported, or None before that."""
        newest: datetime | None = self._value(self._of(item_periods, sa.func.max(item_periods.c.as_of)))
        return newest

    def last_complete_run(self) -> datetime | None:
        """Return when the last run over the whole account that did its work was begun, or None."""
        done = self._of(runs, sa.func.max(runs.c.started_at)).where(
            runs.c.everything.is_(True), runs.c.exit_code.in_(_WORK_DONE)
        )
        last: datetime | None = self._value(done)
        return last

    def empty_prices(self, since: datetime) -> frozenset[str]:
        """Return the archived prices that were found without subscriptions since that instant."""
        rows = self._rows(self._of(prices, prices.c.price).where(prices.c.found_empty_at > since))
        return frozenset(row.price for row in rows)

    def memory(self, listed: Sequence[SubscriptionItem]) -> Memory:
        """Return what is known of the listed items in their current periods."""
        periods = {item.id: item.period.start for item in listed}
        known: set[str] = set()
        remembered: dict[str, Remembered] = {}
        for ids in _batches(list(periods)):
            known.update(row.item for row in self._rows(self._of(items, items.c.item).where(items.c.item.in_(ids))))
            current = self._of(item_periods, *item_periods.c).where(item_periods.c.item.in_(ids))
            for row in self._rows(current):
                if row.period_start == periods[row.item]:
                    remembered[row.item] = _remembered(row)
        return Memory(known_items=frozenset(known), remembered=remembered)

    def claims(self, since: datetime) -> tuple[Claim, ...]:
        """Return what items bill whose period is open after `since`, as far as the last whole run still saw them."""
        last_whole = self.last_complete_run()
        current = self._of(item_periods, *item_periods.c).where(
            item_periods.c.period_end > since, item_periods.c.shared.is_(False)
        )
        if last_whole is not None:
            current = current.where(item_periods.c.seen_at >= last_whole)
        return tuple(_claim(row) for row in self._rows(current))

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
        with self._transaction() as connection:
            connection.execute(sa.insert(runs), [row])

    def finish_run(self, run: str, at: datetime, exit_code: int, counts: Mapping[str, int]) -> None:
        """Record how a run ended."""
        ended = sa.update(runs).where(*self._in_scope(runs), runs.c.run == run)
        with self._transaction() as connection:
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
                *self._in_scope(item_periods),
                item_periods.c.item == sa.bindparam("seen_item"),
                item_periods.c.period_start == sa.bindparam("seen_start"),
            )
            .values(seen_at=at)
        )
        seen_rows = [{"seen_item": item.id, "seen_start": item.period.start} for item in listed]
        asked = [{"asked": price} for price in asked_prices]
        empty = [{**self._scope, "price": price, "found_empty_at": at} for price in empty_prices]
        asked_before = sa.delete(prices).where(*self._in_scope(prices), prices.c.price == sa.bindparam("asked"))
        with self._transaction() as connection:
            _execute_many(connection, seen, seen_rows)
            _execute_many(connection, asked_before, asked)
            _execute_many(connection, sa.insert(prices), empty)

    def record_looks(self, looked: Iterable[str], at: datetime) -> None:
        """Record that the items were looked at in Stripe: nothing is held there that this ledger does not know."""
        rows = [{**self._scope, "item": item, "looked_at": at} for item in looked]
        with self._transaction() as connection:
            _execute_many(connection, sqlite_insert(items).on_conflict_do_nothing(), rows)

    def intend(self, run: RunRecord, planned: Sequence[Set], at: datetime, step: int = 0) -> None:
        """Record what is about to be written, with all that is needed to repeat it exactly."""
        states = [{**self._scope, **_state(write, run, at)} for write in planned]
        history = [{**self._scope, **_history(write, run, at, step)} for write in planned]
        upsert = sqlite_insert(item_periods)
        upsert = upsert.on_conflict_do_update(
            index_elements=["account", "mode", "item", "period_start"],
            set_={
                column.name: upsert.excluded[column.name]
                for column in item_periods.c
                if not column.primary_key and column.name not in ("acknowledged", "seen_at")
            },
        )
        with self._transaction() as connection:
            _execute_many(connection, upsert, states)
            _execute_many(connection, sa.insert(writes), history)

    def acknowledge(self, run: RunRecord, acknowledgements: Sequence[Acknowledgement]) -> None:
        """Record what Stripe has taken.

        An item beside which other records were found counts as never looked at in its next period.
        """
        state = sa.update(item_periods).where(
            *self._in_scope(item_periods),
            item_periods.c.item == sa.bindparam("of_item"),
            item_periods.c.period_start == sa.bindparam("of_start"),
        )
        history = sa.update(writes).where(
            *self._in_scope(writes),
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
        beside_others = [_key(done) for done in acknowledgements if done.written.foreign]
        forget = sa.delete(items).where(*self._in_scope(items), items.c.item == sa.bindparam("of_item"))
        with self._transaction() as connection:
            _execute_many(connection, state, [_acknowledged_state(done) for done in acknowledgements])
            _execute_many(connection, history, [_acknowledged_write(done) for done in acknowledgements])
            _execute_many(connection, sqlite_insert(items).on_conflict_do_nothing(), looked)
            _execute_many(connection, forget, [{"of_item": key["of_item"]} for key in beside_others])

    def withdraw(self, unsent: Sequence[Set]) -> None:
        """Take back what was intended but never sent, or was refused: Stripe holds what it had acknowledged before.

        Where it had acknowledged nothing the item is unknown again, and is looked at before its next write.
        """
        of_item = (
            *self._in_scope(item_periods),
            item_periods.c.item == sa.bindparam("of_item"),
            item_periods.c.period_start == sa.bindparam("of_start"),
        )
        keys = [{"of_item": one.line.item.id, "of_start": one.line.item.period.start} for one in unsent]
        unknown = sa.delete(item_periods).where(*of_item, item_periods.c.acknowledged.is_(None))
        known = sa.update(item_periods).where(*of_item).values(quantity=item_periods.c.acknowledged)
        with self._transaction() as connection:
            _execute_many(connection, unknown, keys)
            _execute_many(connection, known, keys)

    def _of(self, table: Table, *columns: Any) -> Select[Any]:
        return sa.select(*columns).where(*self._in_scope(table))

    def _in_scope(self, table: Table) -> tuple[Any, ...]:
        return tuple(table.c[name] == value for name, value in self._scope.items())

    def _rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        with self._transaction() as connection:
            return connection.execute(query).all()

    def _value(self, query: Select[Any]) -> Any:
        with self._transaction() as connection:
            return connection.execute(query).scalar()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with translated(self._path), self._connection.begin():
            yield self._connection


@contextmanager
def open_ledger(path: Path, scope: Scope) -> Iterator[Ledger]:
    """Open the ledger for writing, made and brought up to date if need be, and close it at the end.

    Raise ConfigurationError, LedgerError or TryAgainError, each with what to do.
    """
    make_file(path)
    with _connected(path, f"file:{_quoted(path)}?mode=rw") as connection:
        with translated(path), connection.begin():
            upgrade(connection)
        yield Ledger(connection, path, scope)


@contextmanager
def open_ledger_read_only(path: Path, scope: Scope) -> Iterator[Ledger]:
    """Open the ledger without any way to change it; a missing, empty or older one reads as empty.

    Raise ConfigurationError, LedgerError or TryAgainError, each with what to do.
    """
    if not _exists(path):
        with _empty(scope) as ledger:
            yield ledger
        return
    with _connected(path, f"file:{_quoted(path)}?mode=ro") as connection:
        with translated(path), connection.begin():
            is_current = revision(connection) == REVISIONS[-1]
        with _empty(scope) as empty:
            yield Ledger(connection, path, scope) if is_current else empty


@contextmanager
def _empty(scope: Scope) -> Iterator[Ledger]:
    """Open a ledger in memory, for a dry run before the first run: reads find nothing."""
    engine = sa.create_engine("sqlite://")
    try:
        with engine.connect() as connection:
            with connection.begin():
                metadata.create_all(connection)
            yield Ledger(connection, Path(":memory:"), scope)
    finally:
        engine.dispose()


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise unwritable(path, error.strerror or str(error)) from error


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


@contextmanager
def _connected(path: Path, uri: str) -> Iterator[Connection]:
    """Open one connection whose transactions are really SQLite's, with a journal that survives power loss.

    The rollback journal with synchronous=FULL rather than WAL: the SQLite of today's Debian has a WAL bug that can
    corrupt.
    """
    engine = sa.create_engine(f"sqlite:///{uri}&uri=true", connect_args={"timeout": _BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _settings(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if "mode=ro" in uri else "BEGIN IMMEDIATE")

    try:
        with translated(path):
            connection = engine.connect()
        with connection:
            yield connection
    finally:
        engine.dispose()


def _batches(ids: Sequence[str]) -> Iterator[list[str]]:
    remaining = iter(ids)
    return iter(lambda: list(islice(remaining, _ROWS_AT_ONCE)), [])


def _execute_many(connection: Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    if rows:
        connection.execute(statement, rows)


def _state(write: Set, run: RunRecord, at: datetime) -> dict[str, Any]:
    line = write.line
    item, method = line.item, write.method
    return {
        "item": item.id,
        "period_start": item.period.start,
        "period_end": item.period.end,
        "subscription": item.subscription.id,
        "customer": item.subscription.customer.id,
        "price": item.price.id,
        "target": method.target.value,
        "meter": method.meter,
        "filter": json.dumps(method.filter),
        "scale": method.scale,
        "rounding": method.rounding.value,
        "subjects": json.dumps(line.subjects),
        "shared": line.row.shared,
        "usage_start": line.span.start if line.span else item.period.start,
        "anchor": write.anchor,
        "quantity": write.quantity,
        "as_of": run.as_of,
        "acknowledged": None,
        "acknowledged_at": None,
        "foreign_quantity": write.foreign,
        "foreign_held": False,
        "total_before": write.total_before,
        "seen_at": at,
    }


def _history(write: Set, run: RunRecord, at: datetime, step: int) -> dict[str, Any]:
    return {
        "run": run.id,
        "item": write.line.item.id,
        "period_start": write.line.item.period.start,
        "step": step,
        "anchor": write.anchor,
        "usage": write.line.usage,
        "quantity": write.quantity,
        "at_anchor": write.at_anchor,
        "previous": write.line.previous,
        "intended_at": at,
    }


def _key(done: Acknowledgement) -> dict[str, Any]:
    item = done.written.line.item
    return {"of_item": item.id, "of_start": item.period.start}


def _acknowledged_state(done: Acknowledgement) -> dict[str, Any]:
    return {
        **_key(done),
        "acknowledged": done.written.quantity,
        "acknowledged_at": done.at,
        "foreign_held": done.foreign_held,
        "total_before": None,
    }


def _acknowledged_write(done: Acknowledgement) -> dict[str, Any]:
    return {
        **_key(done),
        "of_step": done.step,
        "acknowledged_at": done.at,
        "request_id": done.request_id,
    }


def _remembered(row: Row[Any]) -> Remembered:
    return Remembered(
        method=Method(
            target=Target(row.target),
            meter=row.meter,
            filter=_filter(row.filter),
            scale=row.scale,
            rounding=Rounding(row.rounding),
        ),
        price=row.price,
        subjects=tuple(json.loads(row.subjects)),
        anchor=row.anchor,
        quantity=row.quantity,
        as_of=row.as_of,
        acknowledged=row.acknowledged,
        acknowledged_at=row.acknowledged_at,
        foreign=row.foreign_quantity,
        foreign_held=row.foreign_held,
        total_before=row.total_before,
    )


def _claim(row: Row[Any]) -> Claim:
    return Claim(
        item=row.item,
        meter=row.meter,
        filter=_filter(row.filter),
        subjects=tuple(json.loads(row.subjects)),
        start=row.usage_start,
        end=row.period_end,
    )


def _filter(stored: str) -> Filter:
    return tuple((name, tuple(values)) for name, values in json.loads(stored))
