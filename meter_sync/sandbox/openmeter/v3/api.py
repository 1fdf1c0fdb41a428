"""The third version of the embedded OpenMeter's API: from a request to an answer."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from meter_sync.sandbox.http.traffic import Answer, Incoming
from meter_sync.sandbox.openmeter import query
from meter_sync.sandbox.openmeter.customers import Customer, named
from meter_sync.sandbox.openmeter.ingest import ingest
from meter_sync.sandbox.openmeter.meters import Meter
from meter_sync.sandbox.openmeter.problems import Problem
from meter_sync.sandbox.openmeter.requests import json_object, require_method
from meter_sync.sandbox.openmeter.v3.customers import CUSTOMERS, listed, show_billing, show_customer
from meter_sync.sandbox.openmeter.v3.meters import METERS, create_meter, show_meter
from meter_sync.sandbox.openmeter.v3.query import read_query, show_answer
from meter_sync.sandbox.openmeter.world import OpenMeterWorld

PREFIX = "/api/v3/openmeter/"
KONNECT_PREFIX = "/v3/openmeter/"

_PATH = re.compile(r"(events|meters|customers)(?:/([^/]+)(?:/(query|billing))?)?")
_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")

_Endpoint = Callable[[OpenMeterWorld, Incoming, str], Answer]


def answer(world: OpenMeterWorld, request: Incoming, prefix: str) -> Answer:
    """Answer one request whose path begins with the prefix, or raise Problem.

    What stands in the place of an id and is no ULID, as the key of a meter or a customer, is not found: so the server
    answers whatever does not fit the document in a path.
    """
    match = _PATH.fullmatch(request.path.removeprefix(prefix))
    found = match and _ENDPOINTS.get((match[1], match[2] is not None, match[3] or ""))
    if not match or not found:
        raise Problem(404, "the requested route was not found")
    require_method(request, *found)
    do = found[request.method]
    identifier = unquote(match[2] or "")
    if match[2] is not None and not _ULID.fullmatch(identifier):
        raise Problem(404, f"the requested entity was not found: {identifier}")
    return do(world, request, identifier)


def _ingest(world: OpenMeterWorld, request: Incoming, _: str) -> Answer:
    ingest(world, request)
    return Answer(status=202)


def _list_meters(world: OpenMeterWorld, request: Incoming, _: str) -> Answer:
    return _shown(METERS.page(world.meters.values(), request.query))


def _create_meter(world: OpenMeterWorld, request: Incoming, _: str) -> Answer:
    created = _meter(world, create_meter(world, json_object(request)))
    return Answer(status=201, body=json.dumps(show_meter(created)))


def _show_meter(world: OpenMeterWorld, _: Incoming, identifier: str) -> Answer:
    return _shown(show_meter(_meter(world, identifier)))


def _query_meter(world: OpenMeterWorld, request: Incoming, identifier: str) -> Answer:
    body = json_object(request)
    meter = _meter(world, identifier)
    wanted = read_query(body, world.customers)
    query.check(wanted, meter)
    rows = query.run(world, meter, wanted)
    return Answer(status=200, body=show_answer(wanted, rows, world.overrides_of(meter)))


def _meter(world: OpenMeterWorld, identifier: str) -> Meter:
    meter = world.meter(identifier)
    if meter is None:
        raise Problem(404, f"meter not found: {identifier}")
    return meter


def _list_customers(world: OpenMeterWorld, request: Incoming, _: str) -> Answer:
    return _shown(CUSTOMERS.page(listed(world.customers), request.query))


def _of_customer(show: Callable[[Customer], dict[str, Any]]) -> _Endpoint:
    return lambda world, _, identifier: _shown(show(named(world.customers, identifier)))


def _shown(content: dict[str, Any]) -> Answer:
    return Answer(status=200, body=json.dumps(content))


_ENDPOINTS: Mapping[tuple[str, bool, str], Mapping[str, _Endpoint]] = {
    ("events", False, ""): {"POST": _ingest},
    ("meters", False, ""): {"GET": _list_meters, "POST": _create_meter},
    ("meters", True, ""): {"GET": _show_meter},
    ("meters", True, "query"): {"POST": _query_meter},
    ("customers", False, ""): {"GET": _list_customers},
    ("customers", True, ""): {"GET": _of_customer(show_customer)},
    ("customers", True, "billing"): {"GET": _of_customer(show_billing)},
}
"""By collection, whether an id follows, and what of it: by the method, what answers."""
