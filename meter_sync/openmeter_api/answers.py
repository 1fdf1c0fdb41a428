"""What goes over the wire: OpenMeter's questions and answers, checked before anything is believed."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from typing import Any

import structlog

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.metering.mapping import Grouping
from meter_sync.core.metering.meter import Aggregation, Meter, Meters
from meter_sync.core.metering.queries import Query
from meter_sync.core.text import utc
from meter_sync.net.retry import Transient

log = structlog.get_logger()

_LONGEST_DETAIL = 300
_LARGEST_EXPONENT = 400
"""Beyond what a JSON double can be (1.8e308)."""
_FILTER = {Grouping.SUBJECT: "subject", Grouping.CUSTOMER: "filterCustomerId"}


class OpenMeterRefused(Exception):
    """OpenMeter said no, or something that is not its language; the message is fit for a person."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


@dataclass(frozen=True, slots=True)
class OpenMeterCustomer:
    """A customer as OpenMeter knows it."""

    id: str
    key: str | None
    is_deleted: bool


def question(query: Query) -> dict[str, Any]:
    """Return the body of the POST that asks a query."""
    told_apart = [query.grouping.value, *query.dimensions]
    asked: dict[str, Any] = {"from": utc(query.start), "to": utc(query.end), "groupBy": told_apart}
    if query.subjects is not None:
        asked[_FILTER[query.grouping]] = list(query.subjects)
    if query.window:
        asked["windowSize"] = query.window.value.upper()
    if query.filter:
        asked["filterGroupBy"] = {name: list(values) for name, values in query.filter}
    return asked


def parsed(text: str, content_type: str) -> object:
    """Given the body of a 200, return its JSON with exact numbers.

    A body that breaks off is another try; a page that is no JSON at all comes from something else.
    """
    if "json" not in content_type.lower():
        raise OpenMeterRefused(f"an answer of type {content_type or 'unknown'} instead of JSON")
    try:
        return json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Transient("its answer was not complete JSON") from error


def values(query: Query, answer: object) -> dict[str, Decimal]:
    """Given the answer to a query for whole spans, return the value of each subject or customer.

    Whatever does not fit the question, down to a subject that was not asked for, makes the whole answer
    unusable: only a complete and understood answer may say that somebody used nothing.
    Raise OpenMeterRefused.
    """
    found: dict[str, Decimal] = {}
    for subject, value, _ in _rows(query, answer):
        if subject in found:
            raise OpenMeterRefused(f"two rows for {subject!r}")
        found[subject] = value
    return found


def window_values(query: Query, answer: object) -> dict[str, dict[datetime, Decimal]]:
    """Given the answer to a query by hours or days, return the value of each of them, for each subject or customer.

    Rows carry whole windows as their bounds, also where the first or the last was asked for in part (server source).
    Raise OpenMeterRefused, as for whole spans.
    """
    window = query.window
    if window is None:
        raise ValueError("the query is not by hours or days")
    start_of = cache(partial(_window_start, query, window))
    found: defaultdict[str, dict[datetime, Decimal]] = defaultdict(dict)
    for subject, value, row in _rows(query, answer):
        start = start_of(str(row.get("windowStart")))
        if start in found[subject]:
            raise OpenMeterRefused(f"two rows for {subject!r} at {start.isoformat()}")
        found[subject][start] = value
    return dict(found)


def dimension_values(query: Query, answer: object) -> dict[str, dict[tuple[str | None, ...], Decimal]]:
    """Given the answer to a query by dimensions, return the value of each combination, for each subject.

    An event without a dimension counts under None, or under an empty text. Raise OpenMeterRefused, as for whole spans.
    """
    found: defaultdict[str, dict[tuple[str | None, ...], Decimal]] = defaultdict(dict)
    for subject, value, row in _rows(query, answer):
        grouped = row.get("groupBy")
        stated = [grouped.get(name) for name in query.dimensions] if isinstance(grouped, dict) else [0]
        combination = tuple(one for one in stated if one is None or isinstance(one, str))
        if len(combination) < len(stated):
            raise OpenMeterRefused("a row without its dimensions")
        if combination in found[subject]:
            raise OpenMeterRefused(f"two rows for {subject!r} with the same dimensions")
        found[subject][combination] = value
    return dict(found)


def _window_start(query: Query, window: WindowSize, stated: str) -> datetime:
    """Given the start that a row states, return it. Raise OpenMeterRefused if the query has no such window."""
    try:
        read = datetime.fromisoformat(stated)
        start = read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise OpenMeterRefused("a row without the start of its window") from None
    if read.tzinfo is None:
        raise OpenMeterRefused("a row whose window starts in no time zone")
    if window.floor(start) != start or not window.floor(query.start) <= start < query.end:
        raise OpenMeterRefused(f"a row for {start.isoformat()}, which was not asked for")
    return start


def _rows(query: Query, answer: object) -> Iterator[tuple[str, Decimal, Mapping[str, object]]]:
    rows = answer.get("data") if isinstance(answer, dict) and _is_echoed(query, answer) else None
    if not isinstance(rows, list):
        raise OpenMeterRefused("an answer that does not fit the question")
    asked = None if query.subjects is None else frozenset(query.subjects)
    for row in rows:
        subject, value = (_whose(query, row), row.get("value")) if isinstance(row, dict) else (None, None)
        if not isinstance(subject, str) or not isinstance(value, Decimal):
            raise OpenMeterRefused(f"a row without a {query.grouping} or a number")
        if value.is_finite() and abs(value.adjusted()) > _LARGEST_EXPONENT:
            raise OpenMeterRefused("a number that no meter can have counted")
        if asked is not None and subject not in asked:
            raise OpenMeterRefused(f"a row for {query.grouping} {subject!r} that was not asked for")
        yield subject, value, row


def _whose(query: Query, row: Mapping[str, object]) -> object:
    """Return whose value a row has: OpenMeter names a customer in the row, or among what it was grouped by."""
    if query.grouping is Grouping.SUBJECT:
        return row.get("subject")
    grouped = row.get("groupBy")
    return row.get("customerId") or (grouped.get("customer_id") if isinstance(grouped, dict) else None)


def _is_echoed(query: Query, answer: Mapping[str, object]) -> bool:
    """Say whether the span that the answer is about, where it names one, is the one that was asked for."""
    named = [(answer.get("from"), query.start), (answer.get("to"), query.end)]
    try:
        return all(echoed is None or datetime.fromisoformat(str(echoed)) == asked for echoed, asked in named)
    except ValueError:
        return False


def meters(answer: object) -> Meters:
    """Given the list of meters, return them by slug and id. Raise OpenMeterRefused if it is none.

    A row that this version does not understand is one of an unknown meter: as far as it has an id or a slug, by these.
    """
    rows = _objects(answer, "a list of meters")
    known, unknown = list[Meter](), dict[str, str]()
    for row in rows:
        try:
            known.append(_meter(row))
        except OpenMeterRefused as refusal:
            ids = [id for id in (row.get("slug"), row.get("id")) if isinstance(id, str) and id]
            log.warning("not_understood", id=ids[0] if ids else None, message=refusal.message)
            unknown |= dict.fromkeys(ids, refusal.message)
    if rows and not known and not unknown:
        raise OpenMeterRefused("a list of meters was expected")
    names = Counter(name for meter in known for name in {meter.slug, meter.id})
    unknown |= {name: f"OpenMeter has {times} meters of the name {name}" for name, times in names.items() if times > 1}
    found = {name: meter for meter in known for name in (meter.id, meter.slug)}
    return Meters({name: meter for name, meter in found.items() if name not in unknown}, unknown)


def _meter(row: Mapping[str, object]) -> Meter:
    """Return a meter. Raise OpenMeterRefused, with what is not known of it, for one that is not understood."""
    try:
        id, slug, aggregation = (_named(row, name) for name in ("id", "slug", "aggregation"))
    except OpenMeterRefused as refusal:
        raise OpenMeterRefused(f"OpenMeter's list of meters was not understood: it has {refusal.message}") from None
    if aggregation not in set(Aggregation):
        raise OpenMeterRefused(
            f"OpenMeter's meter {slug} has the aggregation {aggregation[:_LONGEST_DETAIL]!r}, which this version of "
            "meter-sync does not know"
        )
    return Meter(id, slug, Aggregation(aggregation))


def _named(row: Mapping[str, object], name: str) -> str:
    """Return a text that a row must have. Raise OpenMeterRefused where it is none, or one that is no Unicode."""
    text = row.get(name)
    # Half a surrogate pair could be neither recorded nor printed.
    if not isinstance(text, str) or not text or any("\ud800" <= character <= "\udfff" for character in text):
        raise OpenMeterRefused(f"a row without its {name}")
    return text


def customers(answer: object) -> list[OpenMeterCustomer]:
    """Given a page of customers, return them, the deleted ones too. Raise OpenMeterRefused if it is none."""
    return [
        OpenMeterCustomer(
            id=_named(row, "id"),
            key=None if row.get("key") is None else _named(row, "key"),
            is_deleted=bool(row.get("deletedAt")),
        )
        for row in _items(answer, "a page of customers")
    ]


def stripe_customer(answer: object) -> str | None:
    """Given the app data of a customer, return the Stripe customer in it, or None. Raise OpenMeterRefused."""
    rows = _items(answer, "the app data of a customer")
    of_stripe = [row for row in rows if row.get("type") == "stripe" and row.get("stripeCustomerId") is not None]
    return next((_named(row, "stripeCustomerId") for row in of_stripe), None)


def _items(answer: object, what: str) -> list[dict[str, Any]]:
    return _objects(answer.get("items") if isinstance(answer, dict) else None, what)


def _objects(rows: object, what: str) -> list[dict[str, Any]]:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise OpenMeterRefused(f"{what} was expected")
    return rows


def detail(text: str) -> str:
    """Given the body of an error (RFC 7807), return what it says, shortened; a 5xx says nothing."""
    try:
        problem = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    said = problem.get("detail") if isinstance(problem, dict) else None
    return f": {str(said)[:_LONGEST_DETAIL]}" if said else ""
