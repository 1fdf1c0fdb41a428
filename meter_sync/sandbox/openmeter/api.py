"""The embedded OpenMeter's API: from a request to an answer. Errors are RFC 7807 problems."""

import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qs, unquote
from zoneinfo import ZoneInfo

from meter_sync.sandbox.http.traffic import Answer, Incoming
from meter_sync.sandbox.openmeter import customers as openmeter_customers
from meter_sync.sandbox.openmeter import query as openmeter_query
from meter_sync.sandbox.openmeter.customers import InvalidPage
from meter_sync.sandbox.openmeter.ingest import BadEvent, ingest
from meter_sync.sandbox.openmeter.query import WINDOW_SIZES, InvalidQuery, Query, Row, WindowSize
from meter_sync.sandbox.openmeter.series import AGGREGATIONS, Aggregation
from meter_sync.sandbox.openmeter.times import parse_time, show_time
from meter_sync.sandbox.openmeter.world import Meter, OpenMeterWorld, utc

_METER = re.compile(r"/api/v1/meters/([^/]+)(/query)?")
_SLUG = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
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
_INSTANCES = itertools.count(1)


@dataclass
class Problem(Exception):
    """An error that is answered with this status and detail."""

    status: int
    detail: str


def problem(status: int, detail: str | None = None) -> Answer:
    """Return an error as OpenMeter shows it: a 5xx has no detail."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "instance": f"urn:request:sandbox/{next(_INSTANCES):06d}",
    }
    if status < 500:
        content["detail"] = detail or HTTPStatus(status).description or content["title"]
    return Answer(status=status, body=json.dumps(content), content_type="application/problem+json")


class OpenMeterApi:
    """Answers requests to the embedded OpenMeter."""

    def __init__(self, world: OpenMeterWorld) -> None:
        self._world = world

    def __call__(self, request: Incoming) -> Answer:
        """Answer one request."""
        try:
            with self._world.lock:
                self._authenticate(request)
                return self._answer(request)
        except Problem as error:
            return problem(error.status, error.detail)
        except (InvalidQuery, InvalidPage, BadEvent) as error:
            return problem(400, str(error))

    def _authenticate(self, request: Incoming) -> None:
        token = self._world.token
        if token is not None and request.headers.get("authorization") != f"Bearer {token}":
            raise Problem(401, "missing or invalid bearer token")

    def _answer(self, request: Incoming) -> Answer:
        if request.path == "/api/v1/events" and request.method == "POST":
            ingest(self._world, request)
            return Answer(status=204)
        if request.path == "/api/v1/meters":
            return self._meters(request)
        if request.path.startswith(openmeter_customers.LIST):
            return self._customers(request)
        match = _METER.fullmatch(request.path)
        if match is None:
            raise Problem(404, f"no matching operation was found: {request.path}")
        meter = self._world.meter(unquote(match[1]))
        if meter is None:
            raise Problem(404, f"meter not found: {unquote(match[1])}")
        if match[2] is None:
            _require_method(request, "GET")
            return Answer(status=200, body=json.dumps(_show_meter(meter)))
        return self._query(request, meter)

    def _meters(self, request: Incoming) -> Answer:
        """List meters, all at once whatever paging is asked for, or create one."""
        _require_method(request, "GET", "POST")
        if request.method == "GET":
            shown = [_show_meter(meter) for meter in self._world.meters.values()]
            return Answer(status=200, body=json.dumps(shown))
        identifier = _create_meter(self._world, _json_object(request))
        created = cast(Meter, self._world.meter(identifier))
        return Answer(status=201, body=json.dumps(_show_meter(created)))

    def _customers(self, request: Incoming) -> Answer:
        """List customers, or show the app data of one."""
        _require_method(request, "GET")
        if request.path == openmeter_customers.LIST:
            return Answer(status=200, body=json.dumps(openmeter_customers.page(self._world.customers, request.query)))
        match = openmeter_customers.APPS.fullmatch(request.path)
        customer = openmeter_customers.found(self._world.customers, unquote(match[1])) if match else None
        if customer is None:
            raise Problem(404, f"customer not found: {request.path}")
        return Answer(status=200, body=json.dumps(openmeter_customers.app_data(customer)))

    def _query(self, request: Incoming, meter: Meter) -> Answer:
        _require_method(request, "GET", "POST")
        asked = _json_object(request) if request.method == "POST" else _from_url(request.query)
        query = replace(_read_query(asked), customers=_counted(self._world, _strings(asked, "filterCustomerId")))
        requires_minutes = self._world.requires_minutes
        openmeter_query.check(query, meter, requires_minutes=requires_minutes)
        rows = openmeter_query.run(self._world, meter, query)
        return Answer(status=200, body=self._show_answer(query, meter, rows))

    def _show_answer(self, query: Query, meter: Meter, rows: list[Row]) -> str:
        """Write the answer by hand, since a value may be overridden with any text."""
        head = {
            "from": None if query.start is None else show_time(utc(query.start)),
            "to": None if query.end is None else show_time(utc(query.end)),
            "windowSize": query.window_size,
        }
        known = {name: value for name, value in head.items() if value is not None}
        overrides = self._world.value_overrides
        shown = (_show_row(row, overrides.get((meter.slug, row.subject)) or show_double(row.value)) for row in rows)
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
            "windowStart": show_time(utc(row.window_start)),
            "windowEnd": show_time(utc(row.window_end)),
            "subject": row.subject,
            "groupBy": row.group_by,
            **({"customerId": row.customer} if row.customer else {}),
        }
    )
    return f'{{"value": {value}, {rest[1:]}'


def _show_meter(meter: Meter) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": meter.id,
        "slug": meter.slug,
        "name": meter.name or meter.slug,
        "aggregation": meter.aggregation,
        "eventType": meter.event_type,
        "groupBy": dict(meter.group_by),
        "createdAt": show_time(meter.created),
        "updatedAt": show_time(meter.created),
    }
    optional = {
        "description": meter.description,
        "eventFrom": None if meter.event_from is None else show_time(meter.event_from),
        "metadata": meter.metadata,
        "valueProperty": meter.value_property,
    }
    return {**shown, **{name: value for name, value in optional.items() if value is not None}}


def _create_meter(world: OpenMeterWorld, body: Mapping[str, Any]) -> str:
    """Create a meter from its JSON (OpenAPI document, MeterCreate)."""
    slug, aggregation, event_type = (body.get(n) for n in ("slug", "aggregation", "eventType"))
    if not isinstance(slug, str) or not _SLUG.fullmatch(slug) or len(slug) > 64:
        raise Problem(400, "slug must consist of alphanumeric and underscore characters only")
    if aggregation not in AGGREGATIONS:
        raise Problem(400, f"aggregation must be one of {', '.join(AGGREGATIONS)}")
    if not isinstance(event_type, str) or not event_type:
        raise Problem(400, "eventType is required")
    value_property = body.get("valueProperty")
    if aggregation != "COUNT" and not isinstance(value_property, str):
        raise Problem(400, f"valueProperty is required for the aggregation {aggregation}")
    try:
        return world.add_meter(
            slug,
            cast(Aggregation, aggregation),
            event_type,
            value_property,
            body.get("groupBy"),
            name=body.get("name"),
            description=body.get("description"),
            event_from=parse_time(body["eventFrom"]) if body.get("eventFrom") else None,
            metadata=body.get("metadata"),
        )
    except ValueError as error:
        raise Problem(400, str(error)) from error


def _read_query(asked: Mapping[str, Any]) -> Query:
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
    )


def _counted(world: OpenMeterWorld, ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the subjects of each customer; one that is unknown or deleted refuses the whole query."""
    found = {}
    for identifier in ids:
        customer = world.customers.get(identifier)
        if customer is None or customer.is_gone:
            raise Problem(404, f"customer not found: {identifier}")
        found[identifier] = customer.counted
    return found


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


def _from_url(query: str) -> dict[str, Any]:
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


def _json_object(request: Incoming) -> dict[str, Any]:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Problem(400, "header Content-Type has unexpected value")
    try:
        body = json.loads(request.body)
    except ValueError as error:
        raise Problem(400, "the request body is not JSON") from error
    if not isinstance(body, dict):
        raise Problem(400, "the request body must be a JSON object")
    return body


def _require_method(request: Incoming, *methods: str) -> None:
    if request.method not in methods:
        raise Problem(405, f"method not allowed: {request.method}")
