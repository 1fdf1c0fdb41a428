"""Asking OpenMeter, and what an answer of it means."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote

import aiohttp
import structlog
from corehttp.exceptions import BaseError
from corehttp.rest import HttpRequest
from corehttp.transport.aiohttp import AioHttpTransport
from openmeter.aio import Client

from meter_sync.core.metering.mapping import Grouping
from meter_sync.core.metering.meter import Meters
from meter_sync.core.metering.queries import Answer, DimensionAnswer, Query, Unanswered, WindowAnswer
from meter_sync.errors import ConfigurationError, TryAgainError
from meter_sync.net.retry import Patience, Transient, cause_of, retried, retry_after_seconds
from meter_sync.net.session import CONNECT_TIMEOUT_SECONDS, REDIRECT, REQUEST_TIMEOUT_SECONDS, distrust, without_key
from meter_sync.net.stop import Stop
from meter_sync.openmeter_api import answers
from meter_sync.openmeter_api.answers import OpenMeterRefused

log = structlog.get_logger()

Value = TypeVar("Value")
Understood = Callable[[Query, object], Mapping[str, Value]]
Asked = Mapping[str, Value | Unanswered] | Unanswered

_TRANSIENT_STATUS = frozenset({408, 425, 429})
_NOT_FOUND = 404
_PAGE_SIZE = 100
_HOPELESS_AFTER = 8
"""So many queries in a row without an answer, and the rest is not tried in this run."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach OpenMeter. The key never shows in a representation; None where the server needs none."""

    url: str
    key: Callable[[], str | None]
    concurrency: int
    retry_seconds: float
    timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
    """How long an answer may take from the first to the last byte."""


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
        self._patience = Patience(_HOPELESS_AFTER)
        self.requests_sent = 0

    async def meters(self) -> Meters:
        """Return every meter, found by its slug and by its id.

        Raise ConfigurationError where the address or the key is wrong, TryAgainError where there is no answer.
        """
        try:
            return answers.meters(await self._retried("GET", "/api/v1/meters"))
        except Transient as failure:
            raise _unreachable("OpenMeter could not be asked", failure) from failure
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
        return await self._asked(query, answers.values)

    async def window_usage(self, query: Query) -> WindowAnswer:
        """Send one query by hours or days, as `usage` does, and return the value of each, by subject."""
        return await self._asked(query, answers.window_values)

    async def dimension_usage(self, query: Query) -> DimensionAnswer:
        """Send one query by dimensions, as `usage` does, and return the value of each combination, by subject."""
        return await self._asked(query, answers.dimension_values)

    async def _asked(self, query: Query, understood: Understood[Value]) -> Asked[Value]:
        path = f"/api/v1/meters/{quote(query.meter, safe='')}/query"
        try:
            if self._patience.is_lost:
                raise OpenMeterRefused("it did not answer several queries before this one")
            found = understood(query, await self._retried("POST", path, answers.question(query)))
            self._patience.answered()
            return found
        except Transient as failure:
            self._patience.unanswered()
            said = failure.message
        except OpenMeterRefused as refusal:
            said = refusal.message
            if "rounded to MINUTE" in said:
                raise ConfigurationError(
                    f"this OpenMeter server cannot answer for exact seconds: {said}; nothing was written",
                    "upgrade OpenMeter to a release of March 2025 or later: rounding would bill the wrong usage",
                    code="openmeter_too_old",
                ) from refusal
            if refusal.status == _NOT_FOUND and query.grouping is Grouping.CUSTOMER and len(query.subjects or ()) > 1:
                return await self._asked_in_halves(query, understood)
        remedy = "; check the filter of its [[meters]] row" if query.filter else ""
        return Unanswered(
            f"OpenMeter did not answer for meter {query.meter}: {said}; the item was left as it is{remedy}"
        )

    async def _asked_in_halves(self, query: Query, understood: Understood[Value]) -> Asked[Value]:
        """Ask again with half of the customers each: one that was deleted meanwhile answers 404 for all of them."""
        customers = query.subjects or ()
        middle = len(customers) // 2
        found: dict[str, Value | Unanswered] = {}
        for half in (customers[:middle], customers[middle:]):
            answer = await self._asked(replace(query, subjects=half), understood)
            found |= dict.fromkeys(half, answer) if isinstance(answer, Unanswered) else answer
        return found

    async def customers(self, stripe_customers: Collection[str]) -> dict[str, str]:
        """Return the id of OpenMeter's customer for each of the Stripe customers that it knows.

        That is the customer whose key is the Stripe customer's id, or else the one whose Stripe app data names it,
        which costs one request for each customer that was not found by its key. One that several name is left out:
        whose usage it pays for must not be guessed.
        Raise ConfigurationError where the address or the key is wrong, TryAgainError where there is no answer.
        """
        wanted = frozenset(stripe_customers)
        try:
            listed = await self._all_customers()
            found = _named_once((one.key, one.id) for one in listed if one.key in wanted)
            if wanted - found.keys():
                others = [one for one in listed if one.key not in wanted]
                named = await asyncio.gather(*(self._stripe_customer(one.id) for one in others))
                by_app = zip(named, (one.id for one in others), strict=True)
                found = _named_once((name, id) for name, id in by_app if name in wanted) | found
            return found
        except (Transient, OpenMeterRefused) as failure:
            raise _unreachable("OpenMeter's customers could not be listed", failure) from failure

    async def _all_customers(self) -> list[answers.OpenMeterCustomer]:
        """Return all customers. They are ordered by id: by name, the default, a page could skip some."""
        found: dict[str, answers.OpenMeterCustomer] = {}
        page = 1
        while True:
            path = f"/api/v1/customers?page={page}&pageSize={_PAGE_SIZE}&orderBy=id"
            some = answers.customers(await self._retried("GET", path))
            known = len(found)
            found |= {one.id: one for one in some}
            if len(some) < _PAGE_SIZE:
                return [one for one in found.values() if not one.is_deleted]
            if len(found) == known:
                raise OpenMeterRefused("a page of customers that came before, as if they went on for ever")
            page += 1

    async def _stripe_customer(self, customer: str) -> str | None:
        try:
            path = f"/api/v1/customers/{quote(customer, safe='')}/apps"
            return answers.stripe_customer(await self._retried("GET", path))
        except OpenMeterRefused as refusal:
            if refusal.status == _NOT_FOUND:
                return None
            raise

    async def _retried(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> object:
        """Send a request, which only reads and so is safe to repeat, until it is answered."""
        return await retried(
            lambda: self._places, lambda: self._send(method, path, body), self._access.retry_seconds, self._stop
        )

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> object:
        """Send a request and return the answer's JSON: the one place that says what is transient."""
        self._stop.check()
        self.requests_sent += 1
        try:
            request = HttpRequest(method, path, json=body)
            # The SDK's own timeout is for each read: a server that sends a byte now and then would never be given up.
            async with asyncio.timeout(self._access.timeout_seconds):
                response = await self._client.send_request(request)
            text = response.text()
        except (BaseError, aiohttp.ClientError, TimeoutError, UnicodeDecodeError, RecursionError) as error:
            if distrusted := distrust(error, self._access.url, "correct OPENMETER_URL"):
                raise ConfigurationError(*distrusted, code="openmeter_address") from error
            why = without_key(cause_of(error), self._access.key())
            raise Transient(f"no complete answer from {self._access.url}{why}") from error
        status = response.status_code
        if status == 200:
            return answers.parsed(text, response.headers.get("Content-Type", ""))
        if status in (401, 403):
            raise ConfigurationError(
                f"OpenMeter does not accept the API key (HTTP status {status}); nothing was written",
                "check OPENMETER_API_KEY (or its file)",
                code="openmeter_key",
            )
        said = without_key(f"HTTP status {status}{answers.detail(text)}", self._access.key())
        if response.headers.get("Location") and 300 <= status < 400:
            said = f"it {REDIRECT} (HTTP status {status})"
        if status >= 500 or status in _TRANSIENT_STATUS:
            raise Transient(said, retry_after_seconds(response.headers.get("Retry-After")))
        raise OpenMeterRefused(said, status)


def _named_once(named: Iterable[tuple[str | None, str]]) -> dict[str, str]:
    """Given the Stripe customers that OpenMeter's customers name, return who names each that is named by one only."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, id in named:
        if name:
            found[name].add(id)
    for name, ids in found.items():
        if len(ids) > 1:
            log.warning("customer_named_twice", stripe_customer=name, openmeter_customers=sorted(ids))
    return {name: ids.pop() for name, ids in found.items() if len(ids) == 1}


def _unreachable(what: str, failure: Transient | OpenMeterRefused) -> TryAgainError:
    return TryAgainError(
        f"{what}: {failure.message}; nothing was written",
        "run again later; if it stays so, check OPENMETER_URL and the server",
        code="openmeter_unreachable",
    )
