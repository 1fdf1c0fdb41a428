"""Ingestion of the embedded OpenMeter: CloudEvents in, one by one or in batches."""

import json
from typing import Any

from meter_sync.sandbox.http.traffic import Incoming
from meter_sync.sandbox.openmeter.problems import Problem
from meter_sync.sandbox.openmeter.times import parse_time
from meter_sync.sandbox.openmeter.world import OpenMeterWorld

_SINGLE = "application/cloudevents+json"
_BATCH = "application/cloudevents-batch+json"
_EITHER = "application/json"

_REQUIRED = ("id", "source", "specversion", "type", "subject")


def ingest(world: OpenMeterWorld, request: Incoming) -> None:
    """Ingest the events of a request, all or none."""
    events = _events(request)
    for event in events:
        _check(event)
    now = world.clock.now()
    for event in events:
        time = event.get("time")
        world.add_event(
            event["type"],
            event["subject"],
            now if time is None else parse_time(time),
            data=event.get("data") or {},
        )


def _events(request: Incoming) -> list[Any]:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in (_SINGLE, _BATCH, _EITHER):
        raise Problem(400, f"header Content-Type has unexpected value {content_type!r}")
    try:
        body = json.loads(request.body)
    except ValueError as error:
        raise Problem(400, "the request body is not JSON") from error
    if isinstance(body, list) and content_type != _SINGLE:
        return body
    if isinstance(body, dict) and content_type != _BATCH:
        return [body]
    raise Problem(400, f"the request body does not fit {content_type}")


def _check(event: Any) -> None:
    """Refuse what is not an event (OpenAPI document, Event)."""
    if not isinstance(event, dict):
        raise Problem(400, "an event must be a JSON object")
    for name in _REQUIRED:
        value = event.get(name)
        if not isinstance(value, str) or not value:
            raise Problem(400, f"property {name!r} is missing or not a string")
    if event["specversion"] != "1.0":
        raise Problem(400, f"specversion {event['specversion']!r} is not supported")
    if event.get("time") is not None:
        try:
            parse_time(event["time"])
        except ValueError as error:
            raise Problem(400, str(error)) from error
    if event.get("data") is not None and not isinstance(event["data"], dict):
        raise Problem(400, "data must be a JSON object")
