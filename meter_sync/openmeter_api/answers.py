"""What goes over the wire: OpenMeter's questions and answers, checked before anything is believed."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, partial
from typing import Any

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.metering.meter import Aggregation, Meter
from meter_sync.core.metering.queries import Grouping, Query
from meter_sync.core.text import utc
from meter_sync.net.retry import Transient

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
    asked: dict[str, Any] = {"from": utc(query.start), "to": utc(query.end), "groupBy": [query.grouping.value]}
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


def meters(answer: object) -> dict[str, Meter]:
    """Given the list of meters, return them by slug and id. Raise OpenMeterRefused if it is none.

    A meter with an aggregation that this program does not know is left out, so that it is never misread.
    """
    rows = _objects(answer, "a list of meters")
    known = {aggregation.value for aggregation in Aggregation}
    listed = [(_named(row, "id"), _named(row, "slug"), _named(row, "aggregation")) for row in rows]
    for names in ([id for id, _, _ in listed], [slug for _, slug, _ in listed]):
        if len(set(names)) < len(names):
            raise OpenMeterRefused("a list with two meters of one name")
    found = [Meter(id, slug, Aggregation(aggregation)) for id, slug, aggregation in listed if aggregation in known]
    return {meter.id: meter for meter in found} | {meter.slug: meter for meter in found}


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
