"""The one retry layer: what may pass, a 429 too, is tried again for as long as the budget and patience last."""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import TypeVar

import structlog
import tenacity

from meter_sync.net.stop import Stop

T = TypeVar("T")

log = structlog.get_logger()

_LONGEST_CAUSE = 200

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 20.0


_attempt: ContextVar[int] = ContextVar("attempt", default=1)


def attempt_number() -> int:
    """Return which attempt of a request this task is at, from 1 on."""
    return _attempt.get()


class Transient(Exception):
    """A request failed in a way that another attempt may not.

    `retry_after_seconds` is the server's wish; `rate_limited` says that the server has answered, and wants less.
    """

    def __init__(self, message: str, retry_after_seconds: float = 0.0, *, rate_limited: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.rate_limited = rate_limited


class GivenUp(Transient):
    """The server has refused all requests for so long that no other attempt is made."""


async def retried(
    place: Callable[[], AbstractAsyncContextManager[None]],
    call: Callable[[], Awaitable[T]],
    budget_seconds: float,
    stop: Stop,
) -> T:
    """Call until it does not raise Transient, with jittered exponential back-off, and return what it returns.

    This is the only retry layer: those of both SDKs are off. A server's Retry-After is waited for at least. Each
    attempt is made in a `place`; waiting for one is our own doing and not counted.
    Raise the last Transient once attempts and back-off would exceed `budget_seconds`, or what a place raises as
    GivenUp; Interrupted if the run is to end.
    """
    spent_seconds = 0.0

    def is_over(state: tenacity.RetryCallState) -> bool:
        if state.outcome and isinstance(state.outcome.exception(), GivenUp):
            return True
        return spent_seconds + state.idle_for + state.upcoming_sleep >= budget_seconds

    attempts = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(Transient),
        stop=is_over,
        wait=_wait_seconds,
        sleep=stop.sleep,
        before_sleep=_log_failure,
        reraise=True,
    )

    async def attempt() -> T:
        nonlocal spent_seconds
        _attempt.set(attempts.statistics["attempt_number"])
        async with place():
            began = time.monotonic()
            try:
                return await call()
            finally:
                spent_seconds += time.monotonic() - began

    return await attempts(attempt)


_backoff = tenacity.wait_random_exponential(multiplier=FIRST_WAIT_SECONDS, max=LONGEST_WAIT_SECONDS)


def _wait_seconds(state: tenacity.RetryCallState) -> float:
    failure = state.outcome.exception() if state.outcome else None
    wished = failure.retry_after_seconds if isinstance(failure, Transient) else 0.0
    return max(wished, _backoff(state))


def _log_failure(state: tenacity.RetryCallState) -> None:
    failure = state.outcome.exception() if state.outcome else None
    wait_seconds = round(state.next_action.sleep, 1) if state.next_action else None
    log.info("try_again", attempt=state.attempt_number, wait_seconds=wait_seconds, because=str(failure))


def cause_of(error: BaseException) -> str:
    """Given an error of an SDK, return what lay beneath it in a few words, such as a refused connection."""
    if isinstance(error, TimeoutError):  # whose cause is that the wait for an answer was canceled
        return ": it did not come in time"
    cause = error.__cause__ or error
    said = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
    return f": {said[:_LONGEST_CAUSE]}"


def retry_after_seconds(header: str | None) -> float:
    """Given a Retry-After header, return its seconds; 0 where there is none or it is a date."""
    try:
        return max(0.0, min(float(header or 0), LONGEST_WAIT_SECONDS * 3))
    except ValueError:
        return 0.0


class Patience:
    """Is lost after so many requests in a row without an answer but that less is wanted; each other one restores it."""

    def __init__(self, unanswered_in_a_row: int) -> None:
        self._limit = unanswered_in_a_row
        self._unanswered = 0

    @property
    def is_lost(self) -> bool:
        """Whether the rest is not to be tried in this run."""
        return self._unanswered >= self._limit

    def unanswered(self) -> None:
        """Count a request that had no answer."""
        self._unanswered += 1

    def answered(self) -> None:
        """Begin anew after an answer."""
        self._unanswered = 0
