"""Endpoints of the embedded Stripe: billing meters, their events, summaries and error reports."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from meter_sync.sandbox.stripe.endpoints.endpoint import PAGING, Call, Endpoint, page, page_of_rows
from meter_sync.sandbox.stripe.protocol.errors import Refusal, no_such
from meter_sync.sandbox.stripe.protocol.parameters import Reader, choice, group, list_of, text, text_map, whole
from meter_sync.sandbox.stripe.rules import meters as stripe_meters
from meter_sync.sandbox.stripe.rules.billing_periods import Period
from meter_sync.sandbox.stripe.state.objects import ErrorReport, Meter
from meter_sync.sandbox.stripe.views import meters as show
from meter_sync.sandbox.stripe.views.catalog import Json

_MINUTE = 60
_EVENTS_LISTED_SECONDS = 30 * 86_400
"""How far back error events are listed."""


def _livemode(call: Call) -> bool:
    return call.views.livemode


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
    return show.meter(call.state.meters[identifier], livemode=_livemode(call))


def _get_meter(call: Call) -> Json:
    return show.meter(call.state.meter(call.ids[0]), livemode=_livemode(call))


def _list_meters(call: Call) -> Json:
    status = call.params.get("status")

    def matches(meter: Meter) -> bool:
        return status in (None, "active" if meter.deactivated_at is None else "inactive")

    meters = call.state.meters

    def shown(meter: Meter) -> Json:
        return show.meter(meter, livemode=_livemode(call))

    return page(call, "billing meter", meters, meters.everything, shown, matches)


def _deactivate_meter(call: Call) -> Json:
    call.world.deactivate_meter(call.ids[0])
    return _get_meter(call)


def _reactivate_meter(call: Call) -> Json:
    call.world.reactivate_meter(call.ids[0])
    return _get_meter(call)


def _create_event(call: Call) -> Json:
    event = call.world.create_meter_event(**call.params)
    return show.event(event, livemode=_livemode(call))


def _create_adjustment(call: Call) -> Json:
    cancelled = call.world.cancel_meter_event(call.params["event_name"], call.params["cancel"]["identifier"])
    return show.adjustment(cancelled, livemode=_livemode(call))


def _list_summaries(call: Call) -> Json:
    """List what a customer's events add up to: newest first; by hour or day only those with events."""
    meter, params = call.state.meter(call.ids[0]), call.params
    call.state.customer(params["customer"], param="customer", status=400)
    window = params.get("value_grouping_window")
    step = stripe_meters.WINDOW_SECONDS[window] if window else _MINUTE
    for name in ("start_time", "end_time"):
        if params[name] % step:
            raise Refusal(f"{name} must be aligned with {window or 'minute'} boundaries.", param=name)
    if params["start_time"] >= params["end_time"]:
        raise Refusal("end_time must be after start_time.", param="end_time")
    span = Period(params["start_time"], params["end_time"])
    until = call.world.clock.timestamp() - call.world.summary_lag_seconds
    events = stripe_meters.summarized(call.state, meter, params["customer"], span, until)
    starts = {event.timestamp - event.timestamp % step for event in events} if window else {span.start}
    rows = []
    for start in sorted(starts, reverse=True):
        end = start + step if window else span.end
        value = stripe_meters.aggregated(meter, [event for event in events if start <= event.timestamp < end])
        rows.append(show.summary(meter, start, end, value, livemode=_livemode(call)))
    return page_of_rows(call, "meter event summary", rows)


def _list_error_events(call: Call) -> Json:
    """List the events of the second API that are modelled: newest first, going back 30 days."""
    params = call.params
    since = call.world.clock.timestamp() - _EVENTS_LISTED_SECONDS
    found = [
        report for report in reversed(call.state.reports) if report.created >= since and _is_asked_for(report, params)
    ]
    first, limit = params.get("page", 0), params.get("limit", 20)
    more = None
    if first + limit < len(found):
        more = f"{call.path}?{_query({**params, 'limit': limit, 'page': first + limit})}"
    samples = call.world.samples_per_error
    shown = [show.report(report, samples, livemode=_livemode(call)) for report in found[first : first + limit]]
    return {"data": shown, "next_page_url": more, "previous_page_url": None}


def _query(params: Mapping[str, Any]) -> str:
    """Return the filters and the place of a page as its address has them."""
    pairs = [(name, params[name]) for name in ("limit", "page", "object_id") if name in params]
    pairs += [(f"types[{place}]", kind) for place, kind in enumerate(params.get("types", ()))]
    pairs += [(f"created[{name}]", bound.isoformat()) for name, bound in params.get("created", {}).items()]
    return urlencode(pairs)


def _is_asked_for(report: ErrorReport, params: Mapping[str, Any]) -> bool:
    return (
        report.type in params.get("types", [report.type])
        and params.get("object_id", report.meter) == report.meter
        and _is_within(datetime.fromtimestamp(report.created, UTC), params.get("created", {}))
    )


def _is_within(instant: datetime, bounds: Mapping[str, datetime]) -> bool:
    compared = {
        "gt": instant.__gt__,
        "gte": instant.__ge__,
        "lt": instant.__lt__,
        "lte": instant.__le__,
    }
    return all(compared[name](bound) for name, bound in bounds.items())


def _get_error_event(call: Call) -> Json:
    for report in call.state.reports:
        if report.id == call.ids[0]:
            return show.report(report, call.world.samples_per_error, livemode=_livemode(call))
    raise no_such("event", call.ids[0])


def _instant(value: Any, name: str) -> datetime:
    """Read an instant in RFC 3339, which has a time zone."""
    try:
        instant = datetime.fromisoformat(text(value, name))
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise Refusal(f"Invalid timestamp: {value}", param=name)
    return instant


_CREATED: Reader = group(dict.fromkeys(("gt", "gte", "lt", "lte"), _instant))
_METER = "/v1/billing/meters/{}"

ENDPOINTS = (
    Endpoint(
        method="POST",
        template="/v1/billing/meters",
        permission="billing_meters:write",
        fields={
            "display_name": text,
            "event_name": text,
            "default_aggregation": group({"formula": choice("sum", "count", "last")}, required=("formula",)),
            "event_time_window": choice("hour", "day"),
            "customer_mapping": group({"event_payload_key": text, "type": choice("by_id")}),
            "value_settings": group({"event_payload_key": text}),
        },
        required=("display_name", "event_name", "default_aggregation"),
        carry_out=_create_meter,
    ),
    Endpoint(
        method="GET",
        template="/v1/billing/meters",
        permission="billing_meters:read",
        fields={**PAGING, "status": choice("active", "inactive")},
        carry_out=_list_meters,
    ),
    Endpoint(method="GET", template=_METER, permission="billing_meters:read", carry_out=_get_meter),
    Endpoint(
        method="POST",
        template=f"{_METER}/deactivate",
        permission="billing_meters:write",
        carry_out=_deactivate_meter,
    ),
    Endpoint(
        method="POST",
        template=f"{_METER}/reactivate",
        permission="billing_meters:write",
        carry_out=_reactivate_meter,
    ),
    Endpoint(
        method="POST",
        template="/v1/billing/meter_events",
        permission="meter_events:write",
        fields={"event_name": text, "payload": text_map, "timestamp": whole(0), "identifier": text},
        required=("event_name", "payload"),
        carry_out=_create_event,
    ),
    Endpoint(
        method="POST",
        template="/v1/billing/meter_event_adjustments",
        permission="meter_events:write",
        fields={
            "event_name": text,
            "type": choice("cancel"),
            "cancel": group({"identifier": text}, required=("identifier",)),
        },
        required=("event_name", "type", "cancel"),
        carry_out=_create_adjustment,
    ),
    Endpoint(
        method="GET",
        template=f"{_METER}/event_summaries",
        permission="meter_events:read",
        fields={
            **PAGING,
            "customer": text,
            "start_time": whole(0),
            "end_time": whole(0),
            "value_grouping_window": choice("hour", "day"),
        },
        required=("customer", "start_time", "end_time"),
        carry_out=_list_summaries,
    ),
    Endpoint(
        method="GET",
        template="/v2/core/events",
        permission="events:read",
        fields={
            "types": list_of(text),
            "created": _CREATED,
            "object_id": text,
            "limit": whole(1, 100),
            "page": whole(0),
        },
        carry_out=_list_error_events,
    ),
    Endpoint(method="GET", template="/v2/core/events/{}", permission="events:read", carry_out=_get_error_event),
)
