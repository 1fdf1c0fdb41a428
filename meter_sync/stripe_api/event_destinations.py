"""Event destinations: where Stripe delivers events to, and the secrets that they are signed with.

Source: API reference, Event Destinations (API v2), and the parameter types of stripe-python 16: an address is shown
only where it is asked for, and a secret only in the answer to the request that makes the destination. Whose events it
gets is `events_from`: "@self" is "the account that owns the event destination", "@accounts" "other accounts you
manage", which is what API v1 calls `connect`.

Assumed, since no page says: that a destination for "@accounts" gets the thin events of connected accounts as well as
their snapshots; that a restricted key needs the same permission for it as for one of the account itself; and that
`events_from` cannot be changed, so that for another scope another destination is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AliasPath, Field, SecretStr, StringConstraints

from meter_sync.stripe_api.connection import CURRENT_VERSION, StripeReader, StripeWriter
from meter_sync.stripe_api.paging import PAGE_SIZE, in_doubt
from meter_sync.stripe_api.shapes import Identifier, NotUnderstood, PathIdentifier, Shape, Text

Payload = Literal["snapshot", "thin"]
"""Whether an event brings its object, or only its name."""

_PATH = "/v2/core/event_destinations"
_ENDPOINT = "event_destinations"
_WHAT = "the event destinations"
_URL, _SECRET = "webhook_endpoint.url", "webhook_endpoint.signing_secret"
EventsFrom = Literal["@self", "@accounts"]
"""Whose events a destination gets: those of its own account, or of the accounts that are connected to it."""
OWN: EventsFrom = "@self"
CONNECTED: EventsFrom = "@accounts"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A destination that is wanted."""

    payload: Payload
    events: Sequence[str]
    events_from: EventsFrom = OWN

    @property
    def shown(self) -> str:
        """What it gets, in words."""
        return f"{self.payload} events" + (" of connected accounts" if self.events_from == CONNECTED else "")


class DestinationData(Shape):
    """An event destination."""

    id: PathIdentifier
    type: Text
    enabled_events: list[Text]
    event_payload: Text
    events_from: list[Text] | None = None
    status: Text
    url: Text | None = Field(None, validation_alias=AliasPath("webhook_endpoint", "url"))

    snapshot_api_version: Text | None = None

    def missing(self, wanted: Sequence[str]) -> list[str]:
        """Return the events that it does not get; `*` stands for all that bring their objects."""
        has_all = self.event_payload == "snapshot" and "*" in self.enabled_events
        return [] if has_all else [event for event in wanted if event not in self.enabled_events]

    def is_for(self, url: str, wanted: Wanted) -> bool:
        """Say whether it delivers to an address, and events of that payload from there, whichever these are."""
        is_from_there = wanted.events_from in (self.events_from or [OWN])
        return (self.type, self.event_payload, self.url) == ("webhook_endpoint", wanted.payload, url) and is_from_there


class _Page(Shape):
    data: list[DestinationData]
    next_page_url: Annotated[str, StringConstraints(pattern=r"^/v2/core/event_destinations[?]")] | None = None


class _Made(Shape):
    id: PathIdentifier
    secret: SecretStr | None = Field(None, validation_alias=AliasPath("webhook_endpoint", "signing_secret"))


@dataclass(frozen=True, slots=True)
class Made:
    """A destination that was made, with what its events are signed with; None where Stripe did not say it."""

    id: str
    secret: SecretStr | None


async def event_destinations(stripe: StripeReader) -> list[DestinationData]:
    """Return all event destinations with their addresses, over all pages. Raise what StripeReader raises."""
    found: list[DestinationData] = []
    asked: set[str] = set()
    path: str | None = _PATH
    params: dict[str, Any] = {"include": [_URL], "limit": PAGE_SIZE}
    while path:
        if path in asked:
            raise NotUnderstood(_WHAT, "a page follows itself")
        asked.add(path)
        page = _Page.read(await stripe.get(path, _ENDPOINT, params), _WHAT)
        found += page.data
        path, params = page.next_page_url, {}
    return found


async def create_destination(stripe: StripeWriter, url: str, wanted: Wanted) -> Made:
    """Make a destination for an address. Raise what StripeWriter raises."""
    asked: dict[str, Any] = {
        "name": f"meter-sync ({wanted.shown})",
        "description": "usage-based billing by meter-sync",
        "type": "webhook_endpoint",
        "webhook_endpoint": {"url": url},
        "event_payload": wanted.payload,
        "enabled_events": list(wanted.events),
        "events_from": [wanted.events_from],
        "include": [_URL, _SECRET],
        # It can never be changed, and would else be that of the account's default, of any age.
        **({"snapshot_api_version": CURRENT_VERSION} if wanted.payload == "snapshot" else {}),
    }
    answer = await stripe.create(_PATH, _ENDPOINT, asked)
    with in_doubt():
        made = _Made.read(answer, "the event destination")
    return Made(made.id, made.secret)


async def update_events(stripe: StripeWriter, id: Identifier, events: Sequence[str]) -> None:
    """Set the types of events that a destination gets. Raise what StripeWriter raises."""
    await stripe.post(f"{_PATH}/{id}", _ENDPOINT, {"enabled_events": list(events)})
