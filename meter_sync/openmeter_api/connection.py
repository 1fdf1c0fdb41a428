"""Sending OpenMeter a request until it is answered, whichever version of its API it is for."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp
import structlog
from corehttp.exceptions import BaseError
from corehttp.rest import HttpRequest
from corehttp.transport.aiohttp import AioHttpTransport
from openmeter.aio import Client

from meter_sync.errors import ConfigurationError
from meter_sync.net.places import places_at
from meter_sync.net.retry import Transient, cause_of, retried, retry_after_seconds
from meter_sync.net.session import CONNECT_TIMEOUT_SECONDS, REDIRECT, REQUEST_TIMEOUT_SECONDS, distrust, without_key
from meter_sync.net.stop import Stop
from meter_sync.net.tally import Sent, Tally
from meter_sync.openmeter_api import answers
from meter_sync.openmeter_api.answers import OpenMeterRefused

log = structlog.get_logger()

_TRANSIENT_STATUS = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach OpenMeter. The key never shows in a representation; None where the server needs none."""

    url: str
    key: Callable[[], str | None]
    concurrency: int
    retry_seconds: float
    timeout_seconds: float = REQUEST_TIMEOUT_SECONDS
    """How long an answer may take from the first to the last byte."""


class Connection:
    """Sends requests, which are safe to repeat: they only read, or make what is found to be there the second time."""

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
        self._places = places_at(access.url, access.concurrency)
        self._stop = stop
        self.tally: Tally = Counter()

    @property
    def url(self) -> str:
        """The address as it is configured."""
        return self._access.url

    async def get(self, path: str, endpoint: str) -> object:
        """Return the JSON that answers a GET.

        `path` follows the address, or is an address by itself; `endpoint` names the route, without an id.
        Raise Transient where there is no answer, OpenMeterRefused for a no, and ConfigurationError where the address or
        the key is wrong.
        """
        return await self._retried("GET", endpoint, path, None, None)

    async def post(self, path: str, endpoint: str, body: Mapping[str, Any], read: answers.Read | None = None) -> object:
        """Return the JSON that answers a POST, and of its objects what `read` makes; it raises what `get` does."""
        return await self._retried("POST", endpoint, path, body, read)

    async def _retried(
        self, method: str, endpoint: str, path: str, body: Mapping[str, Any] | None, read: answers.Read | None
    ) -> object:
        send = partial(self._send, method, endpoint, path, body, read)
        return await retried(lambda: self._places, send, self._access.retry_seconds, self._stop)

    async def _send(
        self, method: str, endpoint: str, path: str, body: Mapping[str, Any] | None, read: answers.Read | None
    ) -> object:
        """Send a request and return the answer's JSON: the one place that says what is transient."""
        self._stop.check()
        status = None
        try:
            request = HttpRequest(method, path, json=body)
            # The SDK's own timeout is for each read: a server that sends a byte now and then would never be given up.
            async with asyncio.timeout(self._access.timeout_seconds):
                # What is not streamed the SDK reads as JSON, too, for models that nobody here uses.
                response = await self._client.send_request(request, stream=True)
                async with response:
                    await response.read()
            status = response.status_code
            text, headers = response.text(), response.headers
            del response  # which has the body once more, and that may be of all customers
        except (BaseError, aiohttp.ClientError, TimeoutError, UnicodeDecodeError, RecursionError) as error:
            if distrusted := distrust(error, self.url, "correct OPENMETER_URL"):
                raise ConfigurationError(*distrusted, code="openmeter_address") from error
            why = without_key(cause_of(error), self._access.key())
            raise Transient(f"no complete answer from {self.url}{why}") from error
        finally:
            self.tally[Sent("openmeter", f"{method.lower()} {endpoint}", status)] += 1
        if status in (200, 201):
            return answers.parsed(text, headers.get("Content-Type", ""), read)
        if status in (401, 403):
            raise ConfigurationError(
                f"OpenMeter does not accept the API key (HTTP status {status}); nothing was written",
                "check OPENMETER_API_KEY (or its file), what it may read, and that OPENMETER_URL is the address of its "
                "organization and region",
                code="openmeter_key",
            )
        problem = answers.problem(text)
        # Not in the message: what is the same trouble in each run has the same message.
        log.info("openmeter_refused", path=path, status=status, correlation_id=problem.correlation_id)
        said = without_key(f"HTTP status {status}" + (f": {problem.said}" if problem.said else ""), self._access.key())
        if headers.get("Location") and 300 <= status < 400:
            said = f"it {REDIRECT} (HTTP status {status})"
        if status >= 500 or status in _TRANSIENT_STATUS:
            raise Transient(said, retry_after_seconds(headers.get("Retry-After")))
        raise OpenMeterRefused(said, status)
