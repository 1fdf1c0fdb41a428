"""Endpoints of the embedded Stripe: billing meters."""

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.protocol.parameters import choice, group, text
from meter_sync.sandbox.stripe.state.objects import Meter
from meter_sync.sandbox.stripe.views.meters import show_meter
from meter_sync.sandbox.stripe.views.view import Json


def _create_meter(call: Call) -> Json:
    params = call.params
    identifier = call.world.add_meter(
        event_name=params["event_name"],
        formula=params["default_aggregation"]["formula"],
        window=params.get("event_time_window"),
        customer_key=params.get("customer_mapping", {}).get("event_payload_key", "stripe_customer_id"),
        value_key=params.get("value_settings", {}).get("event_payload_key", "value"),
        display_name=params["display_name"],
    )
    return show_meter(call.view, call.state.meters[identifier])


def _get_meter(call: Call) -> Json:
    return show_meter(call.view, call.state.meters.find(call.ids[0]))


def _list_meters(call: Call) -> Json:
    status = call.params.get("status")

    def matches(meter: Meter) -> bool:
        return status in (None, "active" if meter.deactivated_at is None else "inactive")

    return page(call, call.state.meters, show_meter, matches)


def _deactivate_meter(call: Call) -> Json:
    call.world.deactivate_meter(call.ids[0])
    return _get_meter(call)


def _reactivate_meter(call: Call) -> Json:
    call.world.reactivate_meter(call.ids[0])
    return _get_meter(call)


ENDPOINTS = (
    Endpoint(
        "POST /v1/billing/meters",
        "billing_meters:write",
        _create_meter,
        fields={
            "display_name": text,
            "event_name": text,
            "default_aggregation": group({"formula": choice("sum", "count", "last")}, required=("formula",)),
            "event_time_window": choice("hour", "day"),
            "customer_mapping": group({"event_payload_key": text, "type": choice("by_id")}),
            "value_settings": group({"event_payload_key": text}),
        },
        required=("display_name", "event_name", "default_aggregation"),
    ),
    Endpoint(
        "GET /v1/billing/meters",
        "billing_meters:read",
        _list_meters,
        fields={**PAGING, "status": choice("active", "inactive")},
    ),
    Endpoint("GET /v1/billing/meters/{}", "billing_meters:read", _get_meter),
    Endpoint("POST /v1/billing/meters/{}/deactivate", "billing_meters:write", _deactivate_meter),
    Endpoint("POST /v1/billing/meters/{}/reactivate", "billing_meters:write", _reactivate_meter),
)
