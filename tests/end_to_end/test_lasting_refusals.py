"""A Stripe that refuses every request for too many ends a run as one does that does not answer."""

import time
from typing import Any

import pytest

from meter_sync.sandbox import Fault
from tests.support.world import World

pytestmark = pytest.mark.every_way
"""Of the pace itself `tests/net/test_pace.py` has it in the fast tier."""

RECORDS, SUMMARIES = "/usage_records$", "/usage_record_summaries$"
LIMITED: dict[str, Any] = {"status": 429, "headers": {"Stripe-Rate-Limited-Reason": "endpoint-rate"}}


@pytest.mark.parametrize(
    ("path", "said"),
    [(RECORDS, "Stripe did not answer"), (SUMMARIES, "could not be read")],
    ids=["writing", "looking"],
)
def test_a_stripe_that_refuses_all_for_too_many_requests_ends_the_run(world: World, path: str, said: str) -> None:
    """Slowly as they leave by then, trying each item until its time is over would take hours."""
    subscriptions = [world.subscribe() for _ in range(300)]
    for subscription in subscriptions:
        world.use(subscription, 5)
    fast = {"METER_SYNC_STRIPE_RATE": "1000", "METER_SYNC_STRIPE_ENDPOINT_RATE": "1000"}
    world.sandbox.faults.add(Fault(server="stripe", path=path, times=None, **LIMITED))
    began = time.monotonic()

    done = world.run(METER_SYNC_RETRY_SECONDS="1", **fast)

    assert time.monotonic() - began < 30
    assert (done.code, len(done.items)) == (1, 300)
    assert {row["reason"] for row in done.items.values()} == {"stripe_error"}
    messages = [row["message"] for row in done.items.values()]
    assert any("before this one" in one for one in messages)
    assert any(said in one and "429" in one for one in messages)
    assert len([request for request in world.sandbox.requests if request.status == 429]) < 600
    world.sandbox.faults.clear()
    assert world.run(**fast).code == 0
    assert all(world.billed(subscription) == 5 for subscription in subscriptions)


@pytest.mark.parametrize("subscriptions", [1, 30])
def test_a_storm_that_passes_in_time_costs_no_item(world: World, subscriptions: int) -> None:
    for _ in range(subscriptions):
        world.use(world.subscribe(), 5)
    world.sandbox.faults.add(Fault(server="stripe", path=RECORDS, times=3 * subscriptions, **LIMITED))

    assert world.run(METER_SYNC_RETRY_SECONDS="20").code == 0
