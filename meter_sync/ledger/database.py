"""Short transactions on the ledger's database, within the books of one account."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row, Select, Table

from meter_sync import effects
from meter_sync.ledger.files import translated

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose books these are: the Stripe account (empty for the key's own) and `live` or `sandbox`."""

    account: str
    mode: str


class Database:
    """The ledger's tables, as far as they are about one scope."""

    def __init__(self, connection: Connection, path: Path, scope: Scope) -> None:
        self._connection = connection
        self._path = path
        self.scope = {"account": scope.account, "mode": scope.mode}

    @property
    def connection(self) -> Connection:
        """What reads and writes within a transaction, or a moment, go through."""
        return self._connection

    def of(self, table: Table, *columns: Any) -> Select[Any]:
        """Return a query for columns of a table."""
        return sa.select(*columns).where(*self.in_scope(table))

    def in_scope(self, table: Table) -> tuple[Any, ...]:
        """Return what a row of the table must fulfil."""
        return tuple(table.c[name] == value for name, value in self.scope.items())

    def rows(self, query: Select[Any]) -> Sequence[Row[Any]]:
        """Return what a query finds."""
        with self.at_one_moment():
            return self._connection.execute(query).all()

    def value(self, query: Select[Any]) -> Any:
        """Return the first column of the first row, or None."""
        with self.at_one_moment():
            return self._connection.execute(query).scalar()

    @contextmanager
    def at_one_moment(self) -> Iterator[None]:
        """Let all that is read inside be of the same moment: other runs write meanwhile."""
        if self._connection.in_transaction():
            yield
            return
        with translated(self._path), self._connection.begin():
            yield

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Carry out the changes inside as one.

        Raise LedgerError, ConfigurationError or TryAgainError, each with what to do.
        """
        effects.comes("ledger")
        with translated(self._path), self._connection.begin():
            yield self._connection
        effects.is_done("ledger")


def batches(ids: Sequence[str]) -> Iterator[list[str]]:
    """Return the ids in lists that fit into one query."""
    remaining = iter(ids)
    return iter(lambda: list(islice(remaining, _ROWS_AT_ONCE)), [])


def execute_many(connection: Connection, statement: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Execute a statement for each row, if there are any."""
    if rows:
        connection.execute(statement, rows)
