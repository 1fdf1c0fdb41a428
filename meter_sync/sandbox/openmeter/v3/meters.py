"""Meters in the third version.

Source: OpenMeter's OpenAPI document of v3 (Meter, CreateMeterRequest, ListMetersParamsFilter).
"""

import re
from collections.abc import Mapping
from typing import Any, cast

from meter_sync.sandbox.openmeter.meters import Meter
from meter_sync.sandbox.openmeter.requests import instant_in
from meter_sync.sandbox.openmeter.series import AGGREGATIONS, Aggregation
from meter_sync.sandbox.openmeter.times import parse_time, show_time
from meter_sync.sandbox.openmeter.v3.bodies import check_fields, object_in
from meter_sync.sandbox.openmeter.v3.paging import Listing
from meter_sync.sandbox.openmeter.v3.problems import invalid
from meter_sync.sandbox.openmeter.world import OpenMeterWorld

_KEY = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")
_LONGEST_KEY, _LONGEST_NAME, _LONGEST_DESCRIPTION = 64, 256, 1024
_TEXTS = ("name", "key", "event_type", "value_property", "description")
_REQUIRED = ("name", "key", "aggregation", "event_type")
_FIELDS = (*_TEXTS, "aggregation", "events_from", "dimensions", "labels")


def create_meter(world: OpenMeterWorld, body: Mapping[str, Any]) -> str:
    """Create a meter from its JSON and return its ULID; refuse what the document refuses, and a key that is taken."""
    check_fields(body, _FIELDS)
    for name in _REQUIRED:
        if name not in body:
            raise invalid(name, f"property {name!r} is missing", "required")
    for name in _TEXTS:
        if name in body and (not isinstance(body[name], str) or (not body[name] and name != "description")):
            raise invalid(name, "value must be a string with something in it", "is_string")
    key, choices = body["key"], [one.lower() for one in AGGREGATIONS]
    if not _KEY.fullmatch(key) or len(key) > _LONGEST_KEY:
        raise invalid("key", "must be lowercase letters and digits with single underscores between, at most 64")
    if len(body["name"]) > _LONGEST_NAME or len(body.get("description", "")) > _LONGEST_DESCRIPTION:
        raise invalid("name", "the name or the description is too long", "max_length", maximum=_LONGEST_NAME)
    if body["aggregation"] not in choices:
        raise invalid("aggregation", f"must be one of {', '.join(choices)}", "enum", choices=choices)
    if body["aggregation"] != "count" and "value_property" not in body:
        raise invalid("value_property", f"is required for the aggregation {body['aggregation']}", "required")
    instant_in(body, "events_from")
    try:
        return world.add_meter(
            key,
            cast(Aggregation, body["aggregation"].upper()),
            body["event_type"],
            body.get("value_property"),
            object_in(body, "dimensions"),
            name=body["name"],
            description=body.get("description"),
            event_from=parse_time(body["events_from"]) if "events_from" in body else None,
            metadata=object_in(body, "labels") or None,
        )
    except ValueError as error:
        raise invalid("key", str(error)) from error


def show_meter(meter: Meter) -> dict[str, Any]:
    """Return a meter as JSON, which leaves out what has no value."""
    shown: dict[str, Any] = {
        "id": meter.id,
        "key": meter.slug,
        "name": _name(meter),
        "aggregation": meter.aggregation.lower(),
        "event_type": meter.event_type,
        "dimensions": dict(meter.group_by),
        "labels": dict(meter.metadata or {}),
        "created_at": show_time(meter.created),
        "updated_at": show_time(meter.created),
    }
    optional = {
        "description": meter.description,
        "events_from": None if meter.event_from is None else show_time(meter.event_from),
        "value_property": meter.value_property,
    }
    return {**shown, **{name: value for name, value in optional.items() if value is not None}}


def _name(meter: Meter) -> str:
    return meter.name or meter.slug


METERS = Listing[Meter](
    fields={"key": lambda meter: meter.slug, "name": _name},
    orders={
        "key": lambda meter: meter.slug,
        "name": _name,
        "aggregation": lambda meter: meter.aggregation,
        "created_at": lambda meter: meter.created,
        "updated_at": lambda meter: meter.created,
    },
    order="created_at",
    show=show_meter,
)
