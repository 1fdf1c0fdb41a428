"""How the ledger's columns store what Python has: instants, exact decimals, stretches of time."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import BigInteger, Integer, String, Text, TypeDecorator

from meter_sync.core.billing.item import Period

UNREADABLE = object()
"""Stands in a row for what cannot be read: it is the matter of that row, and not of all that a query finds."""
DAMAGED = object()
"""Stands in a row for what no version of this program stores in its column, such as a text where an instant is."""
_NOT_READ = (ValueError, TypeError, ArithmeticError, OSError)


class _Damage:
    """How many values were read that are damaged: who reads rows looks for them only if it has grown."""

    def __init__(self) -> None:
        self.values = 0

    def found(self) -> Any:  # it stands for a value of any type
        """Count one, and return what stands for it."""
        self.values += 1
        return DAMAGED


damage = _Damage()


@lru_cache(4096)
def _instant(seconds: int) -> datetime:
    """Return an instant: equal ones mostly as one, since of many items the same run has written."""
    if seconds < 0:
        raise ValueError(f"{seconds} is before all that this program is about")
    return datetime.fromtimestamp(seconds, UTC)


number = lru_cache(4096)(Decimal)
"""Makes a number of its digits: equal ones mostly as one, too."""


class UtcSeconds(TypeDecorator[datetime]):
    """An instant in UTC and whole seconds, stored as Unix seconds so that no database's time zone matters."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        """Store."""
        return None if value is None else int(value.timestamp())

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        """Load."""
        try:
            return None if value is None else _instant(value)
        except _NOT_READ:
            return damage.found()  # type: ignore[no-any-return]


class Whole(TypeDecorator[int]):
    """A whole number. SQLite keeps whatever it is given in a column of numbers; PostgreSQL's sums are decimals."""

    impl = BigInteger
    cache_ok = True

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> int | None:
        """Load."""
        if value is None or type(value) is int:
            return value
        found: int = int(value) if isinstance(value, Decimal) else damage.found()
        return found


class Small(TypeDecorator[int]):
    """A whole number that is small."""

    impl = Integer
    cache_ok = True
    process_result_value = Whole.process_result_value


class Said(TypeDecorator[str]):
    """A text."""

    impl = Text
    cache_ok = True

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Load."""
        return value if value is None or type(value) is str else damage.found()


class Name(TypeDecorator[str]):
    """A text of so many characters at most."""

    impl = String
    cache_ok = True
    process_result_value = Said.process_result_value


class DecimalText(TypeDecorator[Decimal]):
    """An exact decimal, stored as its digits."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Decimal | None, dialect: sa.Dialect) -> str | None:
        """Store."""
        return None if value is None else format(value, "f")

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> Decimal | None:
        """Load."""
        try:
            return None if value is None else number(value)
        except _NOT_READ:
            return UNREADABLE  # type: ignore[return-value]


class Stretches(TypeDecorator[tuple[Period, ...]]):
    """Stretches of time in UTC and whole seconds, stored as pairs of Unix seconds in JSON."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[Period, ...] | None, dialect: sa.Dialect) -> str | None:
        """Store."""
        if value is None:
            return None
        return json.dumps([[int(one.start.timestamp()), int(one.end.timestamp())] for one in value])

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> tuple[Period, ...] | None:
        """Load."""
        if value is None:
            return None
        try:
            pairs = json.loads(value)
            return tuple(Period(*map(_instant, pair)) for pair in pairs)
        except _NOT_READ:
            return UNREADABLE  # type: ignore[return-value]
