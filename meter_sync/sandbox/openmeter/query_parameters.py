"""Parameters of a query to the embedded OpenMeter: what is asked for, in a body or in an address."""

import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from meter_sync.sandbox.openmeter.customers import Customer, subjects_of
from meter_sync.sandbox.openmeter.problems import Problem
from meter_sync.sandbox.openmeter.query import WINDOW_SIZES, Query, WindowSize
from meter_sync.sandbox.openmeter.times import parse_time

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
        start=_instant(asked, "from"),
        end=_instant(asked, "to"),
        window_size=cast(WindowSize | None, window_size),
        zone=_zone(asked.get("windowTimeZone")),
        subjects=_strings(asked, "subject"),
        filter_group_by={name: _strings(filters, name) for name in filters},
        group_by=_strings(asked, "groupBy"),
        customers=subjects_of(customers, _strings(asked, "filterCustomerId")),
    )


def _zone(name: object) -> ZoneInfo:
    try:
        return ZoneInfo("UTC" if name is None else str(name))
    except (KeyError, ValueError) as error:
        raise Problem(400, f"unknown time zone: {name}") from error


def _instant(asked: Mapping[str, Any], name: str) -> int | None:
    """Read an instant, floored to the whole second in which the server compares."""
    value = asked.get(name)
    if value is None:
        return None
    try:
        return int(parse_time(value).timestamp() // 1)
    except ValueError as error:
        raise Problem(400, f"{name} must be a date-time in RFC 3339 format") from error


def _strings(asked: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = asked.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise Problem(400, f"{name} must be an array of strings")
    return tuple(values)


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
