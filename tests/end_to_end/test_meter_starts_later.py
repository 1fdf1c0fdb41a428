"""A meter that begins to count after an item's period does: what was used before is not known, and nothing is billed.

Runs are the program's own, in this process and over real HTTP.
"""

from dataclasses import replace
from datetime import timedelta

import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, end_of, invoiced, subscribed
from tests.support.world import METER, NOW, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

pytestmark = pytest.mark.parametrize("openmeter_version", ["v1", "v3"], indirect=True)


@pytest.fixture(params=by_tier(ALL_WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def subscription(world: World, way: str) -> SubscriptionView:
    """A subscription of which 60 were used before its meter began to count, and 40 since."""
    subscription = subscribed(world, way)
    world.use(subscription, 60, at=NOW - 3 * DAY)
    world.use(subscription, 40, at=NOW - DAY)
    begins(world, 2 * DAY)
    return subscription


def begins(world: World, ago: timedelta) -> None:
    world.openmeter.meters[METER] = replace(world.openmeter.meters[METER], event_from=NOW - ago)


def test_an_item_is_held_whose_meter_begins_to_count_after_its_period(
    world: World, subscription: SubscriptionView
) -> None:
    assert world.verdict(subscription) == "meter_starts_later"
    (said,) = [one.message for one in world.last_results]
    assert said is not None
    assert f"meter {METER} counts events only from 2025-06-08T12:00:00Z on" in said
    assert (world.billed(subscription), world.writes) == (0, [])


def test_what_it_has_counted_is_billed_by_permission_and_goes_on_without_it(
    world: World, subscription: SubscriptionView
) -> None:
    assert world.verdict(subscription, Reason.METER_STARTS_LATER) == "reported"
    world.use(subscription, 2, at=NOW - HOUR)
    world.sandbox.clock.advance(2 * HOUR)
    assert (world.verdict(subscription), world.billed(subscription)) == ("reported", 42)


def test_a_meter_that_begins_anew_is_asked_for_again(world: World, subscription: SubscriptionView) -> None:
    world.execute(Reason.METER_STARTS_LATER)
    begins(world, 1.5 * DAY)
    world.sandbox.clock.advance(2 * HOUR)
    assert (world.verdict(subscription), world.billed(subscription)) == ("meter_starts_later", 40)


def test_one_that_begins_before_the_period_says_nothing(world: World, subscription: SubscriptionView) -> None:
    begins(world, 30 * DAY)
    assert (world.verdict(subscription), world.billed(subscription)) == ("reported", 100)


def test_the_next_period_is_billed_and_the_one_before_is_listed_as_not_known(
    world: World, subscription: SubscriptionView
) -> None:
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) + HOUR)
    world.use(subscription, 5, at=world.now - HOUR / 2)
    assert (world.verdict(subscription), world.billed(subscription)) == ("reported", 5)
    for _ in range(5):
        world.sandbox.clock.advance(DAY)
        world.execute()
    (row,) = world.meter_sync("history", "--unbilled", "--output", "json").document["unbilled"]
    assert (row["subscription_item"], row["unbilled"], invoiced(world)) == (subscription.items[0], None, 0)
    assert "counts events only from" in row["message"]
