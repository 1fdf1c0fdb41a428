"""Instants, amounts and names in text, as every part of the program writes them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import overload


def utc(instant: datetime) -> str:
    """Return an instant as programs read it, in UTC."""
    return f"{instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def date_and_time(instant: datetime) -> str:
    """Return an instant in UTC as a person reads it, where a heading says that it is."""
    return f"{instant:%Y-%m-%d %H:%M:%S}"


@overload
def digits(number: None) -> None: ...
@overload
def digits(number: Decimal | int) -> str: ...
def digits(number: Decimal | int | None) -> str | None:
    """Return an amount as a decimal string, so that no reader rounds it; None where there is none."""
    return None if number is None else _written(number, "f")


def thousands(number: Decimal | int | str | None) -> str:
    """Return an amount, also one that is text already, as a person reads it, `-` where there is none."""
    return "-" if number is None else _written(number, ",f")


def _written(number: Decimal | int | str, notation: str) -> str:
    number = Decimal(number)
    if not number.is_finite():
        return str(number)
    written = format(number, notation)
    return written.rstrip("0").rstrip(".") if "." in written else written


def did_you_mean(word: str, known: Iterable[str], *, but_for: str = "") -> str:
    """Return a question that names the nearest of the known words, or nothing where none is near.

    `but_for` is what all of them begin with, which makes none of them nearer.
    """
    rest = {one.removeprefix(but_for): one for one in known}
    nearest = get_close_matches(word.removeprefix(but_for), rest, n=1)
    return f"; did you mean {rest[nearest[0]]}?" if nearest else ""
