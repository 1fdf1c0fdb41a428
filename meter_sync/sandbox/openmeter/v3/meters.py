"""Meters in the third version.

Source: OpenMeter's OpenAPI document of v3 (Meter, ListMetersParamsFilter).
"""

from typing import Any

from meter_sync.sandbox.openmeter.meters import Meter
from meter_sync.sandbox.openmeter.times import show_time
from meter_sync.sandbox.openmeter.v3.paging import Listing


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
