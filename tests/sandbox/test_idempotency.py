"""A repeated idempotency key replays the first answer."""

from datetime import timedelta

from meter_sync.sandbox import Sandbox

from .conftest import Subscribe
from .instants import PERIOD_START
from .wire import StripeWire

START = int(PERIOD_START.timestamp())
ANCHOR = START + 1


def test_a_repeated_key_replays_the_first_answer_for_a_day(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    item = subscribe().items[0]

    def add() -> tuple[int, str | None]:
        path = f"/v1/subscription_items/{item}/usage_records"
        params = {"quantity": 1, "timestamp": ANCHOR}
        reply = stripe("POST", path, params, idempotency_key="once")
        assert reply.headers["Idempotency-Key"] == "once"
        return reply.status, reply.headers.get("Idempotent-Replayed")

    assert [add(), add()] == [(200, None), (200, "true")]
    assert sandbox.stripe.records(item) == {ANCHOR: 1}
    sandbox.clock.advance(timedelta(hours=24))
    assert add() == (200, None)
    assert sandbox.stripe.records(item) == {ANCHOR: 2}


def test_a_key_is_refused_with_other_parameters(stripe: StripeWire, subscribe: Subscribe) -> None:
    path = f"/v1/subscription_items/{subscribe().items[0]}/usage_records"
    first = {"quantity": 1, "timestamp": ANCHOR}
    assert stripe("POST", path, first, idempotency_key="k").status == 200
    reply = stripe("POST", path, {**first, "quantity": 2}, idempotency_key="k")
    assert (reply.status, reply.error["type"]) == (400, "idempotency_error")


def test_a_refusal_of_the_rules_is_saved_and_a_malformed_request_is_not(
    sandbox: Sandbox, stripe: StripeWire, subscribe: Subscribe
) -> None:
    path = f"/v1/subscription_items/{subscribe().items[0]}/usage_records"
    future = {"quantity": 1, "timestamp": int(sandbox.clock.now().timestamp()) + 10}
    malformed = {"quantity": "x", "timestamp": ANCHOR}
    for key, params in (("refused", future), ("malformed", malformed)):
        assert stripe("POST", path, params, idempotency_key=key).status == 400
    sandbox.clock.advance(timedelta(minutes=1))
    assert stripe("POST", path, future, idempotency_key="refused").status == 400
    corrected = {**malformed, "quantity": 1}
    assert stripe("POST", path, corrected, idempotency_key="malformed").status == 200
