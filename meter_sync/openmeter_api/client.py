"""Asking OpenMeter, and what an answer of it means."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import aiohttp
from corehttp.exceptions import BaseError
from corehttp.rest import AsyncHttpResponse, HttpRequest
from corehttp.transport.aiohttp import AioHttpTransport
from openmeter.aio import Client

from meter_sync.core.actions import Meter
from meter_sync.core.usage import Aggregation, Answer, Query, Unanswered
from meter_sync.errors import ConfigurationError, MeterSyncError, TryAgainError
from meter_sync.http_session import CONNECT_TIMEOUT_SECONDS, REQUEST_TIMEOUT_SECONDS
from meter_sync.waiting import Stop, Transient, cause_of, retried, retry_after_seconds

_TRANSIENT_STATUS = frozenset({408, 425, 429})
_LONGEST_DETAIL = 300
_LARGEST_EXPONENT = 400
"""Beyond what a JSON double can be (1.8e308)."""
_HOPELESS_AFTER = 8
"""So many queries in a row without an answer, and the rest is not tried in this run."""


class OpenMeterRefused(Exception):
    """OpenMeter said no, or something that is not its language; the message is fit for a person."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach OpenMeter. The key never shows in a representation; None where the server needs none."""

    url: str
    key: Callable[[], str | None]
    concurrency: int
    retry_seconds: float


class OpenMeter:
    """Reads meters and usage; nothing here writes."""

    def __init__(self, access: Access, session: aiohttp.ClientSession, stop: Stop) -> None:
        self._client = Client(
            access.url,
            access.key(),
            transport=AioHttpTransport(
                session=session,
                session_owner=False,
                connection_timeout=CONNECT_TIMEOUT_SECONDS,
                read_timeout=REQUEST_TIMEOUT_SECONDS,
            ),
            retry_total=0,
        )
        self._access = access
        self._places = asyncio.Semaphore(access.concurrency)
        self._stop = stop
        self._unanswered_in_a_row = 0
        self.requests_sent = 0

    async def meters(self) -> dict[str, Meter]:
        """Return every meter, found by its slug and by its id.

        Raise ConfigurationError where the address or the key is wrong, TryAgainError where there is no answer.
        """
        try:
            answer = await self._retried("GET", "/api/v1/meters", None)
            return _meters(answer)
        except Transient as failure:
            raise TryAgainError(
                f"OpenMeter could not be asked: {failure.message}; nothing was written",
                "run again later; if it stays so, check OPENMETER_URL and the server",
                code="openmeter_unreachable",
            ) from failure
        except OpenMeterRefused as refusal:
            raise ConfigurationError(
                f"{self._access.url} does not answer as OpenMeter does: {refusal.message}; nothing was written",
                "correct OPENMETER_URL: it is the address before /api/v1",
                code="openmeter_address",
            ) from refusal

    async def usage(self, query: Query) -> Answer:
        """Send one query and return the value of each subject that has one, or why there is no answer.

        Raise ConfigurationError where the server is too old for whole seconds or the key is wrong.
        """
        path = f"/api/v1/meters/{quote(query.meter, safe='')}/query"
        try:
            if self._unanswered_in_a_row >= _HOPELESS_AFTER:
                raise OpenMeterRefused("it did not answer several queries before this one")
            values = _values(query, await self._retried("POST", path, _question(query)))
            self._unanswered_in_a_row = 0
            return values
        except Transient as failure:
            self._unanswered_in_a_row += 1
            said = failure.message
        except OpenMeterRefused as refusal:
            said = refusal.message
            if "rounded to MINUTE" in said:
                raise _too_old(said) from refusal
        remedy = "; check the filter of its [[meters]] row" if query.filter else ""
        return Unanswered(
            f"OpenMeter did not answer for meter {query.meter}: {said}; the item was left as it is{remedy}"
        )

    async def _retried(self, method: str, path: str, body: Mapping[str, Any] | None) -> object:
        """Send a request, which only reads and so is safe to repeat, until it is answered."""
        return await retried(
            lambda: self._places, lambda: self._send(method, path, body), self._access.retry_seconds, self._stop
        )

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> object:
        self._stop.check()
        self.requests_sent += 1
        try:
            request = HttpRequest(method, path, json=body)
            response = await self._client.send_request(request)
            text = response.text()
        except (BaseError, aiohttp.ClientError, TimeoutError, UnicodeDecodeError) as error:
            raise Transient(f"no complete answer from {self._access.url}{cause_of(error)}") from error
        return self._read(response, text)

    def _read(self, response: AsyncHttpResponse, text: str) -> object:
        """Given a response, return its JSON: the one place that says what is transient."""
        status = response.status_code
        if status == 200:
            return _parsed(text, response.headers.get("Content-Type", ""))
        if status in (401, 403):
            raise ConfigurationError(
                f"OpenMeter does not accept the API key (HTTP status {status}); nothing was written",
                "check OPENMETER_API_KEY (or its file)",
                code="openmeter_key",
            )
        said = f"HTTP status {status}{_detail(text)}"
        if status >= 500 or status in _TRANSIENT_STATUS:
            raise Transient(said, retry_after_seconds(response.headers.get("Retry-After")))
        raise OpenMeterRefused(said)


def _question(query: Query) -> dict[str, Any]:
    question: dict[str, Any] = {
        "from": _rfc3339(query.start),
        "to": _rfc3339(query.end),
        "groupBy": ["subject"],
    }
    if query.subjects is not None:
        question["subject"] = list(query.subjects)
    if query.filter:
        question["filterGroupBy"] = {name: list(values) for name, values in query.filter}
    return question


def _rfc3339(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def _parsed(text: str, content_type: str) -> object:
    """Given the body of a 200, return its JSON with exact numbers.

    A body that breaks off is another try; a page that is no JSON at all comes from something else.
    """
    if "json" not in content_type.lower():
        raise OpenMeterRefused(f"an answer of type {content_type or 'unknown'} instead of JSON")
    try:
        parsed: object = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise Transient("its answer was not complete JSON") from error
    return parsed


def _values(query: Query, answer: object) -> dict[str, Decimal]:
    """Given the answer to a query, return the value of each subject.

    Whatever does not fit the question, down to a subject that was not asked for, makes the whole answer
    unusable: only a complete and understood answer may say that somebody used nothing.
    Raise OpenMeterRefused.
    """
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(rows, list) or not _is_echoed(query, answer):
        raise OpenMeterRefused("an answer that does not fit the question")
    asked = None if query.subjects is None else frozenset(query.subjects)
    values: dict[str, Decimal] = {}
    for row in rows:
        subject, value = _subject_and_value(row)
        if subject in values or (asked is not None and subject not in asked):
            raise OpenMeterRefused(f"a row for subject {subject!r} that was not asked for")
        values[subject] = value
    return values


def _subject_and_value(row: object) -> tuple[str, Decimal]:
    subject, value = (row.get("subject"), row.get("value")) if isinstance(row, dict) else (None, None)
    if not isinstance(subject, str) or not isinstance(value, Decimal):
        raise OpenMeterRefused("a row without a subject or a number")
    if value.is_finite() and abs(value.adjusted()) > _LARGEST_EXPONENT:
        raise OpenMeterRefused("a number that no meter can have counted")
    return subject, value


def _is_echoed(query: Query, answer: Mapping[str, object]) -> bool:
    """Say whether the span that the answer is about, where it names one, is the one that was asked for."""
    return all(_same_instant(answer.get(name), instant) for name, instant in (("from", query.start), ("to", query.end)))


def _same_instant(echoed: object, asked: datetime) -> bool:
    if echoed is None:
        return True
    try:
        return datetime.fromisoformat(str(echoed)) == asked
    except (ValueError, TypeError):
        return False


def _meters(answer: object) -> dict[str, Meter]:
    """Given the list of meters, return them by slug and id. Raise OpenMeterRefused if it is none.

    A meter with an aggregation that this program does not know is left out, so that it is never misread.
    """
    if not isinstance(answer, list) or not all(isinstance(row, dict) for row in answer):
        raise OpenMeterRefused("a list of meters was expected")
    known = {aggregation.value for aggregation in Aggregation}
    meters = [
        Meter(id=str(row.get("id")), slug=str(row.get("slug")), aggregation=Aggregation(row["aggregation"]))
        for row in answer
        if row.get("aggregation") in known
    ]
    return {meter.id: meter for meter in meters} | {meter.slug: meter for meter in meters}


def _detail(text: str) -> str:
    """Given the body of an error (RFC 7807), return what it says, shortened; a 5xx says nothing."""
    try:
        problem = json.loads(text)
    except ValueError:
        return ""
    detail = problem.get("detail") if isinstance(problem, dict) else None
    return f": {str(detail)[:_LONGEST_DETAIL]}" if detail else ""


def _too_old(said: str) -> MeterSyncError:
    return ConfigurationError(
        f"this OpenMeter server cannot answer for exact seconds: {said}; nothing was written",
        "upgrade OpenMeter to a release of March 2025 or later: rounding would bill the wrong usage",
        code="openmeter_too_old",
    )
