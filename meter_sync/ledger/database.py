"""Short transactions on the ledger's database, within the books of one account."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy import ColumnElement, Connection, FromClause, Row, Select, Table

from meter_sync.core.billing.item import PeriodKey, SubscriptionItem
from meter_sync.core.scope import Scope
from meter_sync.effects import effect
from meter_sync.ledger.column_types import DAMAGED, UtcSeconds, damage
from meter_sync.ledger.damage import sorted_out, unreadable
from meter_sync.ledger.moved import check_not_moved
from meter_sync.ledger.store import Marker, RowUnwritten, RunLock, Store

log = structlog.get_logger()

_IDS_AT_ONCE = 500
_ROWS_AT_ONCE = 1000
_COUNTED = {"preserve_rowcount": True}
_PARTS_KEPT = 256
"""So many parts of statements are put together once; of few items, that is most of what a run does."""

_SOME: sa.BindParameter[Any] = sa.bindparam("some", expanding=True)
"""Ids: named so, one query for any of them is put together once."""
_SINCE = sa.bindparam("since", type_=UtcSeconds)

Thing = TypeVar("Thing")
Written = TypeVar("Written")
Place = TypeVar("Place", bound=SubscriptionItem | PeriodKey)

Rows = Sequence[Mapping[str, Any]]
"""Values by the names of columns."""

PERIOD = ("item", "period_start")
"""The columns that say which item's period a row is about."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The ledger did not take a row about an item's period."""

    why: str
    item: SubscriptionItem | None
    """The item in its period, where whoever wrote the row had it."""


class Database:
    """The ledger's tables, as far as they are about one scope. Changes need a transaction around them."""

    def __init__(
        self, connection: Connection, store: Store, scope: Scope, lock: RunLock | None = None, *, marker: Marker
    ) -> None:
        """Begin with a connection to a store, for whoever holds a run lock, or for anybody."""
        self._connection = connection
        self.store = store
        self._scope = scope
        self._lock = lock
        self.marker = marker
        """What says which copy of the books this is."""
        self.ahead = store.ahead_of(connection)
        """How far the clock that all who share the books go by is ahead of this machine's."""
        self._is_changing = False
        self.refused: dict[PeriodKey, Refused] = {}
        """Of which items' periods a row was not taken since the ledger was opened: a run says so of each."""
        self.damaged: dict[str, str] = {}
        """Why what was found of items cannot be read: nothing is written for them."""
        self.scope = {"account": scope.account, "mode": scope.mode}

    def size_bytes(self) -> int:
        """Return how much room the ledger takes, whoever's books are in it."""
        with self.at_one_moment():
            return self.store.size_bytes(self._connection)

    def of(self, table: FromClause, *columns: Any) -> Select[Any]:
        """Return a query for columns of a table, each itself or its name; for all where none are given."""
        wanted = [table.c[one] if isinstance(one, str) else one for one in columns]
        return sa.select(*(wanted or table.c)).where(*self.in_scope(table))

    def in_scope(self, table: FromClause) -> tuple[ColumnElement[bool], ...]:
        """Return what a row of the table must fulfil."""
        return _in_scope(table, *self.scope.items())

    def rows(self, query: Select[Any], **parameters: Any) -> Sequence[Row[Any]]:
        """Return what a query finds."""
        before = damage.values
        with self.at_one_moment():
            found = self._connection.execute(query, parameters).all()
        return found if damage.values == before else [*sorted_out(query, found, str(self.store), self.damaged)]

    def each(self, query: Select[Any]) -> Iterator[Row[Any]]:
        """Yield what a query finds, without having all of it at once: nothing may be written before the last one."""
        with self.at_one_moment():
            found = self._connection.execute(query.execution_options(yield_per=_ROWS_AT_ONCE))
            for some in found.partitions():
                yield from sorted_out(query, some, str(self.store), self.damaged) if damage.values else some

    def rows_about(self, table: Table, item: str, period_start: datetime) -> Sequence[Row[Any]]:
        """Return a table's rows about an item's period."""
        return self.rows(self.of(table).where(table.c.item == item, table.c.period_start == period_start))

    def rows_of(self, query: Select[Any], column: ColumnElement[Any], ids: Iterable[str]) -> Iterator[Row[Any]]:
        """Return what a query finds where a column is one of these ids, however many they are."""
        of_these = query.where(column.in_(_SOME))
        for some in batches(ids):
            yield from self.rows(of_these, some=some)

    def rows_in(self, query: Select[Any], table: Table, periods: Mapping[str, datetime]) -> Iterator[Row[Any]]:
        """Given items with the start of their period, return what a query finds of a table's rows about these."""
        of_these = query.where(table.c.item.in_(_SOME), table.c.period_start >= _SINCE)
        for some in batches(periods):
            for row in self.rows(of_these, some=some, since=min(periods[item] for item in some)):
                if row.period_start == periods[row.item]:
                    yield row

    def rows_until(
        self, query: Select[Any], table: Table, periods: Mapping[str, datetime], past: timedelta = timedelta(0)
    ) -> Iterator[Row[Any]]:
        """Return what a query finds of these items' periods, and of those that ended up to `past` before one."""
        is_in_time = unindexed(table.c.period_end) >= sa.bindparam("ended", type_=sa.BigInteger)
        of_these = query.where(table.c.item.in_(_SOME), is_in_time)
        for some in batches(periods):
            since = min(periods[item] for item in some) - past
            yield from self.rows(of_these, some=some, ended=int(since.timestamp()))

    def rows_before(
        self, query: Select[Any], table: Table, periods: Mapping[str, datetime], past: timedelta = timedelta(0)
    ) -> Iterator[Row[Any]]:
        """Return what a query finds of these items' periods that ended by the start of one, or up to `past` before.

        Some of what it finds of an item may have ended later than that, as far as it was by the start of another's.
        """
        first, last = (sa.bindparam(name, type_=sa.BigInteger) for name in ("first", "last"))
        of_these = query.where(table.c.item.in_(_SOME), unindexed(table.c.period_end).between(first, last))
        for some in batches(periods):
            starts = [periods[item] for item in some]
            since = min(starts) - past
            yield from self.rows(of_these, some=some, first=int(since.timestamp()), last=int(max(starts).timestamp()))

    def is_newest(self, table: FromClause, order: str, *of: str) -> ColumnElement[bool]:
        """Return the condition that a row is the last one by a column of those that agree with it in others."""
        return _is_newest(table, order, of, *self.scope.items())

    def exists(self, table: FromClause, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
        """Return the condition that there is such a row."""
        return sa.select(sa.literal(1)).select_from(table).where(*self.in_scope(table), *conditions).exists()

    def value(self, query: Select[Any]) -> Any | None:
        """Return the first column of the first row, or None."""
        with self.at_one_moment():
            found = self._connection.execute(query).scalar()
        if found is DAMAGED:
            raise unreadable(str(self.store), "something else is stored in a column than its kind of value")
        return found

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Let all that is read inside be of the same moment: other runs write meanwhile."""
        if self._connection.in_transaction():
            yield
            return
        with self.store.translated(), self._connection.begin():
            self.store.begin_reading(self._connection)
            yield

    def check_not_moved(self) -> None:
        """Raise ConfigurationError where the books were moved to another ledger."""
        with self.at_one_moment():
            check_not_moved(self._connection, self.store)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Carry out the changes inside as one.

        Raise LedgerError, ConfigurationError or TryAgainError, each with what to do.
        """
        with effect("ledger"), self.store.translated(), self._connection.begin():
            self.store.begin_change(self._connection, self._scope)
            check_not_moved(self._connection, self.store)
            if self._lock:
                self._lock.check(self._connection)
            self._is_changing = True
            try:
                yield
            finally:
                self._is_changing = False

    @contextmanager
    def hardly_waiting(self) -> Iterator[None]:
        """Let what is inside fail where another program is writing, rather than wait until it has done so.

        For what can as well be done a moment later: whoever waits for the ledger does nothing else meanwhile.
        """
        with self.store.hardly_waiting(self._connection):
            yield

    @contextmanager
    def own_trouble_of(self, about: SubscriptionItem | PeriodKey) -> Iterator[None]:
        """Let what is written inside be about one item: where a row is not taken, that is kept in `refused`.

        Raise LedgerError, ConfigurationError or TryAgainError where nothing can be written, whatever it is about.
        """
        try:
            yield
        except RowUnwritten as error:
            item = about if isinstance(about, SubscriptionItem) else None
            key = about.key if isinstance(about, SubscriptionItem) else about
            self.refused[key] = Refused(error.message, item)
            log.warning("row_refused", item=key[0], message=error.message)

    def write_each(
        self,
        things: Sequence[Thing],
        about: Callable[[Thing], SubscriptionItem | PeriodKey],
        write: Callable[[Sequence[Thing]], Written],
    ) -> list[Written]:
        """Write rows about items, in one transaction where all are taken; return what each transaction has returned.

        `about` says which item a thing is about. What is refused of one is its own: the others are written, by halves,
        so that one among thousands costs few transactions. Raise as `own_trouble_of`.
        """
        if not things:
            return []
        if len(things) == 1:
            with self.own_trouble_of(about(things[0])), self.transaction():
                return [write(things)]
            return []
        try:
            with self.transaction():
                return [write(things)]
        except RowUnwritten:
            half = len(things) // 2
            return [*self.write_each(things[:half], about, write), *self.write_each(things[half:], about, write)]

    def insert(self, table: Table, rows: Rows) -> None:
        """Add rows."""
        self._change(sa.insert(table), self._scoped(table, rows))

    def insert_missing(self, table: Table, rows: Rows) -> int:
        """Add those of the rows whose key is not there yet, and return how many these were."""
        return self._change(self.store.insert(table).on_conflict_do_nothing(), self._scoped(table, rows))

    def put(self, table: Table, rows: Rows, replaced: Collection[str], completed: Collection[str] = ()) -> None:
        """Add rows. Where the key of one is there, replace some columns, and others where the new row has a value."""
        self._change(_put(self.store.insert, table, tuple(replaced), tuple(completed)), self._scoped(table, rows))

    def update(
        self, table: Table, rows: Rows, *conditions: ColumnElement[bool], by: Sequence[str] = PERIOD, **same: Any
    ) -> None:
        """Change a row of the table for each of these, which all name the same columns.

        Those named in `by` say which, the others what they become; `same` is what becomes of each.
        """
        if not rows:
            return
        changed: dict[str, Any] = {name: sa.bindparam(_parameter(name)) for name in rows[0] if name not in by}
        statement = sa.update(table).where(*self._is_named(table, by), *conditions).values(**changed, **same)
        self._change(statement, _parameters(rows))

    def delete(self, table: Table, keys: Rows, *conditions: ColumnElement[bool]) -> int:
        """Delete the rows of a table that have these values, by column, and return how many went."""
        if not keys:
            return 0
        by = tuple(keys[0])
        statement = sa.delete(table).where(*self._is_named(table, by), *conditions)
        return self._change(statement, _parameters(keys))

    def delete_where(self, table: Table, *conditions: ColumnElement[bool]) -> int:
        """Delete the rows of a table that fulfil conditions, and return how many went."""
        return self._change(sa.delete(table).where(*self.in_scope(table), *conditions), [{}])

    def _is_named(self, table: Table, by: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
        return (*self.in_scope(table), *(table.c[name] == sa.bindparam(_parameter(name)) for name in by))

    def _scoped(self, table: Table, rows: Rows) -> Rows:
        scope = {name: value for name, value in self.scope.items() if name in table.primary_key.columns}
        return [{**scope, **row} for row in rows]

    def _change(self, statement: Any, rows: Rows) -> int:
        if not self._is_changing:
            raise AssertionError("the ledger is changed within a transaction only")
        # Of what is added, PostgreSQL's driver says how many it were only as long as its cursor is open.
        return self._connection.execute(statement, rows, execution_options=_COUNTED).rowcount if rows else 0


class Book:
    """A part of the ledger, with what reads and writes it."""

    def __init__(self, database: Database) -> None:
        self.database = database


@lru_cache(_PARTS_KEPT)
def _in_scope(table: FromClause, *scope: tuple[str, str]) -> tuple[ColumnElement[bool], ...]:
    return tuple(table.c[name] == value for name, value in scope)


@lru_cache(_PARTS_KEPT)
def _is_newest(table: FromClause, order: str, of: tuple[str, ...], *scope: tuple[str, str]) -> ColumnElement[bool]:
    every = table.alias()
    same = (every.c[name] == table.c[name] for name in of)
    newest = sa.select(sa.func.max(every.c[order])).where(*_in_scope(every, *scope), *same)
    return table.c[order] == newest.correlate(table).scalar_subquery()


@lru_cache(_PARTS_KEPT)
def _put(insert: Callable[[Table], Any], table: Table, replaced: tuple[str, ...], completed: tuple[str, ...]) -> Any:
    new = insert(table)
    values: dict[str, Any] = {name: new.excluded[name] for name in replaced}
    values |= {name: sa.func.coalesce(new.excluded[name], table.c[name]) for name in completed}
    return new.on_conflict_do_update(index_elements=table.primary_key, set_=values)


def unindexed(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a column of whole numbers, or instants as Unix seconds, that no index is sought for.

    Where rows are asked for by hundreds of ids and this column, SQLite takes the index that has this column, and goes
    through the whole account for each batch of ids: it keeps no statistics that would tell it better.
    """
    return sa.type_coerce(column, sa.BigInteger) + 0


def itself(place: Place) -> Place:
    """Return which item's period a thing is about that says nothing else."""
    return place


def batches(ids: Iterable[str]) -> Iterator[list[str]]:
    """Return the ids in lists that fit into one query."""
    remaining = iter(ids)
    return iter(lambda: list(islice(remaining, _IDS_AT_ONCE)), [])


def of_same_period(one: FromClause, other: FromClause) -> ColumnElement[bool]:
    """Return the condition that the rows of two tables are about the same item's period."""
    return sa.and_(one.c.item == other.c.item, one.c.period_start == other.c.period_start)


def _parameter(column: str) -> str:
    return f"the_{column}"


def _parameters(rows: Rows) -> Rows:
    return [{_parameter(name): value for name, value in row.items()} for row in rows]
