"""The meter event stream of Stripe's second API: up to 100 events a request, in live mode only.

What it says is less than what `send_event` is told: a request is taken as a whole, and whether an event counts is found
out later (API reference, Meter event streams). So it is for events that set, and may be set again; not for those that
add, which need to be told whether Stripe had them already.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Annotated
from urllib.parse import urlsplit

import structlog
from pydantic import StringConstraints

from meter_sync.errors import ConfigurationError, Interrupted, MeterSyncError
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable, StripeWriter
from meter_sync.stripe_api.meter_events import Event
from meter_sync.stripe_api.shapes import Shape

log = structlog.get_logger()

METER_EVENT_STREAM = "meter_event_stream"
"""The route that has a rate limit of its own."""
MOST_EVENTS = 100
"""In one request (API reference)."""
REQUESTS_PER_SECOND = 10_000 / MOST_EVENTS
"""Stripe's limit is of events in live mode (documentation of usage-based billing)."""
LONGEST_TRIED_SECONDS = 30.0
"""There is another way: what is claimed until it is written must not wait for this one any longer."""

_OF_STRIPE, _OF_ITS_STREAM = "api.stripe.com", "https://meter-events.stripe.com"
_NO_SESSION = "no session could be opened: {}"
_EXPIRED = "billing_meter_event_session_expired"


class Session(Shape):
    """A session of the stream. When it ends is not read: a request that comes too late says so, and is sent again."""

    authentication_token: Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,4096}$")]


class BatchNotTaken(Exception):
    """Events were not taken by the stream, as far as is known; each can be sent by itself, under its identifier."""

    def __init__(self, message: str, *, in_doubt: bool) -> None:
        super().__init__(message)
        self.message = message
        self.in_doubt = in_doubt
        """Whether they may have arrived all the same."""


def stream_base(api_base: str) -> str:
    """Given the address of Stripe's API, return that of its stream.

    Stripe has another host for it (API reference). At any other address, a gateway's or the sandbox's, it is assumed
    that whatever answers there for the API does so for the stream.
    """
    return _OF_ITS_STREAM if urlsplit(api_base).hostname == _OF_STRIPE else api_base


class MeterEventStream:
    """Sends events by the hundred, with a token that is renewed when Stripe says that it has expired."""

    def __init__(self, stripe: StripeWriter, with_token: Callable[[str], StripeWriter]) -> None:
        """Given what opens sessions, and how to talk to the stream with a token."""
        self._stripe = stripe
        self._with_token = with_token
        self._session: StripeWriter | None = None
        self._turn = asyncio.Lock()
        self.is_usable = True
        """Whether the rest of the run may use it."""

    async def open(self) -> None:
        """Open a session, unless the run is to end; where that fails the stream is not usable. It raises nothing."""
        try:
            await self._session_after(None)
        except Interrupted:
            return
        except (StripeRefused, StripeUnavailable, MeterSyncError) as error:
            self._close(_NO_SESSION.format(error.message))

    async def send(self, events: Sequence[Event], before_each: Callable[[], None]) -> str | None:
        """Send up to 100 events in one request, and return Stripe's name for it once they are taken.

        Stripe drops an event whose identifier it has had within 24 hours, so that a repeat changes nothing (API
        reference; that it does so without an error of its own is assumed).
        Raise BatchNotTaken, also where the run is to end, and what `before_each` does, which is called before each
        attempt.
        """
        in_doubt = False
        expired: StripeWriter | None = None
        while True:
            session = None
            try:
                session = await self._session_after(expired)
                body = {"events": [_shown(event) for event in events]}
                path = f"/v2/billing/{METER_EVENT_STREAM}"
                return (await session.post(path, METER_EVENT_STREAM, body, before_each=before_each)).request_id
            except Interrupted as end:
                raise BatchNotTaken(end.message, in_doubt=in_doubt) from end
            except (StripeRefused, StripeUnavailable, MeterSyncError) as error:
                in_doubt = in_doubt or (session is not None and not isinstance(error, StripeRefused))
                if session and not expired and _has_expired(error):
                    expired = session
                    continue
                if session is None:
                    self._close(_NO_SESSION.format(error.message))
                elif not _is_about_events(error):
                    self._close(error.message)
                raise BatchNotTaken(error.message, in_doubt=in_doubt) from error

    async def _session_after(self, expired: StripeWriter | None) -> StripeWriter:
        """Return a session other than the one that has expired: opened once, however many requests wait for it.

        Raise StripeRefused where the stream is not usable any more, or what `post` does, or NotUnderstood.
        """
        async with self._turn:
            if not self.is_usable:
                raise StripeRefused("the stream is not usable")
            if self._session is None or self._session is expired:
                answer = await self._stripe.post("/v2/billing/meter_event_session", "meter_event_session", {})
                token = Session.read(answer.data, "a session of the meter event stream").authentication_token
                self._session = self._with_token(token)
            return self._session

    def _close(self, why: str) -> None:
        if self.is_usable:
            log.warning("meter_event_stream_unusable", message=f"events are sent one by one: {why}")
        self.is_usable = False


def _has_expired(error: Exception) -> bool:
    """Say whether an error is about the session's token: by its code, or by its status (API reference)."""
    refusal = error.__cause__ if isinstance(error, StripeUnavailable) else error
    if isinstance(refusal, StripeRefused):
        return refusal.status == 401 or refusal.code == _EXPIRED
    return isinstance(error, ConfigurationError) and error.code == "stripe_key"


def _is_about_events(error: Exception) -> bool:
    """Say whether Stripe refused these events, and not the session, the address or the key: others may be taken."""
    return isinstance(error, StripeRefused) and not error.is_missing and not _has_expired(error)


def _shown(event: Event) -> dict[str, object]:
    """Return an event as the second API takes it: with a timestamp in RFC 3339."""
    stamp = event.timestamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    named = {"event_name": event.meter.event_name, "identifier": event.identifier}
    return {**named, "payload": event.payload, "timestamp": stamp}
