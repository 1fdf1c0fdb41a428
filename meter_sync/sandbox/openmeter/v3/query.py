"""Queries in the third version: what is asked for in a body, and how rows are shown.

Sources: OpenMeter's OpenAPI document of v3 (MeterQueryRequest, MeterQueryFilters, QueryFilterStringMapItem,
MeterQueryResult), and its server: filtering by customer groups by it, as filtering by subject does in every version; a
deleted customer counts; and a dimension that an event does not have is left out of its row.
"""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from meter_sync.sandbox.instants import from_unix
from meter_sync.sandbox.openmeter.customers import Customer, named
from meter_sync.sandbox.openmeter.query import MOST_VALUES, Query, Row, WindowSize
from meter_sync.sandbox.openmeter.requests import instant_in, strings_in, zone_in
from meter_sync.sandbox.openmeter.times import show_time
from meter_sync.sandbox.openmeter.v3.bodies import at_most, check_fields, object_in
from meter_sync.sandbox.openmeter.v3.problems import invalid

_FIELDS = ("from", "to", "granularity", "time_zone", "group_by_dimensions", "filters")
_GRANULARITIES: Mapping[str, WindowSize] = {"PT1M": "MINUTE", "PT1H": "HOUR", "P1D": "DAY", "P1M": "MONTH"}
_MOST_GROUPS = 100
_MOST_FILTERS = 10
_DIMENSIONS = "filters.dimensions"
_NOT_MODELLED = ("exists", "neq", "nin", "contains", "ncontains", "and", "or")


def read_query(body: Mapping[str, Any], customers: Mapping[str, Customer]) -> Query:
    """Read a query; refuse what the document refuses, and customers that never were."""
    check_fields(body, _FIELDS)
    wanted = _filters(body)
    subjects, ids = wanted.pop("subject", ()), wanted.pop("customer_id", ())
    group_by = strings_in(body, "group_by_dimensions")
    at_most(len(group_by), _MOST_GROUPS, "group_by_dimensions")
    return Query(
        start=instant_in(body, "from"),
        end=instant_in(body, "to"),
        window_size=_window_size(body),
        zone=zone_in(body, "time_zone"),
        subjects=subjects,
        customers={each: named(customers, each).counted for each in ids},
        filter_group_by=wanted,
        group_by=(*group_by, *(("customer_id",) if ids else ())),
    )


def _window_size(body: Mapping[str, Any]) -> WindowSize | None:
    granularity = body.get("granularity")
    if granularity is None:
        return None
    if granularity not in _GRANULARITIES:
        choices = list(_GRANULARITIES)
        raise invalid("granularity", f"must be one of {', '.join(choices)}", "enum", choices=choices)
    return _GRANULARITIES[granularity]


def _filters(body: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the values that are asked for of each dimension."""
    filters = object_in(body, "filters")
    check_fields(filters, ("dimensions",), "filters.")
    dimensions = object_in(filters, "dimensions", "filters.")
    if len(dimensions) > _MOST_FILTERS:
        raise invalid(_DIMENSIONS, f"must not have more than {_MOST_FILTERS} properties", "max", maximum=_MOST_FILTERS)
    return {name: _values(dimensions, name) for name in dimensions}


def _values(dimensions: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Return the values of one filter.

    One without an operator is refused, which is stricter than the server: it would count everything.
    """
    place = f"{_DIMENSIONS}.{name}"
    item = object_in(dimensions, name, f"{_DIMENSIONS}.")
    check_fields(item, ("eq", "in", *_NOT_MODELLED), f"{place}.")
    if len(item) != 1:
        raise invalid(place, "exactly one operator is allowed")
    ((operator, value),) = item.items()
    if operator in _NOT_MODELLED:
        raise invalid(f"{place}.{operator}", "only eq and in filter operators are supported by this server")
    if operator == "eq":
        value = [value]
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise invalid(f"{place}.{operator}", "value must be a string, or in a list of at least one", "is_string")
    at_most(len(value), MOST_VALUES, f"{place}.{operator}")
    return tuple(value)


def show_answer(asked: Query, rows: Sequence[Row], overrides: Mapping[str | None, str]) -> str:
    """Write the answer by hand, since the value of a subject may be overridden with any text."""
    known = {
        name: show_time(from_unix(instant))
        for name, instant in (("from", asked.start), ("to", asked.end))
        if instant is not None
    }
    head = [f'"{name}": {json.dumps(value)}' for name, value in known.items()]
    return "{" + ", ".join([*head, f'"data": [{", ".join(_show_row(row, overrides) for row in rows)}]']) + "}"


def _show_row(row: Row, overrides: Mapping[str | None, str]) -> str:
    raw = overrides.get(row.subject)
    value = json.dumps(show_value(row.value)) if raw is None else _quoted(raw)
    identities = {"subject": row.subject, "customer_id": row.customer}
    rest = json.dumps(
        {
            "from": show_time(from_unix(row.window_start)),
            "to": show_time(from_unix(row.window_end)),
            "dimensions": {name: each for name, each in {**row.group_by, **identities}.items() if each is not None},
        }
    )
    return f'{{"value": {value}, {rest[1:]}'


def show_value(value: float) -> str:
    """Write a double in decimal digits: as many as tell it from any other, without an exponent."""
    return format(Decimal(repr(value)).normalize(), "f")


def _quoted(raw: str) -> str:
    """Put a bare number in quotes, as this version shows every number; leave any other JSON as it is."""
    return raw if raw[:1] in ('"', "{", "[", "n", "t", "f") else f'"{raw}"'
