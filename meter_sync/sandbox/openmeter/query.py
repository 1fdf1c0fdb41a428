"""Meter queries of the embedded OpenMeter: which events are asked for, and the rows that answer.

Source: the server of OpenMeter (openmeterio/openmeter) as of August 2026. It filters `time >= from
AND time < to` in whole seconds: `to` is exclusive, although its OpenAPI text says otherwise.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import Literal
from zoneinfo import ZoneInfo

from meter_sync.sandbox.instants import from_unix
from meter_sync.sandbox.openmeter.meters import Meter, matches
from meter_sync.sandbox.openmeter.problems import Problem
from meter_sync.sandbox.openmeter.series import Series, Value, aggregate
from meter_sync.sandbox.openmeter.world import OpenMeterWorld

WindowSize = Literal["MINUTE", "HOUR", "DAY", "MONTH"]
WINDOW_SIZES: tuple[WindowSize, ...] = ("MINUTE", "HOUR", "DAY", "MONTH")

MOST_VALUES = 100
"""So many subjects can be asked for at once, and so many customers."""

_IDENTITIES = frozenset({"subject", "customer_id"})
"""What can be grouped by beside a meter's own dimensions."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """What is asked of a meter. Instants are whole Unix seconds."""

    start: int | None = None
    end: int | None = None
    window_size: WindowSize | None = None
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    subjects: tuple[str, ...] = ()
    customers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The customers asked for, each with its subjects."""
    filter_group_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    group_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an answer."""

    value: float
    window_start: int
    window_end: int
    subject: str | None
    customer: str | None
    group_by: Mapping[str, str | None]


_Group = tuple[str | None, str | None, tuple[str | None, ...]]
"""A subject, a customer, and the values of the dimensions grouped by."""


def check(query: Query, meter: Meter) -> None:
    """Raise Problem unless the server would carry this query out."""
    if query.start is not None and query.end is not None and query.start >= query.end:
        raise Problem(400, "from must be before to", "from")
    if "customer_id" in query.group_by and not query.customers:
        raise Problem(400, "customer_id can only be grouped by together with a filter of customers", "group_by")
    for name in query.filter_group_by:
        if name not in meter.dimensions:
            raise Problem(400, f"invalid group by filter: {name}", "filter_group_by")
    for name in query.group_by:
        if name not in _IDENTITIES and name not in meter.dimensions:
            raise Problem(400, f"invalid group by: {name}", "group_by")


def run(world: OpenMeterWorld, meter: Meter, query: Query) -> list[Row]:
    """Return the rows of a query, in order of time; no usage is no row."""
    with world.lock:
        if _is_plain_total(meter, query):
            rows = list(_totals_by_subject(world, meter, query))
        else:
            rows = list(_rows(meter, query, _samples(world, meter, query)))
    return sorted(rows, key=lambda row: row.window_start)


def _by_subject(query: Query) -> bool:
    """Tell whether rows are per subject: asked for, or because subjects are filtered."""
    return bool(query.subjects) or "subject" in query.group_by


def _is_plain_total(meter: Meter, query: Query) -> bool:
    """Tell whether running totals answer the query; it is the one that a billing run makes most."""
    return (
        meter.aggregation in ("SUM", "COUNT")
        and _by_subject(query)
        and query.window_size is None
        and not query.filter_group_by
        and not query.customers
        and set(query.group_by) <= {"subject"}
    )


def _series(world: OpenMeterWorld, meter: Meter, query: Query) -> Iterator[tuple[str, Series]]:
    for subject in _subjects(world, meter, query):
        series = world.series(meter, subject)
        if series is not None:
            yield subject, series


def _subjects(world: OpenMeterWorld, meter: Meter, query: Query) -> Iterable[str]:
    """Return the subjects that a query counts: those that are asked for and belong to a customer asked for."""
    if not query.customers:
        return dict.fromkeys(query.subjects or world.subjects(meter))
    of_customers = {subject: None for subjects in query.customers.values() for subject in subjects}
    asked = set(query.subjects)
    return [subject for subject in of_customers if not asked or subject in asked]


def _totals_by_subject(world: OpenMeterWorld, meter: Meter, query: Query) -> Iterator[Row]:
    for subject, series in _series(world, meter, query):
        first, last = series.between(query.start, query.end)
        if first < last:
            start, end = _whole_range(query, series.times[first], series.times[last - 1])
            yield Row(series.total(first, last), start, end, subject, None, {})


@dataclass(frozen=True, slots=True)
class _Sample:
    """One event's value, and the row it belongs to."""

    at: int
    group: _Group
    value: Value


def _samples(world: OpenMeterWorld, meter: Meter, query: Query) -> Iterator[_Sample]:
    """Return the values that a query counts, in no order."""
    wanted = {name: set(values) for name, values in query.filter_group_by.items() if values}
    places = [meter.dimensions.index(name) for name in _dimensions(query)]
    owners = {subject: customer for customer, subjects in query.customers.items() for subject in subjects}
    for subject, series in _series(world, meter, query):
        shown = subject if _by_subject(query) else None
        customer = owners.get(subject) if "customer_id" in query.group_by else None
        for index in range(*series.between(query.start, query.end)):
            dimensions = series.dimensions[index]
            if matches(meter, dimensions, wanted):
                group = (shown, customer, tuple(dimensions[place] for place in places))
                yield _Sample(series.times[index], group, series.values[index])


def _dimensions(query: Query) -> list[str]:
    return [name for name in dict.fromkeys(query.group_by) if name not in _IDENTITIES]


def _rows(meter: Meter, query: Query, samples: Iterable[_Sample]) -> Iterator[Row]:
    groups: dict[_Group, list[_Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group, []).append(sample)
    names = _dimensions(query)
    for (subject, customer, dimensions), members in groups.items():
        members.sort(key=lambda sample: sample.at)
        for (start, end), inside in groupby(members, _window_of(query, members)):
            value = aggregate(meter.aggregation, [sample.value for sample in inside])
            yield Row(value, start, end, subject, customer, dict(zip(names, dimensions, strict=True)))


def _window_of(query: Query, members: list[_Sample]) -> Callable[[_Sample], tuple[int, int]]:
    """Return the function from a sample to the bounds of its row.

    With a window size these are the bounds of the whole window, even where the query's range cuts
    it.
    """
    if query.window_size is None:
        bounds = _whole_range(query, members[0].at, members[-1].at)
        return lambda _: bounds
    size, zone = query.window_size, query.zone
    return lambda sample: window(sample.at, size, zone)


def _whole_range(query: Query, earliest: int, latest: int) -> tuple[int, int]:
    """Return the query's range; an open end is that of the outermost minute with an event."""
    start = earliest // 60 * 60 if query.start is None else query.start
    end = (latest // 60 + 1) * 60 if query.end is None else query.end
    return start, end


def window(at: int, size: WindowSize, zone: ZoneInfo) -> tuple[int, int]:
    """Return the bounds of the window that contains an instant, in a time zone."""
    if size == "MINUTE":
        return at // 60 * 60, at // 60 * 60 + 60
    local = from_unix(at).astimezone(zone)
    if size == "HOUR":
        start = from_unix(at) - timedelta(minutes=local.minute, seconds=local.second)
        return int(start.timestamp()), int(start.timestamp()) + 3600
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if size == "DAY":
        return int(midnight.timestamp()), int((midnight + timedelta(days=1)).timestamp())
    first = midnight.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return int(first.timestamp()), int(following.timestamp())
