"""An event that sets a total counts only if no other one is stamped later: also by a ledger that knows of none."""

from datetime import datetime, timedelta

import pytest

from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.backups import back_up, restore_folder
from tests.support.ways import end_of, invoiced, metered, metered_price
from tests.support.world import World

pytestmark = pytest.mark.every_way
"""The usual case of it is in `test_billing_meters`."""

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def lose_ledger(world: World) -> None:
    for one in world.ledger.parent.iterdir():
        one.unlink()


def written_twice(world: World, at: datetime | None = None) -> SubscriptionView:
    """Let 10 and then 5 more be reported within some seconds."""
    subscription = metered(world, "last")
    if at:
        world.sandbox.clock.move_to(at)
    for value in (10, 5):
        world.use(subscription, value)
        world.execute()
        world.sandbox.clock.advance(2 * SECOND)
    return subscription


def send_beside(world: World, subscription: SubscriptionView, value: int, at: datetime) -> None:
    """Let another program set the total."""
    payload = {"stripe_customer_id": world.customer_of(subscription), "value": str(value)}
    world.stripe.create_meter_event("last_api_requests", payload, int(at.timestamp()))


def test_a_run_that_has_lost_its_ledger_is_later_than_what_was_written_in_the_same_second(world: World) -> None:
    subscription = metered(world, "last")
    for value in (10, 5):
        world.use(subscription, value)
        world.execute()
    lose_ledger(world)
    world.use(subscription, 1)

    world.execute()

    assert world.billed(subscription) == 16


def test_where_summaries_lag_the_clock_alone_makes_it_later(world: World) -> None:
    world.stripe.summary_lag_seconds = 600
    subscription = written_twice(world)
    lose_ledger(world)
    world.use(subscription, 1)

    world.execute()

    assert world.billed(subscription) == 16


def test_so_it_is_where_all_beside_the_ledger_was_restored(world: World) -> None:
    subscription = metered(world, "last")
    world.use(subscription, 10)
    world.execute()
    backup = back_up(world)
    for value in (5, 2):
        world.use(subscription, value)
        world.execute()
        world.sandbox.clock.advance(2 * SECOND)
    restore_folder(world, backup)
    world.use(subscription, 1)

    world.execute()

    assert world.billed(subscription) == 18


@pytest.mark.parametrize("before", [6 * MINUTE, 5 * MINUTE, MINUTE, timedelta(0)], ids=str)
def test_so_it_is_in_the_last_minutes_of_a_period(world: World, before: timedelta) -> None:
    subscription = metered(world, "last")
    end = end_of(world, subscription)
    for since, value in ((before, 10), (before - 2 * SECOND, 5), (before - 4 * SECOND, 1)):
        world.sandbox.clock.move_to(end - since)
        world.use(subscription, value, at=end - DAY)
        if value == 1:
            lose_ledger(world)
        world.execute()
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    world.sandbox.clock.advance(2 * DAY)
    world.execute()

    assert (invoiced(world), world.unbilled()) == (16, {})


def test_what_another_program_has_stamped_later_is_waited_for_and_then_overruled(world: World) -> None:
    """As a clock that was ahead would: what is sent before that has passed would not count."""
    subscription = metered(world, "last")
    send_beside(world, subscription, 7, world.now + 4 * MINUTE)
    world.use(subscription, 10)

    first = world.run()
    assert (first.code, first.verdict) == (4, ("held", "unsettled"))
    assert "Stripe holds an event of 7" in first.item["message"]
    assert world.billed(subscription) == 7
    world.sandbox.clock.advance(5 * MINUTE)
    assert world.verdict(subscription) == "reported"

    assert world.billed(subscription) == 10
    world.use(subscription, 1)
    world.execute()
    assert world.billed(subscription) == 11


def test_what_another_program_has_stamped_later_in_the_same_minute_is_overruled_at_once(world: World) -> None:
    subscription = metered(world, "last")
    send_beside(world, subscription, 7, world.now - 20 * SECOND)
    world.use(subscription, 10)

    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 10


def test_where_the_clock_has_gone_back_a_run_without_its_ledger_writes_nothing_that_would_not_count(
    world: World,
) -> None:
    subscription = written_twice(world, world.now + 10 * MINUTE)
    lose_ledger(world)
    (meter,) = world.stripe.state.meters
    held_by_stripe = world.stripe.meter_events(meter.id, world.customer_of(subscription))
    world.use(subscription, 1)

    done = world.run("--as-of", (world.now - 10 * MINUTE).isoformat())

    assert done.verdict == ("held", "unsettled")
    assert world.stripe.meter_events(meter.id, world.customer_of(subscription)) == held_by_stripe
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 16


def test_a_first_look_asks_once_more_only_where_something_stands(world: World) -> None:
    price = metered_price(world, "last")
    subscription, _ = world.subscribe(price), world.subscribe(price)
    world.use(subscription, 5)
    world.execute()
    asked = len(world.seen("GET", "/event_summaries"))
    lose_ledger(world)
    world.sandbox.clock.advance(HOUR)
    world.use(subscription, 1)
    world.execute()

    assert len(world.seen("GET", "/event_summaries")) == 2 * asked + 1
