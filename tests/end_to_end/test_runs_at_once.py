"""Runs at the same time share what Stripe allows: real processes, one ledger, and a server that counts."""

import threading
from datetime import timedelta

import pytest

from meter_sync.sandbox import Fault, Latency, RateLimits
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.world import NOW, World

pytestmark = pytest.mark.simulation

LIMIT = 25
ENDING, GOING_ON = 60, 200
RATES = {
    "METER_SYNC_STRIPE_RATE": "100",
    "METER_SYNC_STRIPE_ENDPOINT_RATE": f"{LIMIT}",
    "METER_SYNC_RETRY_SECONDS": "60",
}


@pytest.fixture
def ending(world: World) -> list[SubscriptionView]:
    """Let there be many items whose period ends in a minute, and more that go on; the ledger knows them all."""
    ending = [world.subscribe() for _ in range(ENDING)]
    going_on = [world.subscribe(period_start=NOW - timedelta(days=1)) for _ in range(GOING_ON)]
    for one in [*ending, *going_on]:
        world.use(one, 5)
    world.execute()
    end = world.stripe.period(ending[0].items[0]).end
    world.sandbox.clock.move_to(NOW + timedelta(seconds=end - NOW.timestamp()) - timedelta(minutes=1))
    for one in [*ending, *going_on]:
        world.use(one, 1)
    world.sandbox.requests.clear()
    world.sandbox.rate_limits = RateLimits(overall_per_second=100, endpoint_per_second=LIMIT)
    world.sandbox.latency = Latency(stripe_read=0.05, stripe_write=0.05)
    return ending


def are_billed(world: World, ending: list[SubscriptionView]) -> bool:
    """Whether the closing run has written all items but those few that the full run was trying again just then."""
    return sum(world.billed(one) == 7 for one in ending) >= ENDING - 2


def write_of(world: World, number: int) -> threading.Event:
    """What is set once Stripe has answered so many writes."""
    answered = threading.Event()

    def as_it_is(body: str) -> bytes:
        answered.set()
        return body.encode()

    world.sandbox.faults.add(Fault(server="stripe", method="POST", skip=number - 1, times=1, rewrite=as_it_is))
    return answered


def test_a_closing_run_beside_a_full_run_goes_first_and_neither_is_refused(
    world: World, ending: list[SubscriptionView]
) -> None:
    now = world.now.isoformat()
    answered = write_of(world, ENDING + 60)
    full = world.start("run", "--allow", "jump", "--as-of", now, **RATES)
    assert answered.wait(60)
    for one in ending:
        world.use(one, 1)
    begun = len(world.writes)
    closing = world.meter_sync("run", "--closing", "3m", "--allow", "jump", "--as-of", now, **RATES)
    at_its_end = len(world.writes)
    _, said = full.communicate(timeout=120)

    assert (closing.code, full.returncode) == (0, 0), (closing.stderr, said)
    assert are_billed(world, ending)
    assert len(world.writes) >= 2 * ENDING + GOING_ON
    assert (
        at_its_end - begun <= ENDING + 45
    )  # of the full run's: those of a second that it needs to make room, and a tenth
    assert at_its_end < len(world.writes)
    assert sum(request.status == 429 for request in world.sandbox.requests) <= 4


def test_a_run_that_was_killed_does_not_hold_its_part(world: World, ending: list[SubscriptionView]) -> None:
    now = world.now.isoformat()
    answered = write_of(world, ENDING + 60)
    full = world.start("run", "--allow", "jump", "--as-of", now, **RATES)
    assert answered.wait(60)
    full.kill()
    full.communicate(timeout=60)
    for one in ending:
        world.use(one, 1)
    before = len(world.writes)
    closing = world.meter_sync("run", "--closing", "3m", "--allow", "jump", "--as-of", now, **RATES)

    assert closing.code == 0, closing.stderr
    assert are_billed(world, ending)
    arrivals = [request.at for request in world.writes[before:]]
    in_the_last_seconds = [at for at in arrivals if at >= max(arrivals) - 2 * ENDING / LIMIT]
    assert len(in_the_last_seconds) >= ENDING - 10  # the rest at one a second, until it was known to be gone


def test_a_dry_run_beside_a_full_run_takes_what_that_leaves(world: World, ending: list[SubscriptionView]) -> None:
    now = world.now.isoformat()
    answered = write_of(world, 20)
    full = world.start("run", "--allow", "jump", "--as-of", now, **RATES)
    assert answered.wait(60)
    dry = world.meter_sync("run", "--dry-run", "--allow", "jump", "--as-of", now, **RATES)
    full.communicate(timeout=120)

    assert (dry.code, full.returncode) == (0, 0)
    assert sum(request.status == 429 for request in world.sandbox.requests) <= 4
