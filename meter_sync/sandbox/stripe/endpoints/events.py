"""Endpoints of the embedded Stripe: events."""

from fnmatch import fnmatchcase

from meter_sync.sandbox.stripe.endpoints.endpoint import PAGING, Call, Endpoint, page
from meter_sync.sandbox.stripe.protocol.errors import Refusal, no_such
from meter_sync.sandbox.stripe.protocol.parameters import list_of, span, text, within
from meter_sync.sandbox.stripe.rules.events import KEPT_SECONDS
from meter_sync.sandbox.stripe.state.objects import StripeEvent
from meter_sync.sandbox.stripe.views import events as show
from meter_sync.sandbox.stripe.views.catalog import Json


def _show(call: Call, event: StripeEvent) -> Json:
    """Show an event: in the account's version at its time, whatever the request's (API reference, List events)."""
    return show.event(call.state, event, livemode=call.views.livemode)


def _is_kept(call: Call, event: StripeEvent) -> bool:
    return event.created > call.world.clock.timestamp() - KEPT_SECONDS


def _list_events(call: Call) -> Json:
    """List the events of the last 30 days; `type` may end in `*`, `types` names each."""
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

    events = call.state.events
    return page(call, "event", events, events.everything, lambda event: _show(call, event), matches)


def _get_event(call: Call) -> Json:
    event = call.state.events.get(call.ids[0])
    if event is None or not _is_kept(call, event):
        raise no_such("event", call.ids[0])
    return _show(call, event)


ENDPOINTS = (
    Endpoint(
        method="GET",
        template="/v1/events",
        permission="events:read",
        fields={**PAGING, "created": span, "type": text, "types": list_of(text)},
        carry_out=_list_events,
    ),
    Endpoint(method="GET", template="/v1/events/{}", permission="events:read", carry_out=_get_event),
)
