"""Meters in the first version: creating and showing one.

Source: OpenMeter's OpenAPI document (Meter, MeterCreate).
"""

import re
from collections.abc import Mapping
from typing import Any, cast

from meter_sync.sandbox.openmeter.meters import Meter
from meter_sync.sandbox.openmeter.problems import Problem
from meter_sync.sandbox.openmeter.series import AGGREGATIONS, Aggregation
from meter_sync.sandbox.openmeter.times import parse_time, show_time
from meter_sync.sandbox.openmeter.world import OpenMeterWorld

_SLUG = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")


def create_meter(world: OpenMeterWorld, body: Mapping[str, Any]) -> str:
    """Create a meter from its JSON and return its ULID."""
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


def show_meter(meter: Meter) -> dict[str, Any]:
    """Return a meter as JSON, which leaves out what has no value."""
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
