"""The first version of the embedded OpenMeter's API: from a request to an answer."""

import json
import re
from typing import cast
from urllib.parse import unquote

from meter_sync.sandbox.http.traffic import Answer, Incoming
from meter_sync.sandbox.openmeter import query
from meter_sync.sandbox.openmeter.ingest import ingest
from meter_sync.sandbox.openmeter.meters import Meter
from meter_sync.sandbox.openmeter.problems import Problem
from meter_sync.sandbox.openmeter.requests import json_object, require_method
from meter_sync.sandbox.openmeter.v1 import customers
from meter_sync.sandbox.openmeter.v1.meters import create_meter, show_meter
from meter_sync.sandbox.openmeter.v1.query import check_minutes, from_url, read_query, show_answer
from meter_sync.sandbox.openmeter.world import OpenMeterWorld

PREFIX = "/api/v1/"

_METER = re.compile(r"meters/([^/]+)(/query)?")
_APPS = re.compile(r"customers/([^/]+)/apps")
"""With a customer's id or its key."""


def answer(world: OpenMeterWorld, request: Incoming) -> Answer:
    """Answer one request whose path begins with the prefix, or raise Problem."""
    path = request.path.removeprefix(PREFIX)
    if path == "events" and request.method == "POST":
        ingest(world, request)
        return Answer(status=204)
    if path == "meters":
        return _meters(world, request)
    if path == "customers":
        require_method(request, "GET")
        return Answer(status=200, body=json.dumps(customers.page(world.customers, request.query)))
    if match := _APPS.fullmatch(path):
        require_method(request, "GET")
        customer = customers.found(world.customers, unquote(match[1]))
        return Answer(status=200, body=json.dumps(customers.app_data(customer)))
    if match := _METER.fullmatch(path):
        return _meter(world, request, unquote(match[1]), is_queried=match[2] is not None)
    raise Problem(404, f"no matching operation was found: {request.path}")


def _meters(world: OpenMeterWorld, request: Incoming) -> Answer:
    """List meters, all at once whatever paging is asked for, or create one."""
    require_method(request, "GET", "POST")
    if request.method == "GET":
        shown = [show_meter(meter) for meter in world.meters.values()]
        return Answer(status=200, body=json.dumps(shown))
    identifier = create_meter(world, json_object(request))
    created = cast(Meter, world.meter(identifier))
    return Answer(status=201, body=json.dumps(show_meter(created)))


def _meter(world: OpenMeterWorld, request: Incoming, id_or_slug: str, *, is_queried: bool) -> Answer:
    """Show a meter, or its usage."""
    meter = world.meter(id_or_slug)
    if meter is None:
        raise Problem(404, f"meter not found: {id_or_slug}")
    if is_queried:
        return _query(world, request, meter)
    require_method(request, "GET")
    return Answer(status=200, body=json.dumps(show_meter(meter)))


def _query(world: OpenMeterWorld, request: Incoming, meter: Meter) -> Answer:
    require_method(request, "GET", "POST")
    asked = json_object(request) if request.method == "POST" else from_url(request.query)
    wanted = read_query(asked, world.customers)
    query.check(wanted, meter)
    if world.requires_minutes:
        check_minutes(wanted)
    return Answer(status=200, body=show_answer(wanted, query.run(world, meter, wanted), world.overrides_of(meter)))
