"""How the ledger's columns store what Python has: instants, exact decimals, stretches of time."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

import sqlalchemy as sa
from sqlalchemy import BigInteger, Text, TypeDecorator

from meter_sync.core.billing.item import Period

UNREADABLE = object()
"""Stands in a row for what cannot be read: it is the matter of that row, and not of all that a query finds."""
_NOT_READ = (ValueError, TypeError, ArithmeticError, OSError)


@lru_cache(4096)
def _instant(seconds: int) -> datetime:
    """Return an instant: equal ones mostly as one, since of many items the same run has written."""
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
        return None if value is None else _instant(value)


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
