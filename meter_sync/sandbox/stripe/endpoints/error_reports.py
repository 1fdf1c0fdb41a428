"""Endpoints of the embedded Stripe: error reports, the events of the second API that are modelled."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from meter_sync.sandbox.instants import from_unix
from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.protocol.errors import Refusal, no_such
from meter_sync.sandbox.stripe.protocol.parameters import Reader, group, list_of, text, whole, within
from meter_sync.sandbox.stripe.state.objects import ErrorReport
from meter_sync.sandbox.stripe.views.error_reports import show_error_report
from meter_sync.sandbox.stripe.views.view import Json

_LISTED_SECONDS = 30 * 86_400
"""How far back they are listed."""


def _list_error_events(call: Call) -> Json:
    """List the events of the second API that are modelled: newest first, going back 30 days."""
    params = call.params
    since = call.state.now - _LISTED_SECONDS
    found = [
        report for report in reversed(call.state.reports) if report.created >= since and _is_asked_for(report, params)
    ]
    first, limit = params.get("page", 0), params.get("limit", 20)
    more = None
    if first + limit < len(found):
        more = f"{call.path}?{_query({**params, 'limit': limit, 'page': first + limit})}"
    samples = call.world.samples_per_error
    shown = [show_error_report(call.view, report, samples) for report in found[first : first + limit]]
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
        and within(params.get("created"), from_unix(report.created))
    )


def _get_error_event(call: Call) -> Json:
    for report in call.state.reports:
        if report.id == call.ids[0]:
            return show_error_report(call.view, report, call.world.samples_per_error)
    raise no_such("event", call.ids[0])


def read_instant(value: Any, name: str) -> datetime:
    """Read an instant in RFC 3339, which has a time zone."""
    try:
        instant = datetime.fromisoformat(text(value, name))
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise Refusal(f"Invalid timestamp: {value}", param=name)
    return instant


_CREATED: Reader = group(dict.fromkeys(("gt", "gte", "lt", "lte"), read_instant))

ENDPOINTS = (
    Endpoint(
        "GET /v2/core/events",
        "events:read",
        _list_error_events,
        fields={
            "types": list_of(text),
            "created": _CREATED,
            "object_id": text,
            "limit": whole(1, 100),
            "page": whole(0),
        },
    ),
    Endpoint("GET /v2/core/events/{}", "events:read", _get_error_event),
)
