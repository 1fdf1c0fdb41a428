"""Endpoints of the embedded Stripe: schedules of running subscriptions."""

from typing import Any

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.parameters import choice, group, list_of, text, text_map, whole
from meter_sync.sandbox.stripe.state.schedules import Phase, PhaseItem, Schedule
from meter_sync.sandbox.stripe.views.schedules import show_schedule
from meter_sync.sandbox.stripe.views.view import Json

_ITEM = group({"price": text, "quantity": whole(0)}, required=("price",))
_PHASE = group(
    {
        "billing_cycle_anchor": choice("automatic", "phase_start"),
        "end_date": whole(0),
        "items": list_of(_ITEM),
        "proration_behavior": choice("always_invoice", "create_prorations", "none"),
        "start_date": whole(0),
    },
    required=("items", "end_date"),
)


def _create(call: Call) -> Json:
    return _shown(call, call.world.add_schedule(call.params["from_subscription"]))


def _update(call: Call) -> Json:
    """Give a schedule other phases: each begins where the one before ends, unless it says so."""
    schedule, params = call.state.schedules.find(call.ids[0]), call.params
    if "metadata" in params:
        schedule.metadata = params["metadata"]
    if "phases" in params or "end_behavior" in params:
        phases = _phases(params["phases"]) if "phases" in params else schedule.phases
        call.world.set_phases(schedule.id, phases, params.get("end_behavior", schedule.end_behavior))
    return _shown(call, schedule.id)


def _phases(given: list[dict[str, Any]]) -> list[Phase]:
    phases: list[Phase] = []
    for one in given:
        start = one.get("start_date", phases[-1].end if phases else None)
        if start is None:
            raise Refusal("Missing required param: phases[0][start_date].", param="phases")
        items = tuple(PhaseItem(item["price"], item.get("quantity")) for item in one["items"])
        phases.append(Phase(start, one["end_date"], items, one.get("billing_cycle_anchor") == "phase_start"))
    return phases


def _get(call: Call) -> Json:
    return _shown(call, call.ids[0])


def _list(call: Call) -> Json:
    customer, schedules = call.params.get("customer"), call.state.schedules
    shelf = None if customer is None else schedules.shelf(f"customer:{customer}")
    return page(call, schedules, show_schedule, shelf=shelf)


def _release(call: Call) -> Json:
    call.world.release_schedule(call.ids[0])
    return _shown(call, call.ids[0])


def _cancel(call: Call) -> Json:
    call.world.cancel_schedule(call.ids[0])
    return _shown(call, call.ids[0])


def _shown(call: Call, schedule: str) -> Json:
    found: Schedule = call.state.schedules.find(schedule)
    return show_schedule(call.view, found)


ENDPOINTS = (
    Endpoint(
        "POST /v1/subscription_schedules",
        "subscription_schedules:write",
        _create,
        fields={"from_subscription": text},
        required=("from_subscription",),
    ),
    Endpoint(
        "GET /v1/subscription_schedules", "subscription_schedules:read", _list, fields={**PAGING, "customer": text}
    ),
    Endpoint("GET /v1/subscription_schedules/{}", "subscription_schedules:read", _get),
    Endpoint(
        "POST /v1/subscription_schedules/{}",
        "subscription_schedules:write",
        _update,
        fields={"end_behavior": choice("cancel", "release"), "metadata": text_map, "phases": list_of(_PHASE)},
    ),
    Endpoint("POST /v1/subscription_schedules/{}/release", "subscription_schedules:write", _release),
    Endpoint("POST /v1/subscription_schedules/{}/cancel", "subscription_schedules:write", _cancel),
)
