"""Endpoints of the embedded Stripe: usage records and their summaries."""

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page_of_rows
from meter_sync.sandbox.stripe.protocol.parameters import choice, instant_or_now, whole
from meter_sync.sandbox.stripe.views.usage_records import show_summaries, show_usage_record
from meter_sync.sandbox.stripe.views.view import Json


def _create_usage_record(call: Call) -> Json:
    quantity = call.params["quantity"]
    timestamp = call.world.create_usage_record(
        call.ids[0],
        quantity,
        call.params.get("timestamp"),
        call.params.get("action", "increment"),
    )
    number = call.state.new_number("usage_record")
    return show_usage_record(call.view, call.state.items[call.ids[0]], timestamp, quantity, number)


def _list_summaries(call: Call) -> Json:
    """List the usage of each period: newest first, the first being the open one."""
    item = call.state.item(call.ids[0], param="subscription_item")
    return page_of_rows(
        call, "usage_record_summary", show_summaries(call.view, item, call.world.summaries_without_bounds)
    )


ENDPOINTS = (
    Endpoint(
        "POST /v1/subscription_items/{}/usage_records",
        "usage_records:write",
        _create_usage_record,
        fields={
            "action": choice("increment", "set"),
            "quantity": whole(0),
            "timestamp": instant_or_now,
        },
        required=("quantity",),
        legacy_billing=True,
    ),
    Endpoint(
        "GET /v1/subscription_items/{}/usage_record_summaries",
        "usage_records:read",
        _list_summaries,
        fields=PAGING,
        legacy_billing=True,
    ),
)
