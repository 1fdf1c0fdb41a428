"""Stripe's limits, as runs meet them: what shows only in the seconds that these take."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from meter_sync.sandbox import Fault, RateLimits
from tests.support.platform import Platform
from tests.support.world import METER, World

RECORDS = "/usage_records$"

pytestmark = pytest.mark.every_way


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path)
    with made.sandbox.in_background():
        yield made


def test_stripes_limits_are_met_and_every_item_is_reported(world: World) -> None:
    subscriptions = [world.subscribe() for _ in range(30)]
    for subscription in subscriptions:
        world.use(subscription, 5)
    world.sandbox.rate_limits = RateLimits(overall_per_second=100, endpoint_per_second=20)
    rates = {"METER_SYNC_STRIPE_RATE": "100", "METER_SYNC_STRIPE_ENDPOINT_RATE": "25"}

    done = world.run(METER_SYNC_RETRY_SECONDS="60", **rates)

    assert done.code == 0
    assert any(request.status == 429 for request in world.sandbox.requests)
    assert all(world.billed(subscription) == 5 for subscription in subscriptions)


def test_a_run_of_which_much_is_refused_slows_down_as_a_whole(world: World) -> None:
    for _ in range(20):
        world.use(world.subscribe(), 5)
    world.sandbox.faults.add(
        Fault(
            server="stripe",
            path=RECORDS,
            status=429,
            headers={"Stripe-Rate-Limited-Reason": "endpoint-rate"},
            times=16,
        )
    )

    assert world.run(METER_SYNC_RETRY_SECONDS="10", METER_SYNC_STRIPE_RATE="25").code == 0

    arrivals = sorted(request.at for request in world.seen("POST", "/usage_records"))
    assert len(arrivals) == 36
    assert max(later - one for one, later in pairwise(arrivals)) >= 0.9


def test_waiting_in_our_own_queue_is_not_counted_as_trying(world: World) -> None:
    for number in range(40):
        world.stripe.add_price(id=f"price_{number}", metadata={"om_meter_id": METER})
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/subscriptions$", skip=39, status=503))

    assert world.run(METER_SYNC_RETRY_SECONDS="2", METER_SYNC_STRIPE_ENDPOINT_RATE="15").code == 0
    assert [request.status for request in world.seen("GET", "/v1/subscriptions")].count(503) == 1


def test_the_platforms_limits_hold_for_all_its_accounts_together(platform: Platform) -> None:
    """As they are its own: each account by itself keeps to them, and both at once would ask too much."""
    for shop in platform.shops:
        for _ in range(12):
            platform.subscribe(shop, 1)
    platform.sandbox.rate_limits = RateLimits(overall_per_second=1000, endpoint_per_second=20)
    done = platform.run(METER_SYNC_STRIPE_ENDPOINT_RATE="18")
    assert done.code == 0
    refused = [one for one in platform.sandbox.requests if one.status == 429]
    assert len(refused) <= 1
