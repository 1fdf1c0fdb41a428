"""The ledger is lost, or new, while a subscription ends or just after a period has: what ended is found in Stripe.

Runs are the program's own, in this process and over real HTTP; invoices are the sandbox's.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, end_of, invoiced, one_fast, subscribed
from tests.support.world import NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(params=by_tier(ALL_WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def begun(world: World, way: str) -> SubscriptionView:
    """Return a subscription of which 100 were reported, and 5 more were used since."""
    subscription = subscribed(world, way)
    world.use(subscription, 100, at=NOW - 2 * DAY)
    world.execute()
    world.use(subscription, 5, at=NOW - 2 * DAY)
    return subscription


def lose(world: World) -> None:
    for file in world.ledger.parent.glob(f"{world.ledger.name}*"):
        file.unlink()


def run_on(world: World, *pauses: timedelta) -> None:
    for pause in pauses:
        world.sandbox.clock.advance(pause)
        world.execute()


def cancel_at_once(world: World, subscription: SubscriptionView) -> None:
    world.stripe.cancel(subscription.id)


def cancel_with_an_invoice(world: World, subscription: SubscriptionView) -> None:
    world.stripe.cancel(subscription.id, invoice_now=True)


def cancel_at_the_end(world: World, subscription: SubscriptionView) -> None:
    end = end_of(world, subscription)
    world.stripe.cancel_at_period_end(subscription.id)
    world.sandbox.clock.move_to(end)


def turn(world: World, subscription: SubscriptionView) -> None:
    world.sandbox.clock.move_to(end_of(world, subscription))


Ending = Callable[[World, SubscriptionView], None]
ENDINGS: list[Ending] = [cancel_at_once, cancel_with_an_invoice, cancel_at_the_end, turn]


def assert_all_is_told(world: World, subscription: SubscriptionView) -> None:
    """All 105 are on an invoice, or named, and nothing is both."""
    named = world.unbilled()
    assert set(named) <= set(subscription.items)
    assert invoiced(world) + sum(named.values()) == 105


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("after", one_fast([10 * MINUTE, 5 * HOUR, 2 * DAY], 5 * HOUR))
def test_a_ledger_that_is_lost_after_an_end_is_told_of_it(
    world: World, way: str, ending: Ending, after: timedelta
) -> None:
    subscription = begun(world, way)
    ending(world, subscription)
    lose(world)
    run_on(world, after, 2 * HOUR, DAY, 3 * DAY)
    assert_all_is_told(world, subscription)


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
@pytest.mark.parametrize("path", ["/v1/events$", "/v1/invoices$", "/v1/subscriptions/sub"])
def test_what_stripe_did_not_say_at_first_is_asked_again(world: World, way: str, path: str) -> None:
    subscription = begun(world, way)
    cancel_at_once(world, subscription)
    other = subscribed(world, "record", period_start=NOW - 29 * DAY)
    lose(world)
    world.sandbox.faults.add(Fault(server="stripe", method="GET", path=path, status=500))
    run_on(world, 2 * HOUR, 2 * HOUR, 2 * HOUR)
    assert world.unbilled() == {subscription.items[0]: 105}
    assert other.items[0] not in world.unbilled()


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "hours"))
def test_a_key_that_may_not_read_events_is_told_of_canceled_subscriptions_by_their_list(world: World, way: str) -> None:
    subscription = begun(world, way)
    cancel_at_once(world, subscription)
    lose(world)
    permissions = {"prices:read", "subscriptions:read", "usage_records:write", "billing_meters:read", "invoices:read"}
    world.stripe.keys["rk_test_narrow"] = frozenset(permissions | {"meter_events:write"})
    world.sandbox.stripe_key = "rk_test_narrow"
    run_on(world, 2 * HOUR, HOUR, DAY)
    assert world.unbilled() == {subscription.items[0]: 105}


def test_what_ended_before_periods_are_watched_is_not_told_again(world: World) -> None:
    subscription = begun(world, "record")
    cancel_at_once(world, subscription)
    lose(world)
    run_on(world, 4 * DAY, HOUR)
    assert world.unbilled() == {}
    assert subscription.items[0] not in {one.item.id for one in world.last_results}
