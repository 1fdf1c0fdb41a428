"""Endpoints of the embedded Stripe: meter events and their cancellation."""

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.protocol.parameters import choice, group, text, text_map, whole
from meter_sync.sandbox.stripe.views.meter_events import show_adjustment, show_meter_event
from meter_sync.sandbox.stripe.views.view import Json


def _create_event(call: Call) -> Json:
    event = call.world.create_meter_event(**call.params)
    return show_meter_event(call.view, event)


def _create_adjustment(call: Call) -> Json:
    cancelled = call.world.cancel_meter_event(call.params["event_name"], call.params["cancel"]["identifier"])
    return show_adjustment(call.view, cancelled)


ENDPOINTS = (
    Endpoint(
        "POST /v1/billing/meter_events",
        "meter_events:write",
        _create_event,
        fields={"event_name": text, "payload": text_map, "timestamp": whole(0), "identifier": text},
        required=("event_name", "payload"),
    ),
    Endpoint(
        "POST /v1/billing/meter_event_adjustments",
        "meter_events:write",
        _create_adjustment,
        fields={
            "event_name": text,
            "type": choice("cancel"),
            "cancel": group({"identifier": text}, required=("identifier",)),
        },
        required=("event_name", "type", "cancel"),
    ),
)
