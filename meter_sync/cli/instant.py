"""Instants and lengths of time on the command line."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click


class Instant(click.ParamType[datetime]):
    """An instant in ISO 8601 with its offset from UTC."""

    name = "ISO8601"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Parse the instant, or say how it should look."""
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(str(value))
            return instant.astimezone(UTC) if instant.tzinfo else self._unclear(value, param, ctx)
        except (ValueError, OverflowError):
            return self._unclear(value, param, ctx)

    def _unclear(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        self.fail(f"{value!r} is not an instant with its offset, such as 2026-11-01T00:00:00Z.", param, ctx)


class Duration(click.ParamType[timedelta]):
    """A length of time with its unit, such as 90s, 3m or 1h."""

    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse the length, or say how it should look."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,4})([smh])", str(value))
        if not found:
            self.fail(f"{value!r} is not a length of time with its unit, such as 90s, 3m or 1h.", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


class Days(click.ParamType[timedelta]):
    """A number of days, such as 400d."""

    name = "DAYS"

    def __init__(self, at_least: int) -> None:
        self._at_least = at_least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Parse the number, or say how it should look."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,4})d", str(value))
        if not found or int(found[1]) < self._at_least:
            self.fail(f"{value!r} is not a number of days of at least {self._at_least}, such as 400d.", param, ctx)
        return timedelta(days=int(found[1]))


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}
