"""Endpoint of the embedded Stripe: what the events of a customer on a meter add up to."""

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page_of_rows
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.parameters import choice, text, whole
from meter_sync.sandbox.stripe.rules.meter_event_totals import aggregated, summarized
from meter_sync.sandbox.stripe.rules.meter_windows import WINDOW_SECONDS
from meter_sync.sandbox.stripe.state.objects import Period
from meter_sync.sandbox.stripe.views.meter_events import show_meter_summary
from meter_sync.sandbox.stripe.views.view import Json

_MINUTE = 60


def _list_summaries(call: Call) -> Json:
    """List what a customer's events add up to: newest first; by hour or day only those with events."""
    meter, params = call.state.meters.find(call.ids[0]), call.params
    call.state.customers.find(params["customer"], param="customer", status=400)
    window = params.get("value_grouping_window")
    step = WINDOW_SECONDS[window] if window else _MINUTE
    for name in ("start_time", "end_time"):
        if params[name] % step:
            raise Refusal(f"{name} must be aligned with {window or 'minute'} boundaries.", param=name)
    if params["start_time"] >= params["end_time"]:
        raise Refusal("end_time must be after start_time.", param="end_time")
    span = Period(params["start_time"], params["end_time"])
    until = call.state.now - call.world.summary_lag_seconds
    events = summarized(call.state, meter, params["customer"], span, until)
    starts = {event.timestamp - event.timestamp % step for event in events} if window else {span.start}
    rows = []
    for start in sorted(starts, reverse=True):
        end = start + step if window else span.end
        value = aggregated(meter, [event for event in events if start <= event.timestamp < end])
        rows.append(show_meter_summary(call.view, meter, start, end, value))
    return page_of_rows(call, "meter event summary", rows)


ENDPOINTS = (
    Endpoint(
        "GET /v1/billing/meters/{}/event_summaries",
        "meter_events:read",
        _list_summaries,
        fields={
            **PAGING,
            "customer": text,
            "start_time": whole(0),
            "end_time": whole(0),
            "value_grouping_window": choice("hour", "day"),
        },
        required=("customer", "start_time", "end_time"),
    ),
)
