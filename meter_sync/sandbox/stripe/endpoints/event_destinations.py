"""Endpoints of the embedded Stripe: event destinations, which are of its second API.

What a restricted key needs for them is assumed to be what it needs for the webhook endpoints of the first API.
"""

from urllib.parse import urlencode

from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.protocol.parameters import Reader, choice, group, list_of, text, text_map, whole
from meter_sync.sandbox.stripe.views.event_destinations import SECRET, URL, show_event_destination
from meter_sync.sandbox.stripe.views.view import Json

_USUAL_LIMIT = 20


def _create_destination(call: Call) -> Json:
    params = call.params
    destination = call.world.add_event_destination(
        params["webhook_endpoint"]["url"],
        params["enabled_events"],
        params["event_payload"],
        params["name"],
        description=params.get("description", ""),
        events_from=params.get("events_from", ["@self"]),
        snapshot_api_version=params.get("snapshot_api_version"),
        metadata=params.get("metadata"),
        is_live=call.view.livemode,
    )
    secret = call.world.webhooks.deliver_to(destination)
    return show_event_destination(call.view, destination, params.get("include", ()), secret)


def _get_destination(call: Call) -> Json:
    found = call.state.destinations.find(call.ids[0])
    return show_event_destination(call.view, found, call.params.get("include", ()))


def _list_destinations(call: Call) -> Json:
    """List the destinations, newest first, page by page."""
    params = call.params
    included, limit, first = params.get("include", ()), params.get("limit", _USUAL_LIMIT), params.get("page", 0)
    found = [call.state.destinations[id] for id in call.state.destinations.everything.older_than(None)]
    more = None
    if first + limit < len(found):
        pairs = [("limit", limit), ("page", first + limit)]
        pairs += [(f"include[{place}]", name) for place, name in enumerate(included)]
        more = f"{call.path}?{urlencode(pairs)}"
    shown = [show_event_destination(call.view, each, included) for each in found[first : first + limit]]
    return {"data": shown, "next_page_url": more, "previous_page_url": None}


def _update_destination(call: Call) -> Json:
    params = call.params
    changed = call.world.update_event_destination(
        call.ids[0], events=params.get("enabled_events"), name=params.get("name")
    )
    return show_event_destination(call.view, changed, params.get("include", ()))


_SHOWN: dict[str, Reader] = {"include": list_of(choice(URL))}

ENDPOINTS = (
    Endpoint(
        "POST /v2/core/event_destinations",
        "webhook_endpoints:write",
        _create_destination,
        fields={
            "description": text,
            "enabled_events": list_of(text),
            "event_payload": choice("snapshot", "thin"),
            "events_from": list_of(choice("@self", "@accounts")),
            "include": list_of(choice(URL, SECRET)),
            "metadata": text_map,
            "name": text,
            "snapshot_api_version": text,
            "type": choice("webhook_endpoint"),
            "webhook_endpoint": group({"url": text}, required=("url",)),
        },
        required=("enabled_events", "event_payload", "name", "type", "webhook_endpoint"),
    ),
    Endpoint(
        "GET /v2/core/event_destinations",
        "webhook_endpoints:read",
        _list_destinations,
        fields={**_SHOWN, "limit": whole(1, 100), "page": whole(0)},
    ),
    Endpoint("GET /v2/core/event_destinations/{}", "webhook_endpoints:read", _get_destination, fields=_SHOWN),
    Endpoint(
        "POST /v2/core/event_destinations/{}",
        "webhook_endpoints:write",
        _update_destination,
        fields={**_SHOWN, "enabled_events": list_of(text), "name": text},
    ),
)
