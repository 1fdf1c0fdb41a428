"""What OpenMeter's answers say, in whichever version of its API, checked before anything is believed."""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import structlog

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.metering.meter import Aggregation, Meter, Meters
from meter_sync.core.metering.queries import Query
from meter_sync.net.retry import Transient

log = structlog.get_logger()

_GONE = (404, 410)
_LONGEST_DETAIL = 300
_LARGEST_EXPONENT = 400
"""Beyond what a JSON double can be (1.8e308)."""


class OpenMeterRefused(Exception):
    """OpenMeter said no, or something that is not its language; the message is fit for a person."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    @property
    def is_gone(self) -> bool:
        """Whether what was asked for is not there, or no more."""
        return self.status in _GONE


class Row(NamedTuple):
    """A row of an answer, whose value it is, and of which time and dimensions. They come by the hundred thousand."""

    whose: str
    value: Decimal
    window_start: object
    """When what it is about begins, as it is stated."""
    dimensions: Mapping[str, object] | None
    """None where it states none."""


number = lru_cache(4096)(Decimal)
"""Makes a number of its digits; equal ones, of which many customers have the same, are mostly one in memory."""

Read = Callable[[dict[str, Any]], object]
"""Given an object of an answer, returns what becomes of it as soon as it is read."""


def making_rows(row_of: Callable[[dict[str, Any]], Row]) -> Read:
    """Given what makes a row of an object, or raises OpenMeterRefused, return what does so while an answer is read.

    Of 100,000 customers it is never there as a whole then, which would take several times the room.
    """

    def read(found: dict[str, Any]) -> object:
        if "value" not in found:
            return found
        try:
            return row_of(found)
        except OpenMeterRefused:  # which is said once the answer is known to be about what was asked
            return found

    return read


def parsed(text: str, content_type: str, read: Read | None = None) -> object:
    """Given the body of a 200, return its JSON with exact numbers, and of its objects what `read` makes of them.

    A body that breaks off is another try; a page that is no JSON at all comes from something else.
    """
    if "json" not in content_type.lower():
        raise OpenMeterRefused(f"an answer of type {content_type or 'unknown'} instead of JSON")
    try:
        return json.loads(text, object_hook=read, parse_float=number, parse_int=number, parse_constant=number)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Transient("its answer was not complete JSON") from error


def values(query: Query, rows: Iterable[Row]) -> dict[str, Decimal]:
    """Given the rows that answer a query for whole spans, return the value of each subject or customer.

    Whatever does not fit the question, down to a subject that was not asked for, makes the whole answer
    unusable: only a complete and understood answer may say that somebody used nothing.
    Raise OpenMeterRefused.
    """
    found: dict[str, Decimal] = {}
    for row in _checked(query, rows):
        if row.whose in found:
            raise OpenMeterRefused(f"two rows for {row.whose!r}")
        found[row.whose] = row.value
    return found


def window_values(query: Query, rows: Iterable[Row]) -> dict[str, dict[datetime, Decimal]]:
    """Given the rows that answer a query by hours or days, return the value of each, for each subject or customer.

    Rows carry whole windows as their bounds, also where the first or the last was asked for in part (server source).
    Raise OpenMeterRefused, as for whole spans.
    """
    window = query.window
    if window is None:
        raise ValueError("the query is not by hours or days")
    start_of = cache(partial(_window_start, query, window))
    found: defaultdict[str, dict[datetime, Decimal]] = defaultdict(dict)
    for row in _checked(query, rows):
        start = start_of(row.window_start)
        if start in found[row.whose]:
            raise OpenMeterRefused(f"two rows for {row.whose!r} at {start.isoformat()}")
        found[row.whose][start] = row.value
    return dict(found)


def dimension_values(query: Query, rows: Iterable[Row]) -> dict[str, dict[tuple[str | None, ...], Decimal]]:
    """Given the rows that answer a query by dimensions, return the value of each combination, for each subject.

    An event without a dimension counts under None, or under an empty text. Raise OpenMeterRefused, as for whole spans.
    """
    found: defaultdict[str, dict[tuple[str | None, ...], Decimal]] = defaultdict(dict)
    for row in _checked(query, rows):
        grouped = row.dimensions
        stated = [0] if grouped is None else [grouped.get(name) for name in query.dimensions]
        combination = tuple(one for one in stated if one is None or isinstance(one, str))
        if len(combination) < len(stated):
            raise OpenMeterRefused("a row without its dimensions")
        if combination in found[row.whose]:
            raise OpenMeterRefused(f"two rows for {row.whose!r} with the same dimensions")
        found[row.whose][combination] = row.value
    return dict(found)


def _window_start(query: Query, window: WindowSize, stated: object) -> datetime:
    """Given the start that a row states, return it. Raise OpenMeterRefused if the query has no such window."""
    start = instant(stated)
    if start is None:
        raise OpenMeterRefused("a row without the start of its window")
    if window.floor(start) != start or not window.floor(query.start) <= start < query.end:
        raise OpenMeterRefused(f"a row for {start.isoformat()}, which was not asked for")
    return start


def _checked(query: Query, rows: Iterable[Row]) -> Iterator[Row]:
    asked = None if query.subjects is None else frozenset(query.subjects)
    for row in rows:
        if row.value.is_finite() and abs(row.value.adjusted()) > _LARGEST_EXPONENT:
            raise OpenMeterRefused("a number that no meter can have counted")
        if asked is not None and row.whose not in asked:
            raise OpenMeterRefused(f"a row for {query.grouping} {row.whose!r} that was not asked for")
        yield row


def is_echoed(query: Query, start: object, end: object) -> bool:
    """Say whether the span that an answer is about, where it names one, is the one that was asked for."""
    named = [(start, query.start), (end, query.end)]
    try:
        return all(echoed is None or datetime.fromisoformat(str(echoed)) == asked for echoed, asked in named)
    except ValueError:
        return False


def meters(rows: Iterable[Mapping[str, object]], read: Callable[[Mapping[str, object]], Meter]) -> Meters:
    """Given a list of meters, and what reads one, return them by their name and by id. Raise OpenMeterRefused.

    A row that this version does not understand is one of an unknown meter: as far as it has an id or a name, by these.
    """
    listed = list(rows)
    known, unknown = list[Meter](), dict[str, str]()
    for row in listed:
        try:
            known.append(read(row))
        except OpenMeterRefused as refusal:
            ids = [id for id in (row.get("slug"), row.get("key"), row.get("id")) if isinstance(id, str) and id]
            log.warning("not_understood", id=ids[0] if ids else None, message=refusal.message)
            unknown |= dict.fromkeys(ids, refusal.message)
    if listed and not known and not unknown:
        raise OpenMeterRefused("a list of meters was expected")
    names = Counter(name for meter in known for name in {meter.slug, meter.id})
    unknown |= {name: f"OpenMeter has {times} meters of the name {name}" for name, times in names.items() if times > 1}
    found = {name: meter for meter in known for name in (meter.id, meter.slug)}
    return Meters({name: meter for name, meter in found.items() if name not in unknown}, unknown)


def aggregation_of(stated: object, meter: str) -> Aggregation:
    """Return how a meter counts. Raise OpenMeterRefused for a way that this version does not know."""
    if not isinstance(stated, str):
        raise OpenMeterRefused(f"OpenMeter's meter {meter} was not understood: its aggregation is no text")
    if stated not in set(Aggregation):
        raise OpenMeterRefused(
            f"OpenMeter's meter {meter} has the aggregation {stated[:_LONGEST_DETAIL]!r}, which this version of "
            "meter-sync does not know"
        )
    return Aggregation(stated)


def instant(stated: object) -> datetime | None:
    """Return the instant that a text says, in UTC; None for none. Raise OpenMeterRefused for what is no instant."""
    if stated is None:
        return None
    try:
        read = datetime.fromisoformat(str(stated))
        if read.tzinfo is not None:
            return read.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise OpenMeterRefused(f"the time {str(stated)[:_LONGEST_DETAIL]!r}, which is none")


@dataclass(frozen=True, slots=True)
class Problem:
    """What the body of an error (RFC 7807) says."""

    said: str = ""
    """What is wrong, and with which parameters, shortened; a 5xx may say nothing."""
    correlation_id: str | None = None
    """What OpenMeter's makers find the request by. It is another one each time."""


def problem(text: str) -> Problem:
    """Given the body of an error, return what it says; nothing, where it is no problem."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return Problem()
    if not isinstance(content, dict):
        return Problem()
    wrong, instance = content.get("invalid_parameters"), content.get("instance")
    named = [one for one in wrong if isinstance(one, dict)] if isinstance(wrong, list) else []
    parameters = [f"{one.get('field')} {one.get('reason')}" for one in named]
    said = "; ".join(str(one) for one in (content.get("detail"), *parameters) if one)
    return Problem(_printable(said), _printable(instance) if isinstance(instance, str) else None)


def _printable(text: str) -> str:
    """Return a text shortened, without halves of surrogate pairs, which could be neither recorded nor printed."""
    return text[:_LONGEST_DETAIL].encode("utf-8", "replace").decode()
