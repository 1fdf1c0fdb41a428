"""What is kept between runs: what it holds for, what it does not, and whom it is asked for."""

import json
from datetime import timedelta
from decimal import Decimal

import pytest

from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.selection import Selection
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.end_to_end.test_verify import verified
from tests.support.shared_queries import DAY, HOUR, ITEMS, begun, damage, quantities, queries_of
from tests.support.ways import metered_price
from tests.support.world import METER, NOW, PERIOD_START, World

pytestmark = pytest.mark.every_way


@pytest.fixture
def lives(world: World) -> list[SubscriptionView]:
    return begun(world, world.price)


@pytest.fixture
def hourly_lives(world: World) -> list[SubscriptionView]:
    """The same on a meter by the hour."""
    return begun(world, metered_price(world, "hours"))


def rows_asked_since(world: World, requests: int) -> list[str]:
    """From where on hours were asked for, by the requests that came since so many."""
    bodies = [json.loads(one.body) for one in world.seen("POST", "/query")[requests:]]
    return [body["from"] for body in bodies if "windowSize" in body or "granularity" in body]


def test_a_period_that_began_since_the_last_run_is_asked_for_by_itself_once(
    world: World, lives: list[SubscriptionView]
) -> None:
    new = world.subscribe(period_start=world.now + timedelta(minutes=20))
    world.use(new, 3, world.now + timedelta(minutes=30))
    assert queries_of(world) <= 4 + 1
    assert world.billed(new) == 3
    world.use(new, 4, world.now - timedelta(minutes=5))
    assert queries_of(world) <= 4
    assert world.billed(new) == 7


def test_usage_that_moved_from_one_customer_to_another_is_seen(world: World, lives: list[SubscriptionView]) -> None:
    world.use(lives[7], -5, NOW - 3 * DAY)
    world.use(lives[2], 5, NOW - 3 * DAY)
    world.sandbox.clock.move_to(world.now + HOUR)
    results = world.execute(Reason.DECREASE)
    assert (world.billed(lives[2]), world.billed(lives[7])) == (8, 3)
    assert results[lives[7].items[0]].outcome is Outcome.REPORTED


def test_usage_from_before_an_items_own_period_writes_nothing(world: World, lives: list[SubscriptionView]) -> None:
    world.use(lives[7], 50, PERIOD_START + timedelta(minutes=1))
    before = len(world.writes)
    queries_of(world)
    assert len(world.writes) == before
    assert world.billed(lives[7]) == 8


def test_in_a_sound_installation_a_day_later_nothing_is_corrected(world: World, lives: list[SubscriptionView]) -> None:
    for _ in range(3):
        world.use(lives[0], 2)
        world.use(lives[1], 1, PERIOD_START + 9 * HOUR)
        queries_of(world)
    world.sandbox.clock.move_to(NOW + DAY)
    done = world.run(METER_SYNC_LOG_LEVEL="info")
    (told,) = [line for line in done.stderr.splitlines() if "kept_usage_compared" in line]
    assert '"wrong": 0' in told
    assert '"by": "0"' in told


def test_a_meter_that_was_deleted_and_made_anew_is_another_one(world: World, lives: list[SubscriptionView]) -> None:
    world.openmeter.delete_meter(METER)
    world.openmeter.add_meter(METER, aggregation="COUNT", event_type=METER)
    world.sandbox.clock.move_to(world.now + HOUR)
    found = world.execute(dry_run=True)
    assert {one.found.usage for one in found.values()} == {Decimal(1)}


def test_a_run_of_a_part_believes_nothing_that_is_kept(world: World, lives: list[SubscriptionView]) -> None:
    damage(world, "UPDATE kept_usages SET usage = '100'")
    customer = world.customer_of(lives[4])
    done = world.run("--customer", customer)
    assert done.item["quantity"] == "5"


def test_verify_shares_queries_too_and_finds_what_stripe_lacks(world: World, lives: list[SubscriptionView]) -> None:
    world.sandbox.clock.move_to(world.now + HOUR)
    world.use(lives[3], 10, PERIOD_START + 4 * HOUR)
    before = len(world.seen("POST", "/query"))
    done = verified(world, selection=Selection(meters=(METER,)))
    assert len(world.seen("POST", "/query")) - before <= 4 + 1
    assert [(one.found.item.id, one.expected, one.actual) for one in done.comparisons if one.difference] == [
        (lives[3].items[0], 4 + 10, 4)
    ]


def test_an_audit_of_an_earlier_instant_asks_exactly(world: World, lives: list[SubscriptionView]) -> None:
    found = world.execute(dry_run=True, as_of=NOW - 2 * DAY + timedelta(seconds=1))
    assert [found[one.items[0]].found.usage for one in lives] == [Decimal(n + 1) for n in range(ITEMS)]
    found = world.execute(dry_run=True, as_of=NOW - 2 * DAY)
    assert {found[one.items[0]].found.usage for one in lives} == {Decimal(0)}


def test_of_hours_only_the_last_days_are_read_again_as_long_as_nothing_came_late(
    world: World, hourly_lives: list[SubscriptionView]
) -> None:
    before = len(world.seen("POST", "/query"))
    world.use(hourly_lives[0], 5)
    assert queries_of(world) <= 4
    assert {one[:13] for one in rows_asked_since(world, before)} == {(NOW - DAY).isoformat()[:13]}
    assert quantities(world, hourly_lives) == [6, *range(2, ITEMS + 1)]


def test_hours_that_came_late_by_weeks_are_in_the_next_run(world: World, hourly_lives: list[SubscriptionView]) -> None:
    world.use(hourly_lives[3], 10, PERIOD_START + 4 * HOUR)
    queries_of(world)
    assert quantities(world, hourly_lives)[3] == 4 + 10
