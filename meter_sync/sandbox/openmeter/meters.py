"""Meters of the embedded OpenMeter: which events one counts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from meter_sync.sandbox.instants import unix_seconds
from meter_sync.sandbox.openmeter.series import Aggregation, Event, Series, dimension_of, value_of


@dataclass(frozen=True)
class Meter:
    """Which events count, and how they are aggregated."""

    id: str
    """A ULID."""
    slug: str
    aggregation: Aggregation
    event_type: str
    value_property: str | None
    group_by: Mapping[str, str]
    created: datetime
    name: str | None = None
    description: str | None = None
    event_from: datetime | None = None
    """From when on events count; None for all of history."""
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
    """Return what a meter reads from one subject's events, which are in order of time.

    What is earlier than the meter's `event_from` it does not have: a query from before that instant counts from there
    on, and no answer says so (the server raises the `from` of its own query, in whole seconds).
    """
    since = None if meter.event_from is None else unix_seconds(meter.event_from)
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
