"""Requests to Stripe: versions, limits, retries and what an error means."""

import math
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import stripe
from aiohttp import ClientError, ClientSession
from stripe import StripeResponse

from meter_sync.effects import effect
from meter_sync.errors import ConfigurationError, Interrupted, TryAgainError
from meter_sync.net.pace import Limiter, request_taken
from meter_sync.net.retry import Patience, Transient, attempt_number, cause_of, retried, retry_after_seconds
from meter_sync.net.session import TIMEOUTS, distrust, without_key
from meter_sync.net.stop import Stop
from meter_sync.net.tally import Sent, Tally

# The SDK would write an id into the user's configuration folder and send it along, with timings.
stripe.enable_telemetry = False

CURRENT_VERSION = "2026-10-28.endive"
"""The version that stripe-python 16 speaks: billing periods are on the subscription items (since basil)."""

USAGE_RECORD_VERSION = "2025-02-24.acacia"
"""The last version with usage records, their summaries and `aggregate_usage`; basil removed them."""

CLOCK_TOLERANCE_SECONDS = 60

_SMOOTHED = 0.25
"""The weight of the newest answer in the latency that is measured: one slow answer is none yet."""

_MOST_AT_ONCE = 16
"""More would only be waiting: 25 requests per second, each of half a second and more."""

_MORE_AT_ONCE = 2
"""Beyond those that fill the rate: an answer is read before the next page is asked for."""

_HOPELESS_AFTER = 16
"""So many requests to an endpoint in a row without any answer but that they are too many, and no other one is tried."""

_NOT_CONNECTED = "account_invalid"
"""Stripe's code for an account that the key has no access to (API reference, Error codes)."""

_NOT_READ = (AttributeError, LookupError, TypeError, ValueError)
"""What the SDK raises for an answer that is no UTF-8, or an error of a shape that it did not expect."""


class StripeRefused(Exception):
    """Stripe understood the request and said no; the message is Stripe's."""

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.code = code

    @property
    def is_missing(self) -> bool:
        """Whether the thing that was asked for does not exist."""
        return self.status == 404 or self.code == "resource_missing"


class PermissionMissing(ConfigurationError):
    """The key may not do this; where a run can make do without, it does."""

    code = "stripe_permission"


class StripeUnavailable(Exception):
    """Stripe gave no usable answer within the retry budget; whether it carried out a write is unknown."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class StripeNotTried(StripeUnavailable):
    """So many requests before this one had no answer that it was not sent at all."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach Stripe. The key never shows in a representation."""

    key: Callable[[], str]
    api_base: str
    retry_seconds: float
    key_setting: str = "STRIPE_API_KEY"
    """What the operator calls the key."""
    permissions: str = "docs/security.md lists"
    """Where the permissions are that it needs, as messages go on after "the permissions that"."""
    account: str | None = None
    """The account that the key acts in, where that is not its own."""
    is_of_organization: bool = False

    def acting_in(self, path: str) -> dict[str, str]:
        """Return what names that account in a request, as the SDK's options have it.

        Source: Stripe documentation, Making API calls for connected accounts: the header Stripe-Account. Stripe-Context
        supersedes it; the keys of an organization need it, and API v2 takes no other one.
        """
        if self.account is None:
            return {}
        by_context = self.is_of_organization or path.startswith("/v2/")
        return {"stripe_context" if by_context else "stripe_account": self.account}


class StripeReader:
    """Reads from Stripe. A dry run has nothing else: it cannot write."""

    def __init__(
        self, access: Access, session: ClientSession, limiter: Limiter, clock: Callable[[], datetime], stop: Stop
    ) -> None:
        self._client = stripe.StripeClient(
            access.key(),
            base_addresses={"api": access.api_base},
            http_client=stripe.AIOHTTPClient(timeout=TIMEOUTS, session=session),
            max_network_retries=0,
        )
        self._access = access
        self._limiter = limiter
        self._clock = clock
        self._stop = stop
        self._clock_compared = False
        self._was_understood = False
        self._latency_seconds: dict[str, float] = {}
        self._patience: defaultdict[str, Patience] = defaultdict(lambda: Patience(_HOPELESS_AFTER))
        self.tally: Tally = Counter()

    @property
    def requests_sent(self) -> int:
        """How many requests were sent so far."""
        return self.tally.total()

    async def get(self, path: str, endpoint: str, params: Mapping[str, Any], version: str = CURRENT_VERSION) -> object:
        """GET `path` with the parameters and return the JSON; `endpoint` names the route for Stripe's limit of each.

        Raise StripeRefused, StripeUnavailable, or ConfigurationError where the key or the clock is wrong.
        """
        return (await self._retried(f"get {endpoint}", lambda: self._send("get", endpoint, path, version, params))).data

    def at_once(self, endpoint: str) -> int:
        """Return how many GETs of an endpoint under way fill the allowed rate at the latency that it has, up to 16."""
        name = f"get {endpoint}"
        under_way = self._limiter.per_second(name) * self._latency_seconds.get(name, 0.0)
        return min(_MOST_AT_ONCE, math.ceil(under_way) + _MORE_AT_ONCE)

    async def _retried(self, endpoint: str, send: Callable[[], Awaitable[StripeResponse]]) -> StripeResponse:
        async def timed() -> StripeResponse:
            began = time.monotonic()
            response = await send()
            seconds, before = time.monotonic() - began, self._latency_seconds.get(endpoint)
            self._latency_seconds[endpoint] = seconds if before is None else before + _SMOOTHED * (seconds - before)
            return response

        patience = self._patience[endpoint]
        if patience.is_lost:
            raise StripeNotTried("Stripe did not answer several requests before this one")
        try:
            response = await retried(lambda: self._place(endpoint), timed, self._access.retry_seconds, self._stop)
        except Transient as failure:
            patience.unanswered()
            raise StripeUnavailable(failure.message) from failure
        except StripeRefused:
            patience.answered()
            raise
        patience.answered()
        return response

    def _place(self, endpoint: str) -> AbstractAsyncContextManager[None]:
        """Return where a request waits for its turn: it is made once, whatever others had for an answer."""
        is_first = attempt_number() == 1
        return self._limiter.slot(endpoint, math.inf if is_first else self._access.retry_seconds)

    async def _send(
        self, method: str, endpoint: str, path: str, version: str, params: Mapping[str, Any]
    ) -> StripeResponse:
        status = None
        try:
            response: StripeResponse = await self._client.raw_request_async(
                method, path, stripe_version=version, **self._access.acting_in(path), **params
            )
            status = response.code
        except (stripe.StripeError, ClientError, TimeoutError, *_NOT_READ) as error:
            status = getattr(error, "http_status", None)
            if status and status < 500 and status != 429:
                request_taken()
            self._compare_clocks(getattr(error, "headers", None))
            raise self._meaning(error, f"{method} {endpoint}") from error
        finally:
            self.tally[Sent("stripe", f"{method} {endpoint}", status)] += 1
        self._compare_clocks(response.headers)
        if not isinstance(response.data, dict):
            raise Transient("Stripe's answer was not a JSON object")
        self._was_understood = True
        request_taken()
        return response

    def _compare_clocks(self, headers: Mapping[str, str] | None) -> None:
        """Hold the local clock against the Date of Stripe's answers, until one has shown that it is right.

        Everything that is billed depends on what "until now" means. Whichever of several first requests is waited for
        says it if it is wrong.
        Raise ConfigurationError if they are more than 60 seconds apart.
        """
        if self._clock_compared:
            return
        try:
            # The header is always GMT (RFC 9110).
            theirs = parsedate_to_datetime((headers or {}).get("Date", "")).replace(tzinfo=UTC)
        except ValueError:
            return
        apart_seconds = (self._clock() - theirs).total_seconds()
        if abs(apart_seconds) > CLOCK_TOLERANCE_SECONDS:
            ahead = "ahead of" if apart_seconds > 0 else "behind"
            raise ConfigurationError(
                f"this machine's clock is {abs(apart_seconds):.0f} s {ahead} Stripe's; nothing was written",
                "set the clock (systemd-timesyncd or chrony keep it right) and run again",
                code="clock",
            )
        self._clock_compared = True

    def _meaning(self, error: Exception, endpoint: str) -> Exception:
        """Given what the SDK raised, return what it means: the one place that says what is transient."""
        remedy = "correct STRIPE_API_BASE, or leave it out"
        if distrusted := distrust(error, self._access.api_base, remedy):
            return ConfigurationError(*distrusted, code="stripe_address")
        if isinstance(error, stripe.APIConnectionError) or not isinstance(error, stripe.StripeError):
            why = without_key(cause_of(error), self._access.key())
            return Transient(f"no complete answer from Stripe at {self._access.api_base}{why}")
        said = without_key(_said(error), self._access.key())
        if isinstance(error, stripe.AuthenticationError):
            return ConfigurationError(
                f"Stripe does not accept the API key: {said}",
                f"check {self._access.key_setting} (or its file): it may be of another account, rolled or incomplete",
                code="stripe_key",
            )
        if isinstance(error, stripe.PermissionError) and error.error and error.error.code == _NOT_CONNECTED:
            return ConfigurationError(
                f"the Stripe key cannot act in {self._access.account or 'an account'}: {said}",
                "connect the account again, or correct stripe.account: one that is not connected any more is out of "
                "the platform's reach",
                code="stripe_account",
            )
        if isinstance(error, stripe.PermissionError):
            return PermissionMissing(
                f"the Stripe key lacks a permission: {said}",
                f"give the restricted key the permissions that {self._access.permissions}",
            )
        wished = retry_after_seconds(_header(error, "Retry-After"))
        if isinstance(error, stripe.RateLimitError):
            # Only the limiter's own 429 has a reason (rate limit documentation); else it is about this one object
            # (`lock_timeout`), and nothing else needs to go slower.
            if reason := _header(error, "Stripe-Rate-Limited-Reason"):
                self._limiter.refused(endpoint, reason, wished)
            return Transient(said, wished, rate_limited=True)
        if _may_pass(error):
            return Transient(said, wished)
        if error.error is None and not self._was_understood:
            return ConfigurationError(
                f"{self._access.api_base} does not answer as Stripe does (HTTP status {error.http_status})",
                remedy,
                code="stripe_address",
            )
        return StripeRefused(said, error.http_status, error.code)


def _nothing() -> None:
    """Do nothing."""


class StripeWriter(StripeReader):
    """Reads and writes; constructed only for a run that may write."""

    async def post(
        self,
        path: str,
        endpoint: str,
        params: Mapping[str, Any],
        version: str = CURRENT_VERSION,
        before_each: Callable[[], None] = _nothing,
    ) -> StripeResponse:
        """POST a write that is idempotent by itself, as `set` is, and return the answer.

        One idempotency key per logical write, kept over its retries: Stripe answers a repeat from memory. It
        replays a stored 500 as well, for at least 24 hours, so after a 5xx a fresh key carries the same write.
        `before_each` is called just before each attempt leaves; what it raises ends the matter, and goes through.
        Raise ConfigurationError; StripeRefused or Interrupted where nothing was carried out for certain; and
        StripeUnavailable where the outcome is unknown, also when a refusal or the run's end came after such an attempt.
        """
        return await self._posted(path, endpoint, params, version, before_each, renews_key=True)

    async def create(
        self, path: str, endpoint: str, params: Mapping[str, Any], version: str = CURRENT_VERSION
    ) -> object:
        """POST what makes a thing, and return the JSON that tells of it.

        One idempotency key over all attempts, also after a 5xx: with another one Stripe could make a second thing.
        It raises what `post` does.
        """
        return (await self._posted(path, endpoint, params, version, _nothing, renews_key=False)).data

    async def delete(self, path: str, endpoint: str, params: Mapping[str, Any]) -> None:
        """DELETE a thing. One that is gone already is refused, so a repeat does no harm. It raises what `get` does."""
        with effect("stripe"):
            await self._retried(
                f"delete {endpoint}", lambda: self._send("delete", endpoint, path, CURRENT_VERSION, params)
            )

    async def _posted(
        self,
        path: str,
        endpoint: str,
        params: Mapping[str, Any],
        version: str,
        before_each: Callable[[], None],
        *,
        renews_key: bool,
    ) -> StripeResponse:
        key = str(uuid.uuid4())
        unanswered: list[Transient] = []

        async def send() -> StripeResponse:
            nonlocal key
            try:
                with effect("stripe"):
                    before_each()
                    return await self._send("post", endpoint, path, version, {**params, "idempotency_key": key})
            except Transient as failure:
                cause = failure.__cause__
                if renews_key and isinstance(cause, stripe.StripeError) and (cause.http_status or 0) >= 500:
                    key = str(uuid.uuid4())
                if not failure.rate_limited:
                    unanswered.append(failure)
                raise

        try:
            return await self._retried(f"post {endpoint}", send)
        except (Interrupted, StripeRefused) as end:
            if not unanswered:
                raise
            raise StripeUnavailable(f"{unanswered[-1].message}; then {end.message}") from end


def unreachable(failure: StripeUnavailable) -> TryAgainError:
    """Given that Stripe gave no answer while listing, return the error that ends the run."""
    return TryAgainError(
        f"Stripe could not be asked: {failure.message}; nothing was written",
        "run again later; if it stays so, check the network and status.stripe.com",
        code="stripe_unreachable",
    )


def _may_pass(error: stripe.StripeError) -> bool:
    """Say whether another attempt may succeed: a conflict, a server's error, or an answer that is no JSON.

    Stripe's own opinion, the header Stripe-Should-Retry, wins (SDK source).
    """
    if _header(error, "Stripe-Should-Retry") == "false":
        return False
    status = error.http_status or 0
    return status == 409 or status >= 500 or (isinstance(error, stripe.APIError) and status < 300)


def _header(error: stripe.StripeError, name: str) -> str | None:
    return (error.headers or {}).get(name)


def _said(error: stripe.StripeError) -> str:
    """Return the message of an error, short enough for a table and without a body that may hold anything."""
    if error.error is None:
        return f"an answer that is not Stripe's (HTTP status {error.http_status})"
    said = str(error.user_message or f"HTTP status {error.http_status}")
    return f"{said} ({error.request_id})" if error.request_id else said
