"""What a column of the ledger takes. SQLite takes anything, whatever the column is declared as; PostgreSQL does not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Boolean, Column, Integer, LargeBinary, MetaData, String, Table, Text, TypeDecorator
from sqlalchemy.types import TypeEngine

from meter_sync.ledger.schema import metadata

_SCOPE = ("account", "mode")
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row that has something else than its table takes."""

    table: str
    key: Mapping[str, Any]
    """The values of its primary key, as they are stored: instants are Unix seconds."""
    why: tuple[str, ...]
    """What is wrong with it, a column each."""

    def __str__(self) -> str:
        key = " ".join(_shown(value) for name, value in self.key.items() if name not in _SCOPE)
        return f"{self.table} {key}: {'; '.join(self.why)}"


@cache
def stored_tables() -> Mapping[str, Table]:
    """Return the tables by their names, with their columns as they are stored, whatever they stand for."""
    stored = MetaData()
    return {
        table.name: Table(
            table.name,
            stored,
            *(
                Column(one.name, _stored_type(one), primary_key=one.primary_key, nullable=one.nullable)
                for one in table.columns
            ),
        )
        for table in metadata.sorted_tables
    }


def as_stored(table: Table) -> sa.Select[Any]:
    """Return the query for the rows of a table, as the database has them, of whatever kind each value is."""
    plain = sa.table(table.name, *(sa.column(one.name) for one in table.columns))
    return sa.select(*plain.columns)


def _stored_type(column: Column[Any]) -> TypeEngine[Any]:
    kind = column.type
    return kind.impl_instance if isinstance(kind, TypeDecorator) else kind


def examined(table: Table, row: sa.Row[Any]) -> dict[str, Any] | Damaged:
    """Return the values of a row as its table takes them, or what is wrong with it."""
    values = {one.name: _value(one, value) for one, value in zip(table.columns, row, strict=True)}
    why = tuple(f"{one.name} {wrong}" for one in table.columns if (wrong := _wrong(one, values[one.name])) is not None)
    if why:
        return Damaged(table.name, {one.name: values[one.name] for one in table.primary_key}, why)
    return values


def all_wrong(table: Table, rows: Iterator[sa.Row[Any]]) -> Iterator[Damaged]:
    """Return those of a table's rows that have something else than it takes."""
    return (one for one in (examined(table, row) for row in rows) if isinstance(one, Damaged))


def _value(column: Column[Any], value: Any) -> Any:
    """Return a value as Python has it: SQLite knows no truth, only 0 and 1."""
    if isinstance(column.type, Boolean) and value in (0, 1):
        return bool(value)
    return bytes(value) if isinstance(value, memoryview) else value


def _wrong(column: Column[Any], value: Any) -> str | None:
    """Return what is wrong with a value, or None."""
    kind = column.type
    if value is None:
        return None if column.nullable and not column.primary_key else "is missing"
    if isinstance(kind, Boolean):
        return None if isinstance(value, bool) else "is neither yes nor no"
    if isinstance(kind, Integer):
        return _wrong_number(value, 64 if isinstance(kind, BigInteger) else 32)
    if isinstance(kind, LargeBinary):
        return None if isinstance(value, bytes) else "is not binary"
    return _wrong_text(value, kind.length if isinstance(kind, String | Text) else None)


def _wrong_number(value: Any, bits: int) -> str | None:
    if not isinstance(value, int):
        return "is no whole number"
    return None if -(2 ** (bits - 1)) <= value < 2 ** (bits - 1) else f"has more than {bits} bits"


def _wrong_text(value: Any, longest: int | None) -> str | None:
    if isinstance(value, bytes):
        return "is no text"
    if not isinstance(value, str):
        return "is a number in the place of a text"
    if "\0" in value:
        return "has a NUL in it"
    return f"is longer than {longest} characters" if longest is not None and len(value) > longest else None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"
