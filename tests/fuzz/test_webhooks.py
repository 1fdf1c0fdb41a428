"""Webhooks that are not what they should be: refused or ignored, nothing queued that is not understood, and no 500."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meter_sync.sandbox import Sandbox
from meter_sync.webhook.events import RELEVANT
from meter_sync.webhook.server import LARGEST_BODY
from tests.fuzz.mutations import Mutation, as_body, mutations
from tests.fuzz.profile import examples
from tests.support.webhook import ACACIA, SECRET, Served, about, serving, signed
from tests.support.world import World

READ = (
    "id",
    "type",
    "livemode",
    "data",
    "object",
    "previous_attributes",
    "items",
    "latest_invoice",
    "status",
    "billing_reason",
    "subscription",
    "parent",
    "subscription_details",
    "current_period_start",
    "current_period_end",
    "price",
)
"""What is read of an event."""

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["sub_1", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(READ), inner, max_size=4),
    max_leaves=10,
)


def true_events() -> list[dict[str, Any]]:
    """Return what the embedded Stripe's webhooks say of a subscription's life, in both shapes."""
    start = datetime(2026, 11, 1, tzinfo=UTC)
    sandbox = Sandbox(start + timedelta(days=20))
    stripe = sandbox.stripe
    subscription = stripe.add_subscription(stripe.add_customer(), [stripe.add_price()], period_start=start)
    for version in (None, ACACIA):
        stripe.webhooks.add_endpoint("http://127.0.0.1:1/webhook", api_version=version)
    sandbox.clock.move_to(start + timedelta(days=30, hours=2))
    stripe.cancel(subscription.id)
    bodies = [stripe.webhooks.attempt(delivery).body for delivery in stripe.webhooks.pending()]
    return [json.loads(body) for body in bodies]


EVENTS = true_events()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The installed command, which has to serve all examples."""
    world = World(tmp_path_factory.mktemp("webhooks"), datetime.now(UTC).replace(microsecond=0))
    with world.sandbox.in_background(), serving(world) as served:
        yield served
        assert served.deliver(about("sub_after_all", "evt_after_all")) == 200
    assert not served.all_logged("webhook_failed")


def answered(served: Served, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
    status, text = served.request("POST", "/webhook", body, headers)
    return status, json.loads(text)


def check(served: Served, body: bytes) -> None:
    """Deliver a body with a true signature: it is refused, ignored, or names the subscription that is queued."""
    status, answer = answered(served, body, signed(body, SECRET))
    assert status in (200, 400)
    if answer.get("result") in ("queued", "known"):
        event = json.loads(body)
        assert event["type"] in RELEVANT
        assert event["id"].isascii()
        named = json.dumps(event.get("data"))
        assert event["type"].startswith("v1.billing.meter.") or '"sub_' in named or '"id"' in named


@given(st.sampled_from(EVENTS), mutations())
@examples(100)
def test_a_true_event_with_something_wrong_in_it_is_queued_or_ignored_or_refused(
    served: Served, event: dict[str, Any], mutation: Mutation
) -> None:
    check(served, as_body(mutation.of(event, READ)))


@given(st.sampled_from(RELEVANT), JSON, JSON)
@examples(50)
def test_an_event_about_anything_is_queued_or_ignored(served: Served, kind: str, now: Any, before: Any) -> None:
    data = {"object": now, "previous_attributes": before}
    body = json.dumps({"id": "evt_1", "type": kind, "livemode": False, "data": data}).encode()

    status, answer = answered(served, body, signed(body, SECRET))

    assert (status, "error" in answer) == (200, False), answer


@given(st.binary(max_size=80) | JSON.map(as_body))
@example(b"")
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"9" * 10_000)
@example(b"\xff\xfe[\x00]\x00")
@example(b"[" * LARGEST_BODY)
@examples(50)
def test_what_is_no_event_is_refused(served: Served, body: bytes) -> None:
    status, answer = answered(served, body, signed(body, SECRET))

    assert status == 400
    assert answer["error"]


@given(
    st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)
    | st.sampled_from(
        ["t=,v1=", "t", "v1", ",", "t=1=2,v1=x", "t=-1,v1=a", f"t={10**400},v1=a", "t=nan,v1=a", "t=\u00b2"]
    )
)
@examples(50)
def test_a_signature_of_any_text_is_refused(served: Served, signature: str) -> None:
    body = json.dumps(about("sub_1")).encode()

    assert answered(served, body, {"Stripe-Signature": signature})[0] == 400


def test_a_body_that_is_too_large_is_refused_and_the_next_one_served(served: Served) -> None:
    body = b" " * (LARGEST_BODY + 1)

    assert answered(served, body, signed(body, SECRET))[0] == 413
    assert answered(served, b"{}", signed(b"{}", SECRET))[0] == 400
