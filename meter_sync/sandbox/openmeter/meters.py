"""Meters of the embedded OpenMeter: which events one counts, and how it is shown.

Source: OpenMeter's OpenAPI document (Meter).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meter_sync.sandbox.openmeter.series import Aggregation, Event, Series, dimension_of, value_of
from meter_sync.sandbox.openmeter.times import show_time


@dataclass(frozen=True)
class Meter:
    """Which events count, and how they are aggregated."""

    id: str
    slug: str
    aggregation: Aggregation
    event_type: str
    value_property: str | None
    group_by: Mapping[str, str]
    created: datetime
    name: str | None = None
    description: str | None = None
    event_from: datetime | None = None
    metadata: Mapping[str, str] | None = None

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The names of its group-by dimensions."""
        return tuple(self.group_by)


def matches(meter: Meter, dimensions: tuple[str | None, ...], wanted: Mapping[str, set[str]]) -> bool:
    """Whether an event's dimensions have one of the wanted values each."""
    if not wanted:
        return True
    values = dict(zip(meter.dimensions, dimensions, strict=True))
    return all(values[name] in allowed for name, allowed in wanted.items())


def read_events(meter: Meter, events: Iterable[Event]) -> Series:
    """Return what a meter reads from one subject's events, which are in order of time."""
    since = None if meter.event_from is None else meter.event_from.timestamp()
    times: list[int] = []
    values: list[int | float | str] = []
    dimensions: list[tuple[str | None, ...]] = []
    for event in events:
        value = value_of(event, meter.aggregation, meter.value_property)
        if value is None or (since is not None and event.at < since):
            continue
        times.append(event.at)
        values.append(value)
        dimensions.append(tuple(dimension_of(event, path) for path in meter.group_by.values()))
    return Series(times, values, dimensions)


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
