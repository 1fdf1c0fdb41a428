"""Lists in the third version: filtered, sorted and in pages that are numbered from 1.

Names, operators and defaults are those of OpenMeter's OpenAPI document of v3 (PagePaginationQuery, SortQuery,
StringFieldFilter). A parameter that is not known is refused, which is stricter than the server: it would ignore a
misspelt filter and list too much.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

from meter_sync.sandbox.openmeter.v3.problems import invalid_parameter

_USUAL_SIZE = 20
_LARGEST_SIZE = 100
_FILTER = re.compile(r"filter\[([^\[\]]+)\](?:\[([^\[\]]+)\])?")

_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda value, asked: value == asked,
    "neq": lambda value, asked: value != asked,
    "contains": lambda value, asked: asked.lower() in value.lower(),
    "oeq": lambda value, asked: value in _phrases(asked),
    "ocontains": lambda value, asked: any(phrase.lower() in value.lower() for phrase in _phrases(asked)),
}

Row = TypeVar("Row")


@dataclass(frozen=True)
class Listing(Generic[Row]):
    """What a list can be filtered and sorted by, and how a row of it is shown."""

    fields: Mapping[str, Callable[[Row], str]]
    orders: Mapping[str, Callable[[Row], Any]]
    order: str
    """The order if none is asked for."""
    show: Callable[[Row], dict[str, Any]]

    def page(self, rows: Iterable[Row], query: str) -> dict[str, Any]:
        """Return the page that the parameters in an address ask for."""
        asked = _read(query)
        for name, operator, value in asked.filters:
            of = self.fields.get(name)
            if of is None:
                raise invalid_parameter(f"filter[{name}]", f"unknown filter field: {name}")
            matches = _OPERATORS[operator]
            rows = [row for row in rows if matches(of(row), value)]
        name, is_descending = asked.order or (self.order, False)
        if name not in self.orders:
            raise invalid_parameter("sort", f"unknown sort attribute: {name}")
        ordered = sorted(rows, key=self.orders[name], reverse=is_descending)
        first = (asked.number - 1) * asked.size
        return {
            "data": [self.show(row) for row in ordered[first : first + asked.size]],
            "meta": {"page": {"number": asked.number, "size": asked.size, "total": len(ordered)}},
        }


@dataclass
class _Asked:
    number: int = 1
    size: int = _USUAL_SIZE
    order: tuple[str, bool] | None = None
    """The attribute to sort by, and whether in descending order."""
    filters: list[tuple[str, str, str]] = field(default_factory=list)
    """Field, operator and value."""


def _read(query: str) -> _Asked:
    asked = _Asked()
    given = parse_qsl(query, keep_blank_values=True)
    if len({name for name, _ in given}) < len(given):
        raise invalid_parameter("query", "a parameter is repeated")
    for name, value in given:
        if name == "page[number]":
            asked.number = _whole(name, value)
        elif name == "page[size]":
            asked.size = _whole(name, value)
        elif name == "sort":
            asked.order = _order(value)
        elif match := _FILTER.fullmatch(name):
            asked.filters.append((match[1], _operator(name, match[2] or "eq"), value))
        else:
            raise invalid_parameter(name, f"parameter {name!r} is unsupported", "unknown_property")
    if asked.size > _LARGEST_SIZE:
        reason = f"must not be more than {_LARGEST_SIZE}"
        raise invalid_parameter("page[size]", reason, "max", maximum=_LARGEST_SIZE)
    return asked


def _whole(name: str, value: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", value, re.ASCII):
        raise invalid_parameter(name, "must be a whole number of at least 1", "is_integer")
    return int(value)


def _order(value: str) -> tuple[str, bool]:
    match = re.fullmatch(r"(\w+)(?: (asc|desc))?", value)
    if match is None:
        raise invalid_parameter("sort", f"not an order: {value}")
    return match[1], match[2] == "desc"


def _operator(name: str, operator: str) -> str:
    if operator not in _OPERATORS:
        raise invalid_parameter(name, f"unsupported operator: {operator}")
    return operator


def _phrases(value: str) -> list[str]:
    return [phrase.strip() for phrase in value.split(",") if phrase.strip()]
