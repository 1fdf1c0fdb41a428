"""Where each period begins at a second of its own: few queries for all, and usage of any age is in the next run."""

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.shared_queries import HOUR, ITEMS, begun, damage, quantities, queries_of
from tests.support.ways import EVENTS, metered_price
from tests.support.world import PERIOD_START, World


@pytest.fixture
def lives(world: World) -> list[SubscriptionView]:
    return begun(world, world.price)


@pytest.fixture
def hourly_lives(world: World) -> list[SubscriptionView]:
    """The same on a meter by the hour."""
    return begun(world, metered_price(world, "hours"))


def test_a_run_asks_at_most_four_queries_of_a_meter_however_many_periods_begin_at_seconds_of_their_own(
    world: World, lives: list[SubscriptionView]
) -> None:
    assert quantities(world, lives) == list(range(1, ITEMS + 1))
    assert queries_of(world) <= 4
    world.use(lives[0], 5)
    assert queries_of(world) <= 4
    assert quantities(world, lives) == [6, *range(2, ITEMS + 1)]


def test_usage_that_came_late_by_weeks_is_in_the_next_run_and_only_its_subject_is_read_again(
    world: World, lives: list[SubscriptionView]
) -> None:
    world.use(lives[3], 10, PERIOD_START + 4 * HOUR)
    assert queries_of(world) <= 4 + 1
    assert quantities(world, lives)[3] == 4 + 10


def test_a_decrease_is_read_exactly_before_anything_is_lowered(world: World, lives: list[SubscriptionView]) -> None:
    """What is kept is damaged, so that it says less than was used: nobody is billed less for that."""
    damage(world, "UPDATE kept_usages SET usage = '0'")
    queries_of(world)
    assert quantities(world, lives) == list(range(1, ITEMS + 1))


def test_reading_everything_corrects_what_was_kept_and_says_by_how_much(
    world: World, lives: list[SubscriptionView]
) -> None:
    damage(world, "UPDATE kept_usages SET usage = '1' WHERE usage = '5'")
    done = world.run("--full")
    (told,) = [line for line in done.stderr.splitlines() if "kept_usage_compared" in line]
    assert '"wrong": 1' in told
    assert '"by": "4"' in told
    assert quantities(world, lives) == list(range(1, ITEMS + 1))


def test_hours_that_came_late_and_were_not_written_are_read_again_by_the_run_after_it(
    world: World, hourly_lives: list[SubscriptionView]
) -> None:
    world.use(hourly_lives[3], 10, PERIOD_START + 4 * HOUR)
    world.sandbox.faults.add(Fault(server="stripe", method="POST", path=EVENTS, status=400, times=None))
    queries_of(world)
    assert quantities(world, hourly_lives)[3] == 4
    world.sandbox.faults.clear()
    queries_of(world)
    assert quantities(world, hourly_lives)[3] == 4 + 10
