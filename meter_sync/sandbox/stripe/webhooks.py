"""Webhooks: what the embedded Stripe delivers to endpoints of the program, signed as Stripe signs.

Nothing is sent by itself: a test says when, how often and in which order, so that repeated, late and
reordered deliveries happen on purpose. Sources: Stripe documentation, Receive Stripe events in your
webhook endpoint (signatures, retries, "Stripe doesn't guarantee the delivery of events in the order
that they're generated", duplicates), Event destinations (thin events) and Connect webhooks (`account`).
"""

import hashlib
import hmac
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol

from meter_sync.sandbox.stripe.protocol.versions import Version, parse_version
from meter_sync.sandbox.stripe.rules.error_reports import ERROR_REPORT, NO_METER_FOUND
from meter_sync.sandbox.stripe.state.objects import ErrorReport, EventDestination, StripeEvent
from meter_sync.sandbox.stripe.state.stripe_state import StripeState
from meter_sync.sandbox.stripe.views.error_reports import show_thin
from meter_sync.sandbox.stripe.views.events import show_event
from meter_sync.sandbox.stripe.views.view import View

OWN, CONNECTED = "@self", "@accounts"
"""Whose events a destination gets (`events_from`): its account's own, those of connected accounts."""
THIN_EVENTS = (ERROR_REPORT, NO_METER_FOUND)
_TIMEOUT_SECONDS = 30.0


def signature(body: str, secrets: Sequence[str], signed_at: int) -> str:
    """Return the value of `Stripe-Signature`: the time, and one `v1` for each secret that is valid.

    While a secret is rolled the old and the new one are, so there are two.
    """
    signed = f"{signed_at}.{body}".encode()
    values = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    return ",".join([f"t={signed_at}", *(f"v1={value}" for value in values)])


class Source(Protocol):
    """An account whose events are delivered: its own to its endpoints, its connected accounts' to Connect endpoints."""

    def settled(self) -> AbstractContextManager[StripeState]:
        """Hold the lock over its state."""

    @property
    def account(self) -> str:
        """Its id."""

    @property
    def connected(self) -> Mapping[str, "Source"]:
        """The accounts that are connected to it."""

    @property
    def livemode(self) -> bool:
        """Its mode."""


@dataclass
class WebhookEndpoint:
    """An address that events are delivered to."""

    id: str
    url: str
    secrets: list[str]
    events: tuple[str, ...]
    """Types, of which the last part may be `*`. Thin events only come by their own names."""
    api_version: str | None
    """The version that snapshots are shown in; None for that of the event."""
    events_from: tuple[str, ...]
    """Whose events it gets: `OWN`, `CONNECTED` or both."""
    seen: dict[int, int]
    """So many events of each account, by its number, happened before or were looked at."""
    destination: EventDestination | None = None
    """The event destination that it is of, which says which events it gets."""

    def wants(self, kind: str) -> bool:
        """Whether events of this type are delivered here."""
        of = self.destination
        if of is not None:
            is_of_its_payload = (of.payload == "thin") == (kind in THIN_EVENTS)
            return is_of_its_payload and not of.is_disabled and ("*" in of.events or kind in of.events)
        if kind in THIN_EVENTS:
            return kind in self.events
        return any(fnmatchcase(kind, each) for each in self.events)


@dataclass
class Delivery:
    """One event on its way to one endpoint, until it is answered with a status of 2xx."""

    endpoint: WebhookEndpoint
    event: StripeEvent | ErrorReport
    source: Source
    """The account that it happened in."""
    account: str | None
    """That account's id where it is a connected one, as the event then says; else None."""
    answers: list[int | None] = field(default_factory=list)
    """The status codes so far; None for a connection that brought none."""

    @property
    def done(self) -> bool:
        """Whether the endpoint took it."""
        return any(status is not None and 200 <= status < 300 for status in self.answers)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that delivers an event."""

    url: str
    headers: dict[str, str]
    body: str


Sender = Callable[[Attempt], int | None]
"""Sends a request and returns the status of its answer, None for none."""


def post(attempt: Attempt) -> int | None:
    """Send a request over HTTP; a redirect is a failure, as it is to Stripe."""
    # The address is the test's own; no proxy of the machine is asked.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects)
    request = urllib.request.Request(  # noqa: S310
        attempt.url, data=attempt.body.encode(), headers=attempt.headers, method="POST"
    )
    try:
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return None


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object, **__: object) -> None:
        return None


class Webhooks:
    """The endpoints of an account, and what is still to be delivered to them."""

    def __init__(self, owner: Source) -> None:
        self._owner = owner
        self._endpoints: dict[str, WebhookEndpoint] = {}
        self._pending: list[Delivery] = []

    def add_endpoint(
        self,
        url: str,
        *,
        events: Sequence[str] = ("*",),
        secrets: Sequence[str] | None = None,
        api_version: str | None = None,
        connect: bool = False,
    ) -> WebhookEndpoint:
        """Add an endpoint for what happens from now on, by default with a secret of its own.

        With `connect`, Stripe's own parameter, it gets "events from all connected accounts", else "only events from
        your account" (API reference, Create a webhook endpoint).
        """
        return self._added(url, events, secrets, api_version, (CONNECTED,) if connect else (OWN,))

    def _added(
        self,
        url: str,
        events: Sequence[str],
        secrets: Sequence[str] | None,
        api_version: str | None,
        events_from: tuple[str, ...],
    ) -> WebhookEndpoint:
        with self._owner.settled() as state:
            endpoint = WebhookEndpoint(
                id=state.new_id("we"),
                url=url,
                secrets=list(secrets or ())
                or [f"whsec_{state.account.mark[1:].lower()}{state.new_number('whsec'):08d}"],
                events=tuple(events),
                api_version=None if api_version is None else parse_version(api_version).name,
                events_from=events_from,
                seen={},
            )
            for source in self._sources(endpoint):
                _news(endpoint, source)
            self._endpoints[endpoint.id] = endpoint
            return endpoint

    def deliver_to(self, destination: EventDestination) -> str:
        """Deliver to an event destination what happens from now on, and return its secret."""
        endpoint = self._added(
            destination.url, destination.events, None, destination.snapshot_api_version, destination.events_from
        )
        endpoint.destination = destination
        return endpoint.secrets[0]

    def remove_endpoint(self, endpoint: WebhookEndpoint) -> None:
        """Remove an endpoint, and forget what was not delivered to it."""
        with self._owner.settled():
            del self._endpoints[endpoint.id]
            self._pending = [delivery for delivery in self._pending if delivery.endpoint is not endpoint]

    def pending(self) -> list[Delivery]:
        """Return what was not taken yet, in the order in which it happened."""
        with self._owner.settled():
            for endpoint in self._endpoints.values():
                for source in self._sources(endpoint):
                    account = None if source is self._owner else source.account
                    news = [event for event in _news(endpoint, source) if endpoint.wants(event.type)]
                    self._pending += [Delivery(endpoint, event, source, account) for event in news]
            self._pending.sort(key=lambda delivery: delivery.event.created)
            return list(self._pending)

    def deliver(
        self,
        *,
        repeats: int = 1,
        shuffled_by: random.Random | None = None,
        hold_back: Callable[[Delivery], bool] = lambda _: False,
        signed_at: int | None = None,
        send: Sender = post,
    ) -> list[int | None]:
        """Deliver what is pending, and return the status codes in the order of sending.

        Each event is sent so often as `repeats` says, in the order in which it happened or in a random
        one. What is held back, and what is not answered with 2xx, stays pending. It is signed at a time
        in Unix seconds, by default by the real clock, with which the SDK compares it.
        """
        chosen = [delivery for delivery in self.pending() if not hold_back(delivery)]
        due = [delivery for delivery in chosen for _ in range(repeats)]
        if shuffled_by is not None:
            shuffled_by.shuffle(due)
        statuses = []
        for delivery in due:
            attempt = self.attempt(delivery, signed_at=signed_at)
            # Without the lock, since the receiver may ask the embedded Stripe for more before it answers.
            status = send(attempt)
            delivery.answers.append(status)
            statuses.append(status)
        with self._owner.settled():
            self._pending = [delivery for delivery in self._pending if not delivery.done]
        return statuses

    def attempt(self, delivery: Delivery, *, signed_at: int | None = None) -> Attempt:
        """Return the signed request that delivers an event."""
        body = self._body(delivery)
        at = int(time.time()) if signed_at is None else signed_at
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature(body, delivery.endpoint.secrets, at),
        }
        return Attempt(delivery.endpoint.url, headers, body)

    def _sources(self, endpoint: WebhookEndpoint) -> Iterator[Source]:
        """Give the accounts whose events an endpoint gets."""
        if OWN in endpoint.events_from:
            yield self._owner
        if CONNECTED in endpoint.events_from:
            yield from tuple(self._owner.connected.values())

    def _body(self, delivery: Delivery) -> str:
        """Return an event as it is delivered: of a connected account in the version of the platform, which gets it."""
        event, account, version = delivery.event, delivery.account, delivery.endpoint.api_version
        if account is not None and version is None:
            with self._owner.settled() as state:
                version = state.api_version
        with delivery.source.settled() as state:
            view = View(state, Version(state.api_version), livemode=delivery.source.livemode)
            if isinstance(event, ErrorReport):
                return json.dumps({**show_thin(view, event), "context": account})
            shown = show_event(view, event, version=version, pending=1)
        if account is not None:
            shown = {**shown, "account": account, "context": account}
        return json.dumps(shown, indent=2)


def _news(endpoint: WebhookEndpoint, source: Source) -> list[StripeEvent | ErrorReport]:
    """Return what happened in an account since the endpoint was asked about it last, and note that it was."""
    with source.settled() as state:
        first = endpoint.seen.get(state.account.number, 0)
        endpoint.seen[state.account.number] = len(state.news)
        return state.news[first:]
