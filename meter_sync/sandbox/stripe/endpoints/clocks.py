"""Endpoints of the embedded Stripe: test clocks."""

from meter_sync.sandbox.instants import from_unix
from meter_sync.sandbox.stripe.endpoints.endpoint import Call, Endpoint
from meter_sync.sandbox.stripe.endpoints.paging import PAGING, page
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.protocol.parameters import text, whole
from meter_sync.sandbox.stripe.views.clocks import show_test_clock
from meter_sync.sandbox.stripe.views.view import Json


def _check_mode(call: Call) -> None:
    """Refuse test clocks in live mode, which has none (Stripe's own words were not found)."""
    if call.view.livemode:
        raise Refusal("Test clocks are only available in test mode.")


def _create(call: Call) -> Json:
    _check_mode(call)
    id = call.world.add_test_clock(from_unix(call.params["frozen_time"]), name=call.params.get("name"))
    return show_test_clock(call.view, call.state.test_clocks[id])


def _get(call: Call) -> Json:
    _check_mode(call)
    return show_test_clock(call.view, call.state.test_clocks.find(call.ids[0]))


def _list(call: Call) -> Json:
    _check_mode(call)
    return page(call, call.state.test_clocks, show_test_clock)


def _advance(call: Call) -> Json:
    _check_mode(call)
    call.world.advance_test_clock(call.ids[0], from_unix(call.params["frozen_time"]))
    return show_test_clock(call.view, call.state.test_clocks.find(call.ids[0]))


ENDPOINTS = (
    Endpoint(
        "POST /v1/test_helpers/test_clocks",
        "test_clocks:write",
        _create,
        fields={"frozen_time": whole(0), "name": text},
        required=("frozen_time",),
    ),
    Endpoint("GET /v1/test_helpers/test_clocks", "test_clocks:read", _list, fields=PAGING),
    Endpoint("GET /v1/test_helpers/test_clocks/{}", "test_clocks:read", _get),
    Endpoint(
        "POST /v1/test_helpers/test_clocks/{}/advance",
        "test_clocks:write",
        _advance,
        fields={"frozen_time": whole(0)},
        required=("frozen_time",),
    ),
)
