"""Endpoints of the embedded Stripe: sessions of the meter event stream, and the stream.

Stripe serves the stream at an address of its own, here it is at the same as everything else. What a request as a whole
is refused for is assumed: what cannot be read as events, no event, or more than 100. All else is found out later. So is
that it heeds no idempotency keys: events have identifiers.
"""

from collections.abc import Mapping
from typing import Any

from meter_sync.sandbox.instants import unix_seconds
from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.error_reports import read_instant
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.parameters import Reader, at_most, group, list_of, text, text_map
from meter_sync.sandbox.stripe.rules.meter_event_identifiers import LONGEST
from meter_sync.sandbox.stripe.views.meter_events import show_event_session
from meter_sync.sandbox.stripe.views.view import Json

STREAM_PATH = "/v2/billing/meter_event_stream"
MOST_EVENTS = 100


def _open_session(call: Call) -> Json:
    session = call.world.event_sessions.open(call.key, call.state.now)
    return show_event_session(call.view, session)


def _stream(call: Call) -> Json:
    call.world.stream_meter_events(call.params["events"])
    return {}


def _second(value: Any, name: str) -> int:
    return unix_seconds(read_instant(value, name))


_FIELDS: Mapping[str, Reader] = {
    "event_name": text,
    "identifier": at_most(LONGEST),
    "payload": text_map,
    "timestamp": _second,
}
_read_events = list_of(group(_FIELDS, required=("event_name", "payload")))


def _events(value: Any, name: str) -> list[Any]:
    found: list[Any] = _read_events(value, name)
    if not 0 < len(found) <= MOST_EVENTS:
        raise Refusal(f"Invalid array: {name} must have 1 to {MOST_EVENTS} events", param=name)
    return found


ENDPOINTS = (
    Endpoint("POST /v2/billing/meter_event_session", "meter_events:write", _open_session),
    Endpoint(
        f"POST {STREAM_PATH}",
        "meter_events:write",
        _stream,
        fields={"events": _events},
        required=("events",),
        replays=False,
    ),
)
