"""The embedded OpenMeter's world: meters and events, and methods to set them up without HTTP."""

import itertools
import threading
from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from meter_sync.sandbox.clock import SandboxClock
from meter_sync.sandbox.instants import aware
from meter_sync.sandbox.openmeter.customers import Customer
from meter_sync.sandbox.openmeter.meters import Meter, matches, read_events
from meter_sync.sandbox.openmeter.series import AGGREGATIONS, Aggregation, Event, Series, aggregate_exactly, is_path

Filter = Mapping[str, Iterable[str]]
"""Dimension to the values that count."""

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass
class _SubjectEvents:
    """One subject's events of one type, in order of time and then of ingestion."""

    events: list[Event] = field(default_factory=list)
    series: dict[str, Series] = field(default_factory=dict)
    """What each meter has read, by its id; emptied by every new event."""

    def add(self, event: Event) -> None:
        self.series.clear()
        if not self.events or self.events[-1].at <= event.at:
            self.events.append(event)
        else:
            insort(self.events, event, key=lambda each: each.at)


class OpenMeterWorld:
    """The state of the embedded OpenMeter. Nothing is deduplicated: the server's default."""

    def __init__(self, clock: SandboxClock, token: str | None) -> None:
        self.lock = threading.RLock()
        self.clock = clock
        self.token = token
        """The bearer token that requests must carry; None for a server without authentication."""
        self.requires_minutes = False
        """Behave as servers before March 2025: refuse instants that are not on a minute."""
        self.value_overrides: dict[tuple[str, str | None], str] = {}
        """Raw JSON served as the value of the rows of (slug, subject), however nonsensical."""
        self.meters: dict[str, Meter] = {}
        """By slug."""
        self.customers: dict[str, Customer] = {}
        """By id."""
        self._events: defaultdict[str, dict[str, _SubjectEvents]] = defaultdict(dict)
        self._numbers = itertools.count(1)

    def add_meter(
        self,
        slug: str,
        aggregation: Aggregation = "SUM",
        event_type: str | None = None,
        value_property: str | None = "$.value",
        group_by: Mapping[str, str] | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        event_from: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Add a meter over events of a type (default: its slug) and return its ULID.

        It counts events from `event_from` on, an aware instant; by default all of history.
        """
        with self.lock:
            if slug in self.meters:
                raise ValueError(f"there is already a meter {slug!r}")
            if aggregation not in AGGREGATIONS:
                raise ValueError(f"not an aggregation: {aggregation!r}")
            paths = [*(group_by or {}).values(), *([value_property] if value_property else [])]
            for path in paths:
                if not is_path(path):
                    raise ValueError(f"not a JSONPath like $.a.b: {path!r}")
            meter = Meter(
                id=_ulid(next(self._numbers)),
                slug=slug,
                aggregation=aggregation,
                event_type=event_type or slug,
                value_property=None if aggregation == "COUNT" else value_property,
                group_by=dict(group_by or {}),
                created=self.clock.now(),
                name=name,
                description=description,
                event_from=None if event_from is None else aware(event_from),
                metadata=metadata,
            )
            self.meters[slug] = meter
            return meter.id

    def delete_meter(self, slug: str) -> None:
        """Delete a meter; its events stay, and another one that is made of their type counts them."""
        with self.lock:
            del self.meters[slug]

    def add_customer(
        self,
        key: str | None = None,
        *,
        name: str | None = None,
        subjects: Iterable[str] = (),
        stripe_customer_id: str | None = None,
    ) -> str:
        """Add a customer and return its ULID."""
        with self.lock:
            customer = Customer(
                id=_ulid(next(self._numbers)),
                key=key,
                name=name or key or "Customer",
                subjects=tuple(subjects),
                stripe_customer_id=stripe_customer_id,
                created=self.clock.now(),
            )
            self.customers[customer.id] = customer
            return customer.id

    def delete_customer(self, id: str) -> None:
        """Delete a customer: its events stay, but it can be asked for no more."""
        with self.lock:
            self.customers[id].deleted_at = self.clock.now()

    def delete_after_listing(self, id: str) -> None:
        """Let a customer still be listed, and then be unknown: it was deleted in between."""
        with self.lock:
            self.customers[id].is_only_listed = True

    def meter(self, id_or_slug: str) -> Meter | None:
        """Return a meter by its slug or ULID."""
        with self.lock:
            found = self.meters.get(id_or_slug)
            return found or next((m for m in self.meters.values() if m.id == id_or_slug), None)

    def overrides_of(self, meter: Meter) -> dict[str | None, str]:
        """Return the values to serve for a meter's rows, by subject, in place of the true ones."""
        return {subject: raw for (slug, subject), raw in self.value_overrides.items() if slug == meter.slug}

    def add_event(
        self,
        event_type: str,
        subject: str,
        time: datetime,
        value: int | float | str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Ingest an event with these data, or with `{"value": value}`."""
        content = {"value": value} if data is None else dict(data)
        with self.lock:
            of_type = self._events[event_type]
            found = of_type.get(subject)
            if found is None:
                found = of_type[subject] = _SubjectEvents()
            # Event times are floored to whole seconds at ingest.
            found.add(Event(int(aware(time).timestamp() // 1), content))

    def add_events(
        self,
        event_type: str,
        subject: str,
        events: Iterable[tuple[datetime, int | float | str | Mapping[str, Any]]],
    ) -> None:
        """Ingest events, each a time with a value or with its data."""
        with self.lock:
            for time, content in events:
                if isinstance(content, Mapping):
                    self.add_event(event_type, subject, time, data=content)
                else:
                    self.add_event(event_type, subject, time, content)

    def subjects(self, meter: Meter) -> list[str]:
        """Return the subjects that have events of the meter's type."""
        with self.lock:
            return list(self._events.get(meter.event_type, {}))

    def series(self, meter: Meter, subject: str) -> Series | None:
        """Return what a meter reads from a subject's events."""
        with self.lock:
            found = self._events.get(meter.event_type, {}).get(subject)
            if found is None:
                return None
            if meter.id not in found.series:
                found.series[meter.id] = read_events(meter, found.events)
            return found.series[meter.id]

    def usage(
        self,
        slug: str,
        subject: str | None,
        start: datetime,
        end: datetime,
        filter: Filter | None = None,
    ) -> Decimal:
        """Return the exact usage with `start <= time < end`, in decimals, to compare invoices with.

        Subject None means all subjects. 0 if there is no usage.
        """
        meter = self.meters[slug]
        bounds = (int(start.timestamp()), int(end.timestamp()))
        wanted = {name: set(values) for name, values in (filter or {}).items()}
        found: list[tuple[int, int | float | str]] = []
        with self.lock:
            for each in self.subjects(meter) if subject is None else [subject]:
                series = self.series(meter, each)
                if series is None:
                    continue
                for place in range(*series.between(*bounds)):
                    if matches(meter, series.dimensions[place], wanted):
                        found.append((series.times[place], series.values[place]))
        found.sort(key=lambda pair: pair[0])
        return aggregate_exactly(meter.aggregation, [value for _, value in found])


def _ulid(number: int) -> str:
    """Return a deterministic identifier in the shape of a ULID."""
    digits = ""
    for _ in range(16):
        number, digit = divmod(number, len(_CROCKFORD))
        digits = _CROCKFORD[digit] + digits
    return "01SANDB0X0" + digits
