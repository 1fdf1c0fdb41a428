"""Passing on what is called the same on both sides, field by field."""

from dataclasses import fields
from typing import Any, TypeVar

T = TypeVar("T")


def filled(kind: type[T], source: object, **others: Any) -> T:
    """Return a dataclass whose fields are what the source has by their names, but for these others.

    Raise AttributeError where it has no such thing: a field that was renamed is never left at its default in silence.
    """
    names = (one.name for one in fields(kind) if one.name not in others)  # type: ignore[arg-type]
    return kind(**{name: getattr(source, name) for name in names}, **others)
