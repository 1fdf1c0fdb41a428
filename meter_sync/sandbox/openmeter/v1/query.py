"""Queries in the first version: what is asked for, in a body or in an address, and how rows are shown."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import parse_qs

from meter_sync.sandbox.instants import from_unix
from meter_sync.sandbox.openmeter.customers import Customer
from meter_sync.sandbox.openmeter.problems import Problem
from meter_sync.sandbox.openmeter.query import MOST_VALUES, WINDOW_SIZES, Query, Row, WindowSize
from meter_sync.sandbox.openmeter.requests import instant_in, strings_in, zone_in
from meter_sync.sandbox.openmeter.times import show_time
from meter_sync.sandbox.openmeter.v1.customers import filtered

_QUERY_FIELDS = frozenset(
    {
        "advancedMeterGroupByFilters",
        "clientId",
        "filterCustomerId",
        "filterGroupBy",
        "from",
        "groupBy",
        "subject",
        "to",
        "windowSize",
        "windowTimeZone",
    }
)


def read_query(asked: Mapping[str, Any], customers: Mapping[str, Customer]) -> Query:
    """Read a query.

    Names that the server does not know are refused, which is stricter than the server: it would
    ignore a misspelt filter and answer too much.
    """
    for name in asked:
        if name not in _QUERY_FIELDS:
            raise Problem(400, f"property {name!r} is unsupported")
    if asked.get("advancedMeterGroupByFilters"):
        raise Problem(400, "advancedMeterGroupByFilters is not supported by this server")
    window_size = asked.get("windowSize")
    if window_size is not None and window_size not in WINDOW_SIZES:
        raise Problem(400, f"windowSize must be one of {', '.join(WINDOW_SIZES)}")
    filters = asked.get("filterGroupBy") or {}
    if not isinstance(filters, dict):
        raise Problem(400, "filterGroupBy must be an object")
    return Query(
        start=instant_in(asked, "from"),
        end=instant_in(asked, "to"),
        window_size=cast(WindowSize | None, window_size),
        zone=zone_in(asked, "windowTimeZone"),
        subjects=_few(asked, "subject"),
        filter_group_by={name: strings_in(filters, name) for name in filters},
        group_by=strings_in(asked, "groupBy"),
        customers={each: filtered(customers, each).counted for each in _few(asked, "filterCustomerId")},
    )


def check_minutes(query: Query) -> None:
    """Refuse instants that are not on a minute, as servers before March 2025 do."""
    for name, instant in (("from", query.start), ("to", query.end)):
        if instant is not None and instant % 60:
            raise Problem(400, f"{name} must be rounded to MINUTE like YYYY-MM-DDTHH:mm:00")


def from_url(query: str) -> dict[str, Any]:
    """Read the parameters of a GET; like the server, ignore those that are unknown."""
    asked: dict[str, Any] = {}
    filters: dict[str, list[str]] = {}
    for name, values in parse_qs(query, keep_blank_values=True).items():
        deep = re.fullmatch(r"filterGroupBy\[([^\[\]]+)\]", name)
        if deep is not None:
            filters[deep[1]] = values
        elif name in ("subject", "groupBy", "filterCustomerId"):
            asked[name] = values
        elif name in _QUERY_FIELDS and name != "filterGroupBy":
            asked[name] = values[-1]
    if filters:
        asked["filterGroupBy"] = filters
    return asked


def show_answer(asked: Query, rows: Sequence[Row], overrides: Mapping[str | None, str]) -> str:
    """Write the answer by hand, since the value of a subject may be overridden with any text."""
    head = {
        "from": None if asked.start is None else show_time(from_unix(asked.start)),
        "to": None if asked.end is None else show_time(from_unix(asked.end)),
        "windowSize": asked.window_size,
    }
    known = {name: value for name, value in head.items() if value is not None}
    shown = (_show_row(row, overrides.get(row.subject) or show_double(row.value)) for row in rows)
    data = f'"data": [{", ".join(shown)}]'
    return "{" + ", ".join([*(f'"{k}": {json.dumps(v)}' for k, v in known.items()), data]) + "}"


def show_double(value: float) -> str:
    """Write a double as the server does: whole numbers without a fraction, else all its digits."""
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return repr(value)


def _show_row(row: Row, value: str) -> str:
    rest = json.dumps(
        {
            "windowStart": show_time(from_unix(row.window_start)),
            "windowEnd": show_time(from_unix(row.window_end)),
            "subject": row.subject,
            "groupBy": row.group_by,
            **({"customerId": row.customer} if row.customer else {}),
        }
    )
    return f'{{"value": {value}, {rest[1:]}'


def _few(asked: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = strings_in(asked, name)
    if len(values) > MOST_VALUES:
        raise Problem(400, f"maximum number of items is {MOST_VALUES}: {name}")
    return values
