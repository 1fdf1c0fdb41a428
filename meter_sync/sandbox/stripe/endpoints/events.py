"""Endpoints of the embedded Stripe: events."""

from fnmatch import fnmatchcase

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.protocol.errors import Refusal, no_such
from meter_sync.sandbox.stripe.protocol.parameters import list_of, span, text, within
from meter_sync.sandbox.stripe.rules.events import KEPT_SECONDS
from meter_sync.sandbox.stripe.state.objects import StripeEvent
from meter_sync.sandbox.stripe.views.events import show_event
from meter_sync.sandbox.stripe.views.view import Json


def _is_kept(call: Call, event: StripeEvent) -> bool:
    return event.created > call.state.now - KEPT_SECONDS


def _list_events(call: Call) -> Json:
    """List the events of the last 30 days; `type` may end in `*`, `types` names each.

    Those of test clocks are among them (assumed: lists omit what is of test clocks, but this one has no parent to ask).
    """
    params = call.params
    if "type" in params and "types" in params:
        raise Refusal("You may only specify one of these parameters: type, types.", param="type")

    def matches(event: StripeEvent) -> bool:
        return (
            _is_kept(call, event)
            and ("type" not in params or fnmatchcase(event.type, params["type"]))
            and ("types" not in params or event.type in params["types"])
            and within(params.get("created"), event.created)
        )

    return page(call, call.state.events, show_event, matches)


def _get_event(call: Call) -> Json:
    event = call.state.events.find(call.ids[0])
    if not _is_kept(call, event):
        raise no_such("event", call.ids[0])
    return show_event(call.view, event)


ENDPOINTS = (
    Endpoint(
        "GET /v1/events",
        "events:read",
        _list_events,
        fields={**PAGING, "created": span, "type": text, "types": list_of(text)},
    ),
    Endpoint("GET /v1/events/{}", "events:read", _get_event),
)
