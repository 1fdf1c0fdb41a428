"""The embedded Stripe's meter event stream: sessions, what a request is refused for, and what is found out later."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from stripe import StripeClient, TemporarySessionExpiredError

from meter_sync.sandbox import RateLimits, Sandbox

from .instants import NOW
from .metering import Meter, codes, errors
from .wire import Reply, StripeWire, send

KEY = "sk_live_stream"
SESSION, STREAM = "/v2/billing/meter_event_session", "/v2/billing/meter_event_stream"


@pytest.fixture(autouse=True)
def _live(sandbox: Sandbox) -> None:
    sandbox.stripe.keys[KEY] = None


def ask(sandbox: Sandbox, path: str, body: Any, key: str = KEY) -> Reply:
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return send("POST", sandbox.stripe_url + path, headers, json.dumps(body).encode())


def token_of(sandbox: Sandbox) -> str:
    return str(ask(sandbox, SESSION, {}).json["authentication_token"])


def event(customer: str, value: object = "5", at: datetime = NOW, **fields: Any) -> dict[str, Any]:
    payload = {"stripe_customer_id": customer, "value": value}
    return {"event_name": "api_requests", "payload": payload, "timestamp": at.isoformat(), **fields}


def test_the_sdk_opens_a_session_and_streams_events_that_count(sandbox: Sandbox, metered: Meter) -> None:
    usage, url = metered(), sandbox.stripe_url
    session = StripeClient(KEY, base_addresses={"api": url}).v2.billing.meter_event_session.create()
    assert session.livemode
    assert datetime.fromisoformat(session.expires_at) - datetime.fromisoformat(session.created) == timedelta(minutes=15)
    client = StripeClient(session.authentication_token, base_addresses={"meter_events": url})
    client.v2.billing.meter_event_stream.create({"events": [event(usage.customer), event(usage.customer, "2")]})  # type: ignore[list-item]
    assert usage.upcoming() == 7
    sandbox.clock.advance(timedelta(minutes=15))
    with pytest.raises(TemporarySessionExpiredError) as refusal:
        client.v2.billing.meter_event_stream.create({"events": [event(usage.customer)]})  # type: ignore[list-item]
    assert (refusal.value.http_status, refusal.value.code) == (401, "billing_meter_event_session_expired")


def test_a_token_is_for_the_stream_alone_and_a_key_is_not_for_the_stream(sandbox: Sandbox, stripe: StripeWire) -> None:
    token = token_of(sandbox)
    assert ask(sandbox, STREAM, {"events": [event("cus_1")]}, token).status == 200
    assert ask(sandbox, STREAM, {"events": [event("cus_1")]}).status == 401
    assert stripe("GET", "/v1/prices", key=token).status == 401


def test_there_is_no_session_but_in_live_mode(sandbox: Sandbox) -> None:
    assert ask(sandbox, SESSION, {}, sandbox.stripe_key).status == 400


@pytest.mark.parametrize(
    "events",
    [
        [],
        [event("cus_1")] * 101,
        "all",
        [{**event("cus_1"), "payload": "5"}],
        [{**event("cus_1"), "event_name": None}],
        [{**event("cus_1"), "timestamp": "2026-11-10T12:00:00"}],
        [{**event("cus_1"), "identifier": "x" * 101}],
        [{**event("cus_1"), "value": "5"}],
    ],
    ids=["none", "too many", "no list", "no payload", "no name", "no time zone", "long identifier", "unknown field"],
)
def test_a_request_that_cannot_be_read_as_events_is_refused_as_a_whole(
    sandbox: Sandbox, metered: Meter, events: Any
) -> None:
    usage = metered()
    sent = events if not events or isinstance(events, str) else [event(usage.customer), *events][:101]
    assert ask(sandbox, STREAM, {"events": sent}, token_of(sandbox)).status == 400
    assert usage.upcoming() == 0


def test_what_is_wrong_with_an_event_is_found_out_later(sandbox: Sandbox, stripe: StripeWire, metered: Meter) -> None:
    usage = metered()
    sent = [
        event(usage.customer),
        event(usage.customer, "1" * 16),
        event(usage.customer, "many"),
        event(usage.customer, at=NOW - timedelta(days=36)),
        event(usage.customer, at=NOW + timedelta(minutes=6)),
        event("cus_none"),
        event(usage.customer, event_name="misspelt"),
    ]
    assert ask(sandbox, STREAM, {"events": sent}, token_of(sandbox)).json == {}
    assert usage.upcoming() == 5
    found = {code: count for report in errors(stripe) for code, count in codes(report).items()}
    assert found == {
        "meter_event_value_too_many_digits": 1,
        "meter_event_invalid_value": 1,
        "timestamp_too_far_in_past": 1,
        "timestamp_in_future": 1,
        "meter_event_customer_not_found": 1,
        "no_meter": 1,
    }


def test_an_identifier_counts_once_in_24_hours_whichever_way_it_comes(
    sandbox: Sandbox, stripe: StripeWire, metered: Meter
) -> None:
    usage = metered()
    usage.send(5, identifier="first")
    twice = [event(usage.customer, "7", identifier="second")] * 2
    first = event(usage.customer, identifier="first")
    assert ask(sandbox, STREAM, {"events": [first, *twice]}, token_of(sandbox)).status == 200
    assert usage.upcoming() == 12
    assert usage.send(7, identifier="second").status == 400
    assert errors(stripe) == []
    sandbox.stripe.reports_streamed_duplicates = True
    ask(sandbox, STREAM, {"events": [first]}, token_of(sandbox))
    assert codes(errors(stripe)[0]) == {"duplicate_meter_event": 1}
    sandbox.stripe.reports_streamed_duplicates = False
    sandbox.clock.advance(timedelta(days=1))
    ask(sandbox, STREAM, {"events": twice}, token_of(sandbox))
    assert usage.upcoming() == 19


def test_the_stream_is_limited_by_a_rate_of_its_own(sandbox: Sandbox) -> None:
    token = token_of(sandbox)
    sandbox.rate_limits = RateLimits(overall_per_second=0, endpoint_per_second=0, stream_requests_per_second=2)
    sent = [ask(sandbox, STREAM, {"events": [event("cus_1")]}, token) for _ in range(3)]
    assert [reply.status for reply in sent] == [200, 200, 429]
    assert sent[2].headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    assert ask(sandbox, SESSION, {}).status == 429
