"""Reading what a request to the embedded OpenMeter has, as far as that is the same in each version of its API."""

import json
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

from meter_sync.sandbox.http.traffic import Incoming
from meter_sync.sandbox.openmeter.problems import Problem
from meter_sync.sandbox.openmeter.times import parse_time


def require_method(request: Incoming, *methods: str) -> None:
    """Refuse a request with any other method."""
    if request.method not in methods:
        raise Problem(405, f"method not allowed: {request.method}")


def json_object(request: Incoming) -> dict[str, Any]:
    """Return the body; refuse one that is no JSON object, or does not say that it is JSON."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Problem(400, "header Content-Type has unexpected value", "content-type")
    try:
        body = json.loads(request.body)
    except ValueError as error:
        raise Problem(400, "the request body is not JSON") from error
    if not isinstance(body, dict):
        raise Problem(400, "the request body must be a JSON object")
    return body


def instant_in(asked: Mapping[str, Any], name: str) -> int | None:
    """Read an instant as Unix seconds, floored to the whole second in which the server compares; None if not given."""
    value = asked.get(name)
    if value is None:
        return None
    try:
        return int(parse_time(value).timestamp() // 1)
    except ValueError as error:
        raise Problem(400, f"{name} must be a date-time in RFC 3339 format", name) from error


def zone_in(asked: Mapping[str, Any], name: str) -> ZoneInfo:
    """Read the name of a time zone; UTC if not given."""
    value = asked.get(name)
    try:
        return ZoneInfo("UTC" if value is None else str(value))
    except (KeyError, ValueError) as error:
        raise Problem(400, f"unknown time zone: {value}", name) from error


def strings_in(asked: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Read a list of strings; an empty one if not given."""
    values = asked.get(name)
    if values is None:
        return ()
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise Problem(400, f"{name} must be an array of strings", name)
    return tuple(values)
