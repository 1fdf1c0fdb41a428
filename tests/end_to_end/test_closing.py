"""The closing run: what ends about now, without a listing, beside whatever else runs."""

import asyncio
import contextvars
from datetime import UTC, datetime, timedelta

import pytest

from meter_sync import effects
from meter_sync.config import load
from meter_sync.core.planning.selection import Selection
from meter_sync.ledger import Scope, run_lock
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault
from meter_sync.sync.books import execute
from meter_sync.sync.closing import last_moments
from meter_sync.sync.request import Request
from tests.support.ways import ALL_WAYS, by_tier, end_of, invoiced, subscribed
from tests.support.world import METER, NOW, PERIOD_START, World

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
WITHIN = 3 * MINUTE


def close(world: World) -> list[str]:
    """Do what `run --closing 3m` does, and return the items that it was about."""
    world.execute(closing=WITHIN, is_beside=True)
    return [one.item.id for one in world.last_results]


def test_where_nothing_ends_no_request_is_made_to_either_server(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    assert world.run().code == 0
    before = len(world.sandbox.requests)
    done = world.meter_sync("run", "--closing", "3m", "--as-of", world.now.isoformat(), "--quiet")
    assert (done.code, done.stdout) == (0, "")
    assert len(world.sandbox.requests) == before


@pytest.mark.parametrize("within", ["3", "m", "0m", "3 m", "1d"])
def test_a_length_of_time_has_its_unit(world: World, within: str) -> None:
    assert world.meter_sync("run", "--closing", within).code == 2


def test_closing_runs_take_no_other_selector(world: World) -> None:
    assert world.meter_sync("run", "--closing", "3m", "--customer", "cus_1").code == 2


def test_only_what_ends_is_reported_and_nothing_is_listed(world: World) -> None:
    ending, going_on = world.subscribe(), world.subscribe(period_start=NOW - DAY)
    for each in (ending, going_on):
        world.use(each, 5, at=NOW - HOUR)
    world.execute()
    end = end_of(world, ending)
    for each in (ending, going_on):
        world.use(each, 2, at=end - 2 * MINUTE)
    world.sandbox.clock.move_to(end - MINUTE)
    world.sandbox.requests.clear()

    assert close(world) == ending.items
    assert (world.billed(ending), world.billed(going_on)) == (7, 5)
    assert not [one for one in world.sandbox.requests if one.path in ("/v1/prices", "/v1/subscriptions")]


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_the_very_last_second_is_billed_right_after_the_end(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 1, at=NOW - HOUR)
    world.execute()
    world.use(subscription, 2, at=end - 2 * DAY)
    world.sandbox.clock.move_to(end - MINUTE)
    close(world)
    world.use(subscription, 4, at=end - timedelta(seconds=1))
    world.sandbox.clock.move_to(end + 30 * timedelta(seconds=1))
    close(world)
    in_straddling_window = 4 if way in ("hours", "days") else 0
    assert invoiced(world) == 7 - in_straddling_window
    written = len(world.writes)
    assert (close(world), len(world.writes)) == (subscription.items, written)
    world.execute()
    assert invoiced(world) + world.billed(subscription) == 7


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_what_is_ingested_after_a_closing_run_is_asked_for_again_while_stripe_takes_it(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 100, at=NOW - HOUR)
    world.execute()
    for late in (MINUTE, 2 * MINUTE, 4 * MINUTE):
        world.sandbox.clock.move_to(end + late)
        close(world)
        world.use(subscription, 7, at=NOW - HOUR)
    world.sandbox.clock.move_to(end + 5 * MINUTE - SECOND)
    close(world)
    assert (invoiced(world), world.unbilled()) == (121, {})


def test_all_that_ended_together_is_asked_for_in_one_query_and_no_more_once_stripe_refuses(world: World) -> None:
    subscriptions = [world.subscribe() for _ in range(5)]
    end = end_of(world, subscriptions[0])
    for each in subscriptions:
        world.use(each, 100, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.move_to(end + MINUTE)
    assert len(close(world)) == 5
    world.sandbox.requests.clear()
    world.sandbox.clock.move_to(end + 2 * MINUTE)
    assert len(close(world)) == 5
    assert len([one for one in world.sandbox.requests if one.path.endswith("/query")]) == 1
    assert world.writes == []
    world.sandbox.clock.move_to(end + 11 * MINUTE)
    assert close(world) == []


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
@pytest.mark.parametrize("killed_at", [-SECOND, 2 * MINUTE])
def test_what_was_left_to_a_run_that_was_killed_is_not_done(world: World, way: str, killed_at: timedelta) -> None:
    """Its claim is in the way for two minutes."""
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 100, at=NOW - HOUR)
    world.execute()
    world.use(subscription, 7, at=NOW - HOUR)
    world.sandbox.clock.move_to(end + killed_at)
    with pytest.raises(Killed):
        killed_as_it_writes(world)
    for late in range(5):
        world.sandbox.clock.move_to(max(end + killed_at, end + late * MINUTE) + SECOND)
        close(world)
    assert (invoiced(world), world.unbilled()) == (107, {})


class Killed(BaseException):
    """Stands for a kill: nothing is done after it."""


def killed_as_it_writes(world: World) -> None:
    """Do what a closing run does until it is about to write to Stripe."""

    def kill(place: str, moment: str) -> None:
        if (place, moment) == ("stripe", "comes"):
            raise Killed

    def run() -> None:
        effects.watch(kill)
        close(world)

    contextvars.copy_context().run(run)


def test_a_full_run_that_takes_long_does_not_keep_it_from_its_work(world: World) -> None:
    subscription = world.subscribe()
    end = end_of(world, subscription)
    world.execute()
    world.use(subscription, 2, at=end - DAY)
    world.sandbox.clock.move_to(end - MINUTE)
    with run_lock(world.place, Scope("", "sandbox")):
        assert close(world) == subscription.items
    assert world.billed(subscription) == 2


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_runs_beside_each_other_bill_once(world: World, way: str) -> None:
    subscription = subscribed(world, way, period_start=PERIOD_START)
    world.use(subscription, 1, at=NOW - DAY)
    world.execute()
    end = end_of(world, subscription)
    world.use(subscription, 2, at=end - 2 * DAY)
    world.sandbox.clock.move_to(end - MINUTE)

    async def together() -> None:
        settings = load(None, world.environment(), {})
        beside = Request(closing=WITHIN, is_beside=True)
        clock = world.sandbox.clock.now
        done = await asyncio.gather(*(execute(settings, beside, clock, Stop()) for _ in range(4)))
        assert [one.report.error for one in done] == [None] * 4

    world.sandbox.date_skew_seconds = (world.now - datetime.now(UTC)).total_seconds()
    asyncio.run(together())
    world.execute()
    assert world.billed(subscription) == 3


def test_what_no_invoice_comes_for_is_named_by_a_later_closing_run_too(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 3, at=NOW - DAY)
    world.execute()
    world.stripe.cancel(subscription.id)
    world.sandbox.clock.advance(MINUTE)
    world.execute(selection=Selection(subscriptions=(subscription.id,)), is_beside=True)
    assert world.unbilled() == {}
    world.sandbox.clock.advance(HOUR)
    world.execute(closing=2 * HOUR, is_beside=True)
    assert world.unbilled() == {subscription.items[0]: 3}


def test_a_hold_at_the_end_is_not_repeated_every_minute_for_ever(world: World) -> None:
    subscription = world.subscribe()
    end = end_of(world, subscription)
    world.use(subscription, 5, at=NOW - DAY)
    world.execute()
    world.use(subscription, -2, at=NOW - DAY)
    world.sandbox.clock.move_to(end + MINUTE)
    assert close(world) == subscription.items
    world.sandbox.clock.move_to(end + 4 * MINUTE)
    assert close(world) == []


@pytest.mark.parametrize("way", by_tier(["record", "max", "last", "additions"]))
def test_it_reports_once_more_in_the_last_seconds_before_the_end(world: World, way: str) -> None:
    """On prices that are not `sum`, Stripe takes nothing after it."""
    if way == "max":
        price = world.stripe.add_price(metadata={"om_meter_id": METER}, aggregate_usage="max")
        subscription = world.subscribe(price)
    else:
        subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 1, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.move_to(end - 50 * SECOND)
    world.use(subscription, 2, at=end - 10 * SECOND)
    world.close_in_time(WITHIN)
    assert world.now == end - 5 * SECOND
    assert world.billed(subscription) == 3
    assert len(world.last_results) == 1


def test_it_waits_for_nothing_where_the_next_one_comes_before_the_end(world: World) -> None:
    subscription = world.subscribe()
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) - 2 * MINUTE)
    before = world.now
    assert list(world.close_in_time(WITHIN)) == subscription.items
    assert world.now == before


def test_periods_that_end_within_seconds_of_each_other_share_the_last_report(world: World) -> None:
    ends = [NOW + 10 * SECOND, NOW + 14 * SECOND, NOW + 40 * SECOND]
    for end in ends:
        world.subscribe(period_start=NOW - HOUR, period_end=end)
    world.execute()
    results = list(world.close_in_time(WITHIN).values())
    assert last_moments(results, NOW) == [NOW + 5 * SECOND, NOW + 35 * SECOND]


def test_what_arrives_after_an_invoice_is_final_is_named_by_closing_runs_alone(world: World) -> None:
    subscription = subscribed(world, "hours")
    end = end_of(world, subscription)
    world.use(subscription, 1, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.move_to(end + MINUTE)
    close(world)
    world.sandbox.clock.move_to(end + DAY)
    world.use(subscription, 2, at=end - 2 * DAY)
    assert close(world) == []
    world.sandbox.clock.move_to(end + 3 * DAY + MINUTE)
    assert close(world) == subscription.items
    assert (world.unbilled(), close(world)) == ({subscription.items[0]: 2}, [])


@pytest.mark.parametrize("way", ["hours", "additions"])
def test_a_closing_run_knows_that_an_ended_items_events_are_billed_with_another_one(world: World, way: str) -> None:
    """Usage on a billing meter is the customer's: an item of another subscription bills it on."""
    subscription = subscribed(world, way)
    customer = world.customer_of(subscription)
    world.use(subscription, 3, at=NOW - DAY)
    price = world.stripe.state.items[subscription.items[0]].price
    world.execute()
    world.subscribe(price, customer=customer)
    world.stripe.cancel(subscription.id)
    world.sandbox.faults.add(Fault(server="openmeter", path="/query", status=500, times=None))
    world.execute()
    world.sandbox.faults.clear()
    world.sandbox.clock.advance(2 * HOUR)
    world.execute(closing=3 * HOUR, is_beside=True)
    assert [one.item.id for one in world.last_results] == subscription.items
    assert world.unbilled() == {}
