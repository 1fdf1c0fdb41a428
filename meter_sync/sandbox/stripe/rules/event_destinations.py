"""Event destinations: where events are delivered to, and in which form.

Sources: API reference, Event Destinations; object types and parameters of stripe-python 16; Stripe's documentation of
event destinations (at most 16 for an account).
"""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.state.objects import EventDestination, Payload
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

MOST = 16
_THIN = ("v1.", "v2.")
"""So begin the names of thin events."""


def add_event_destination(
    state: StripeState,
    url: str,
    events: Sequence[str],
    payload: Payload,
    name: str = "Events",
    *,
    description: str = "",
    events_from: Sequence[str] = ("@self",),
    snapshot_api_version: str | None = None,
    metadata: Mapping[str, str] | None = None,
    is_live: bool = False,
) -> EventDestination:
    """Add a webhook endpoint for events of these types, of one payload, and return it."""
    if len(state.destinations) >= MOST:
        raise Refusal(f"An account can have at most {MOST} event destinations.")
    if payload == "thin" and snapshot_api_version is not None:
        raise Refusal("Thin events have no API version.", param="snapshot_api_version")
    _check_events(events, payload)
    parts = urlsplit(url)
    if parts.scheme not in (("https",) if is_live else ("https", "http")) or not parts.hostname:
        raise Refusal("The URL must be https; in a sandbox http will do.", param="webhook_endpoint.url")
    destination = EventDestination(
        id=state.new_id("ed"),
        created=state.now,
        updated=state.now,
        name=name,
        description=description,
        url=url,
        payload=payload,
        events=tuple(events),
        events_from=tuple(events_from),
        snapshot_api_version=snapshot_api_version or (state.api_version if payload == "snapshot" else None),
        metadata=dict(metadata or {}),
    )
    state.destinations.add(destination)
    return destination


def update_event_destination(
    state: StripeState, id: str, *, events: Sequence[str] | None = None, name: str | None = None
) -> EventDestination:
    """Change what a destination is told of, or its name; what is None stays."""
    destination = state.destinations.find(id)
    if events is not None:
        _check_events(events, destination.payload)
        destination.events = tuple(events)
    destination.name = name or destination.name
    destination.updated = state.now
    return destination


def disable_event_destination(state: StripeState, id: str) -> None:
    """Deliver nothing more there."""
    state.destinations.find(id).is_disabled = True


def _check_events(events: Sequence[str], payload: Payload) -> None:
    """Refuse no events, and those that have not the payload."""
    wrong = [event for event in events if event != "*" and event.startswith(_THIN) != (payload == "thin")]
    if wrong or not events:
        raise Refusal(
            f"Invalid enabled_events for {payload} events: {', '.join(wrong) or 'none'}", param="enabled_events"
        )
