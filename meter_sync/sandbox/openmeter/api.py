"""The embedded OpenMeter's API: from a request to an answer."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import unquote

from meter_sync.sandbox.http.traffic import Answer, Incoming
from meter_sync.sandbox.instants import from_unix
from meter_sync.sandbox.openmeter import customers, query
from meter_sync.sandbox.openmeter.ingest import ingest
from meter_sync.sandbox.openmeter.meters import Meter, show_meter
from meter_sync.sandbox.openmeter.problems import Problem, problem
from meter_sync.sandbox.openmeter.query import Query, Row
from meter_sync.sandbox.openmeter.query_parameters import from_url, read_query
from meter_sync.sandbox.openmeter.series import AGGREGATIONS, Aggregation
from meter_sync.sandbox.openmeter.times import parse_time, show_time
from meter_sync.sandbox.openmeter.world import OpenMeterWorld

_METER = re.compile(r"/api/v1/meters/([^/]+)(/query)?")
_SLUG = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")


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
        if request.path.startswith(customers.LIST):
            return self._customers(request)
        match = _METER.fullmatch(request.path)
        if match is None:
            raise Problem(404, f"no matching operation was found: {request.path}")
        meter = self._world.meter(unquote(match[1]))
        if meter is None:
            raise Problem(404, f"meter not found: {unquote(match[1])}")
        if match[2] is None:
            _require_method(request, "GET")
            return Answer(status=200, body=json.dumps(show_meter(meter)))
        return self._query(request, meter)

    def _meters(self, request: Incoming) -> Answer:
        """List meters, all at once whatever paging is asked for, or create one."""
        _require_method(request, "GET", "POST")
        if request.method == "GET":
            shown = [show_meter(meter) for meter in self._world.meters.values()]
            return Answer(status=200, body=json.dumps(shown))
        identifier = _create_meter(self._world, _json_object(request))
        created = cast(Meter, self._world.meter(identifier))
        return Answer(status=201, body=json.dumps(show_meter(created)))

    def _customers(self, request: Incoming) -> Answer:
        """List customers, or show the app data of one."""
        _require_method(request, "GET")
        if request.path == customers.LIST:
            return Answer(status=200, body=json.dumps(customers.page(self._world.customers, request.query)))
        match = customers.APPS.fullmatch(request.path)
        customer = customers.found(self._world.customers, unquote(match[1])) if match else None
        if customer is None:
            raise Problem(404, f"customer not found: {request.path}")
        return Answer(status=200, body=json.dumps(customers.app_data(customer)))

    def _query(self, request: Incoming, meter: Meter) -> Answer:
        _require_method(request, "GET", "POST")
        asked = _json_object(request) if request.method == "POST" else from_url(request.query)
        wanted = read_query(asked, self._world.customers)
        query.check(wanted, meter, requires_minutes=self._world.requires_minutes)
        return Answer(status=200, body=self._show_answer(wanted, meter, query.run(self._world, meter, wanted)))

    def _show_answer(self, asked: Query, meter: Meter, rows: list[Row]) -> str:
        """Write the answer by hand, since a value may be overridden with any text."""
        head = {
            "from": None if asked.start is None else show_time(from_unix(asked.start)),
            "to": None if asked.end is None else show_time(from_unix(asked.end)),
            "windowSize": asked.window_size,
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
            "windowStart": show_time(from_unix(row.window_start)),
            "windowEnd": show_time(from_unix(row.window_end)),
            "subject": row.subject,
            "groupBy": row.group_by,
            **({"customerId": row.customer} if row.customer else {}),
        }
    )
    return f'{{"value": {value}, {rest[1:]}'


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
