"""Faults hit what they are meant to hit, and do exactly what they say."""

import email.utils
import http.client
import time
from datetime import UTC, datetime, timedelta

import pytest

from meter_sync.sandbox import Fault, Sandbox

from .wire import OpenMeterWire, StripeWire

START = datetime(2026, 11, 1, tzinfo=UTC)
ANCHOR = int(START.timestamp()) + 1
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)


@pytest.fixture
def item(sandbox: Sandbox) -> str:
    world = sandbox.stripe
    view = world.add_subscription(world.add_customer(), [world.add_price()], period_start=START)
    return view.items[0]


def test_a_status_is_answered_without_carrying_the_request_out(sandbox: Sandbox, stripe: StripeWire, item: str) -> None:
    sandbox.faults.add(Fault(path="usage_records$", status=503, headers={"Retry-After": "3"}))
    reply = stripe.record(item, 5, timestamp=ANCHOR)
    assert (reply.status, reply.headers["Retry-After"]) == (503, "3")
    assert reply.error["type"] == "api_error"
    assert sandbox.stripe.records(item) == {}
    assert stripe.record(item, 5, timestamp=ANCHOR).status == 200


def test_openmeter_fails_in_its_own_shape_and_without_detail(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    sandbox.faults.add(Fault(server="openmeter", status=500))
    reply = openmeter("GET", "/api/v1/meters")
    assert reply.headers["Content-Type"].startswith("application/problem+json")
    assert (reply.json["status"], reply.json["title"]) == (500, "Internal Server Error")
    assert "detail" not in reply.json


def test_a_connection_dropped_before_leaves_nothing_and_dropped_after_leaves_the_record(
    sandbox: Sandbox, stripe: StripeWire, item: str
) -> None:
    sandbox.faults.add(Fault(drop="before"))
    sandbox.faults.add(Fault(drop="after"))
    with pytest.raises(http.client.RemoteDisconnected):
        stripe.record(item, 5, timestamp=ANCHOR)
    assert sandbox.stripe.records(item) == {}
    with pytest.raises(http.client.RemoteDisconnected):
        stripe.record(item, 5, timestamp=ANCHOR)
    assert sandbox.stripe.records(item) == {ANCHOR: 5}
    assert [seen.status for seen in sandbox.requests] == [None, None]


def test_a_truncated_answer_ends_early_but_was_carried_out(sandbox: Sandbox, stripe: StripeWire, item: str) -> None:
    sandbox.faults.add(Fault(truncate=True))
    with pytest.raises(http.client.IncompleteRead) as cut:
        stripe.record(item, 5, timestamp=ANCHOR)
    assert cut.value.expected is not None
    assert 0 < len(cut.value.partial) <= cut.value.expected + 1
    assert sandbox.stripe.records(item) == {ANCHOR: 5}


def test_an_answer_can_be_late_or_be_something_else(sandbox: Sandbox, openmeter: OpenMeterWire) -> None:
    sandbox.faults.add(Fault(delay_seconds=0.05))
    sandbox.faults.add(Fault(replace_text="<html>", replace_content_type="text/html"))
    before = time.monotonic()
    assert openmeter("GET", "/api/v1/meters").json == []
    assert time.monotonic() - before >= 0.05
    reply = openmeter("GET", "/api/v1/meters")
    assert (reply.status, reply.text) == (200, "<html>")
    assert reply.headers["Content-Type"].startswith("text/html")


def test_an_answer_can_come_in_drops_under_another_name_or_with_very_much_after_it(
    sandbox: Sandbox, openmeter: OpenMeterWire
) -> None:
    sandbox.openmeter.add_meter("tokens", aggregation="SUM")
    sandbox.faults.add(Fault(drip_seconds=0.05))
    sandbox.faults.add(Fault(relabel="text/html"))
    sandbox.faults.add(Fault(fill_bytes=100_000))
    sandbox.faults.add(Fault(fill_bytes=100_000, chunked=True))
    before = time.monotonic()
    slow, relabelled, announced, unannounced, true = (openmeter("GET", "/api/v1/meters") for _ in range(5))
    assert time.monotonic() - before >= 0.05
    assert slow.text == relabelled.text == true.text
    assert relabelled.headers["Content-Type"] == "text/html"
    assert announced.text == unannounced.text == true.text + 100_000 * " "
    assert announced.headers["Content-Length"] == str(len(announced.text))
    assert "Content-Length" not in unannounced.headers


def test_a_redirect_is_a_status_with_a_header(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.faults.add(Fault(status=302, headers={"Location": "http://127.0.0.1:1/"}, text="away"))
    reply = stripe("GET", "/v1/prices")
    assert (reply.status, reply.headers["Location"]) == (302, "http://127.0.0.1:1/")
    assert reply.text == "away"


def test_a_fault_skips_counts_and_chooses_by_method_path_body_and_query(
    sandbox: Sandbox, stripe: StripeWire, item: str
) -> None:
    sandbox.faults.add(Fault(method="POST", body="quantity=7", skip=1, times=2, status=502))
    sandbox.faults.add(Fault(method="GET", body="limit=3", times=None, status=502))
    sevens = [stripe.record(item, 7, timestamp=ANCHOR).status for _ in range(4)]
    assert sevens == [200, 502, 502, 200]
    assert stripe.record(item, 8, timestamp=ANCHOR).status == 200
    limited = [stripe("GET", "/v1/prices", {"limit": limit}).status for limit in (3, 4, 3)]
    assert limited == [502, 200, 502]
    sandbox.faults.clear()
    assert stripe("GET", "/v1/prices", {"limit": 3}).status == 200


def test_a_500_is_saved_under_its_idempotency_key_and_a_503_is_not(
    sandbox: Sandbox, stripe: StripeWire, item: str
) -> None:
    path = f"/v1/subscription_items/{item}/usage_records"
    params = {"quantity": 1, "timestamp": ANCHOR, "action": "set"}
    for status in (500, 503):
        sandbox.faults.add(Fault(status=status))
        assert stripe("POST", path, params, idempotency_key=f"k{status}").status == status
    replayed = stripe("POST", path, params, idempotency_key="k500")
    assert (replayed.status, replayed.headers["Idempotent-Replayed"]) == (500, "true")
    assert stripe("POST", path, params, idempotency_key="k503").status == 200
    assert stripe("POST", path, params, idempotency_key="fresh").status == 200


def test_a_fault_has_exactly_one_effect() -> None:
    with pytest.raises(ValueError, match="exactly one effect"):
        Fault(status=500, drop="after")
    with pytest.raises(ValueError, match="exactly one effect"):
        Fault(path="/v1/prices")


def test_requests_are_noted_with_what_they_said_but_without_the_key(
    sandbox: Sandbox, stripe: StripeWire, item: str
) -> None:
    stripe.record(item, 5, timestamp=ANCHOR)
    (seen,) = sandbox.requests
    assert (seen.server, seen.method, seen.status) == ("stripe", "POST", 200)
    assert seen.body == f"quantity=5&timestamp={ANCHOR}"
    assert seen.headers["authorization"] == "Bearer ****"
    assert sandbox.stripe_key not in repr(seen)
    sandbox.requests.clear()
    assert sandbox.requests == []


def test_the_date_header_is_real_time_plus_a_skew_whatever_the_clock_says(sandbox: Sandbox, stripe: StripeWire) -> None:
    def seconds_off() -> float:
        shown = email.utils.parsedate_to_datetime(stripe("GET", "/v1/prices").headers["Date"])
        return shown.timestamp() - time.time()

    assert abs(seconds_off()) < 10
    sandbox.date_skew_seconds = 600.0
    assert abs(seconds_off() - 600) < 10


def test_a_port_in_use_is_an_error_at_once(sandbox: Sandbox) -> None:
    taken = int(sandbox.stripe_url.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="address"), Sandbox().in_background(stripe_port=taken):
        pytest.fail("two servers on one port")


def test_a_fault_may_begin_and_end_at_an_instant_of_the_sandboxs_clock(sandbox: Sandbox, stripe: StripeWire) -> None:
    begins, ends = sandbox.clock.now() + HOUR, sandbox.clock.now() + 2 * HOUR
    sandbox.faults.add(Fault(path="prices$", status=500, times=None, since=begins, until=ends))
    sandbox.faults.add(Fault(path="prices$", status=503, since=ends))
    answered = []
    for instant in (begins - SECOND, begins, ends - SECOND, ends, ends):
        sandbox.clock.move_to(instant)
        answered.append(stripe("GET", "/v1/prices").status)
    assert answered == [200, 500, 500, 503, 200]
    with pytest.raises(ValueError, match="begins before it ends"):
        Fault(status=500, since=ends, until=begins)


def test_a_fault_can_be_of_one_account_while_others_go_on(
    sandbox: Sandbox, stripe: StripeWire, openmeter: OpenMeterWire
) -> None:
    down, up, other = sandbox.connect_account(), sandbox.connect_account(), sandbox.add_account()
    sandbox.faults.add(Fault(account=down.account, status=503, times=None))
    sandbox.faults.add(Fault(account=other.account, status=500, times=None))

    def status(connected: str | None = None, key: str | None = None, header: str = "Stripe-Account") -> int:
        return stripe("GET", "/v1/prices", headers={header: connected} if connected else {}, key=key).status

    assert [status(), status(down.account), status(up.account)] == [200, 503, 200]
    assert [status(key=other.key), status(down.account, header="Stripe-Context")] == [500, 503]
    assert openmeter("GET", "/api/v1/meters").status == 200
    sandbox.faults.clear()
    assert [status(down.account), status(key=other.key)] == [200, 200]
