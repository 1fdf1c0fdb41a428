"""The embedded Stripe keeps event destinations: who is told of what, and when their secret is told."""

import json
from typing import Any

import pytest
from stripe import StripeClient

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.rules.event_destinations import MOST
from meter_sync.sandbox.stripe.webhooks import signature

from .wire import Reply, send

PATH = "/v2/core/event_destinations"
NEW: dict[str, Any] = {
    "name": "Mine",
    "type": "webhook_endpoint",
    "webhook_endpoint": {"url": "https://hooks.example.com"},
    "event_payload": "snapshot",
    "enabled_events": ["invoice.created"],
}
THIN = {"event_payload": "thin", "enabled_events": ["v1.billing.meter.no_meter_found"]}
URL, SECRET = "webhook_endpoint.url", "webhook_endpoint.signing_secret"


def ask(sandbox: Sandbox, method: str, path: str, body: Any = None) -> Reply:
    headers = {"Authorization": f"Bearer {sandbox.stripe_key}", "Content-Type": "application/json"}
    sent = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    return send(method, sandbox.stripe_url + path, headers, sent)


def test_the_sdk_makes_completes_and_lists_destinations(sandbox: Sandbox) -> None:
    """The address is told where it is asked for, the secret only as the destination is made."""
    client = StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url})
    service = client.v2.core.event_destinations
    made = service.create({**NEW, "include": [URL, SECRET]})  # type: ignore[typeddict-item]
    silent = service.create({**NEW, **THIN})  # type: ignore[typeddict-item]
    assert made.webhook_endpoint is not None
    assert (made.webhook_endpoint.url or "").endswith("hooks.example.com")
    assert (made.webhook_endpoint.signing_secret or "").startswith("whsec_")
    assert silent.webhook_endpoint is not None
    assert (silent.webhook_endpoint.url, silent.webhook_endpoint.signing_secret) == (None, None)
    service.update(made.id, {"enabled_events": ["invoice.created", "invoice.upcoming"]})
    listed = list(service.list({"include": [URL], "limit": 1}).auto_paging_iter())
    assert [each.id for each in listed] == [silent.id, made.id]
    assert listed[1].enabled_events == ["invoice.created", "invoice.upcoming"]
    assert [each.webhook_endpoint and each.webhook_endpoint.url for each in listed] == ["https://hooks.example.com"] * 2
    assert service.retrieve(made.id).snapshot_api_version == sandbox.stripe.api_version


def test_events_are_delivered_by_type_and_payload_and_signed_with_the_secret(sandbox: Sandbox) -> None:
    world = sandbox.stripe
    whole = ask(sandbox, "POST", PATH, {**NEW, "enabled_events": ["*"], "include": [SECRET]}).json
    thin = ask(sandbox, "POST", PATH, {**NEW, **THIN}).json
    disabled = ask(sandbox, "POST", PATH, NEW).json
    world.disable_event_destination(disabled["id"])
    subscription = world.add_subscription(world.add_customer(), [world.add_price()])
    world.create_meter_event("misspelt", {"stripe_customer_id": "cus_1", "value": "1"})
    world.cancel(subscription.id)

    pending = world.webhooks.pending()
    of = {each.endpoint.destination.id: each for each in pending if each.endpoint.destination}

    assert of.keys() == {whole["id"], thin["id"]}
    assert of[thin["id"]].event.type == "v1.billing.meter.no_meter_found"
    attempt = world.webhooks.attempt(of[whole["id"]], signed_at=1)
    expected = signature(attempt.body, [whole["webhook_endpoint"]["signing_secret"]], 1)
    assert attempt.headers["Stripe-Signature"] == expected


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"event_payload": "fat"},
        {"enabled_events": []},
        {"enabled_events": "invoice.created"},
        {"enabled_events": ["v1.billing.meter.no_meter_found"]},
        {"event_payload": "thin"},
        {**THIN, "snapshot_api_version": "2026-10-28.endive"},
        {"type": "pigeon"},
        {"webhook_endpoint": {}},
        {"webhook_endpoint": {"url": "ftp://hooks.example.com"}},
        {"include": ["secret"]},
        {"url": "https://hooks.example.com"},
    ],
    ids=json.dumps,
)
def test_what_makes_no_sense_is_refused(sandbox: Sandbox, change: dict[str, Any]) -> None:
    assert ask(sandbox, "POST", PATH, {**NEW, **change}).status == 400
    assert len(sandbox.stripe.state.destinations) == 0


@pytest.mark.parametrize("body", [b"name=Mine", b"[]", b'"name"'])
def test_a_body_that_is_no_json_object_is_refused(sandbox: Sandbox, body: bytes) -> None:
    assert ask(sandbox, "POST", PATH, body).status == 400


def test_an_account_has_so_many_at_most(sandbox: Sandbox) -> None:
    assert [ask(sandbox, "POST", PATH, NEW).status for _ in range(MOST + 1)] == [200] * MOST + [400]


def test_live_events_go_to_https_only(sandbox: Sandbox) -> None:
    plain = {**NEW, "webhook_endpoint": {"url": "http://hooks.example.com"}}
    assert ask(sandbox, "POST", PATH, plain).status == 200
    sandbox.stripe_key = sandbox.stripe.add_restricted_key("rk_live_1", {"webhook_endpoints:write"})
    assert ask(sandbox, "POST", PATH, plain).status == 400
    assert ask(sandbox, "POST", PATH, NEW).json["livemode"]


def test_a_secret_is_told_in_no_other_answer(sandbox: Sandbox) -> None:
    made = ask(sandbox, "POST", PATH, {**NEW, "include": [SECRET]}).json
    secret = made["webhook_endpoint"]["signing_secret"]
    one = f"{PATH}/{made['id']}"
    for reply in (ask(sandbox, "GET", one), ask(sandbox, "GET", PATH), ask(sandbox, "POST", one, {"name": "New"})):
        assert (reply.status, secret in reply.text) == (200, False)
    assert ask(sandbox, "GET", f"{one}?include[0]={SECRET}").status == 400
    assert ask(sandbox, "GET", f"{PATH}/ed_none").status == 404
