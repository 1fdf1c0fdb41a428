"""Items that come and go between two runs, within a subscription that goes on: what they could have billed is named."""

from datetime import timedelta

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import BillingMode
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, WAYS, end_of, invoiced, one_fast, subscribed
from tests.support.world import METER, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
OTHER = "other"

MODES = ["classic", pytest.param("flexible", marks=pytest.mark.every_way)]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> BillingMode:
    mode: BillingMode = request.param
    return mode


def price_on(world: World, way: str, meter: str) -> str:
    """Add a price of a kind, on a billing meter of its own if need be, that bills a meter of OpenMeter."""
    stripe_meter = None if way == "record" else world.stripe.add_meter(f"{way}_{meter}", **WAYS[way])  # type: ignore[arg-type]
    return world.stripe.add_price(meter=stripe_meter, metadata={"om_meter_id": meter})


def begun(world: World, way: str, mode: BillingMode) -> SubscriptionView:
    """Return a subscription of which 100 were reported."""
    world.openmeter.add_meter(OTHER, aggregation="SUM")
    subscription = subscribed(world, way, billing_mode=mode)
    world.use(subscription, 100, at=world.now - DAY)
    world.execute()
    return subscription


def passing(world: World, subscription: SubscriptionView, price: str, used: int, meter: str) -> str:
    """Let an item come and go, with some used meanwhile, before it and after it; return the item."""
    for quantity, at in ((1000, -5), (used, 12), (2000, 25)):
        world.use(subscription, quantity, at=world.now + at * MINUTE, meter=meter)
    world.sandbox.clock.advance(10 * MINUTE)
    item = world.stripe.add_item(subscription.id, price)
    world.sandbox.clock.advance(10 * MINUTE)
    world.stripe.delete_item(item)
    world.sandbox.clock.advance(10 * MINUTE)
    return item


def end_well(world: World, subscription: SubscriptionView) -> None:
    """Run past the end of the period and all that comes late."""
    end = end_of(world, subscription)
    for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "hours"))
def test_what_was_used_in_its_time_alone_is_named(world: World, way: str, mode: BillingMode) -> None:
    """Nothing of it was reported, so no invoice item bills it either."""
    subscription = begun(world, way, mode)
    item = passing(world, subscription, price_on(world, way, OTHER), 7, OTHER)
    world.execute()
    assert world.unbilled() == {item: 7}
    end_well(world, subscription)
    assert (invoiced(world), world.unbilled()) == (100, {item: 7})


@pytest.mark.parametrize("way", one_fast(WAYS, "additions"))
def test_what_was_reported_by_then_an_invoice_item_bills_in_flexible(world: World, way: str, mode: BillingMode) -> None:
    subscription = begun(world, way, mode)
    price = price_on(world, way, OTHER)
    meter = world.stripe.state.meters[str(world.stripe.state.prices[price].meter)]
    item = world.stripe.add_item(subscription.id, price)
    world.sandbox.clock.advance(10 * MINUTE)
    world.use(subscription, 7, at=world.now - MINUTE, meter=OTHER)
    payload = {"stripe_customer_id": world.customer_of(subscription), "value": "5"}
    world.stripe.create_meter_event(meter.event_name, payload, int((world.now - MINUTE).timestamp()))
    world.stripe.delete_item(item)
    world.sandbox.clock.advance(10 * MINUTE)
    world.execute()
    assert world.unbilled() == {item: 7 if mode == "classic" else 2}


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_another_item_bills_all_along_is_not_named(world: World, way: str, mode: BillingMode) -> None:
    subscription = begun(world, way, mode)
    price = world.stripe.state.prices[world.stripe.state.items[subscription.items[0]].price]
    beside = world.stripe.add_price(meter=price.meter, metadata={"om_meter_id": METER})
    passing(world, subscription, beside, 7, METER)
    for _ in range(2):  # the first one finds out that nothing of it is the other one's
        world.execute()
    assert (world.billed(subscription), world.unbilled()) == (3107, {})
    end_well(world, subscription)
    assert (invoiced(world), world.unbilled()) == (3107, {})


@pytest.mark.parametrize("way", one_fast(WAYS, "hours"))
def test_of_items_that_follow_each_other_on_a_meter_each_ones_time_is_named_once(
    world: World, way: str, mode: BillingMode
) -> None:
    subscription = begun(world, way, mode)
    stripe, first = world.stripe, subscription.items[0]
    meter = stripe.state.prices[stripe.state.items[first].price].meter
    item = first
    for used in (10, 7, 0):
        world.use(subscription, used or 50, at=world.now + 5 * MINUTE)
        world.sandbox.clock.advance(10 * MINUTE if used else HOUR)
        if used:
            new = stripe.add_item(subscription.id, stripe.add_price(meter=meter, metadata={"om_meter_id": METER}))
            stripe.delete_item(item)
            item = new
    world.execute()
    assert world.stripe.total(item) == 50
    end = SubscriptionView(subscription.id, [item])
    end_well(world, end)
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert (billed, named) == ((50, 117) if mode == "classic" else (150, 17))


@pytest.mark.parametrize("then", ["canceled", "changed on the way", "on trial", "on a trial that is over", "licensed"])
def test_whatever_else_became_of_it(world: World, then: str) -> None:
    subscription = begun(world, "hours", "classic")
    price = price_on(world, "hours", OTHER)
    if then == "licensed":
        price = world.stripe.add_price(usage_type="licensed", metadata={"om_meter_id": OTHER})
    if "trial" in then:
        world.stripe.start_trial(subscription.id, world.now + (5 * DAY if then == "on trial" else 30 * MINUTE))
        world.execute()
    world.use(subscription, 7, at=world.now + 5 * MINUTE, meter=OTHER)
    item = world.stripe.add_item(subscription.id, price)
    world.sandbox.clock.advance(10 * MINUTE)
    if then == "changed on the way":
        world.stripe.change_price(item, price_on(world, "additions", OTHER))
        world.use(subscription, 4, at=world.now + MINUTE, meter=OTHER)
        world.sandbox.clock.advance(5 * MINUTE)
    world.stripe.delete_item(item)
    if then == "canceled":
        world.stripe.cancel(subscription.id, invoice_now=True)
    if then == "on a trial that is over":
        world.sandbox.clock.advance(HOUR)
    world.execute()
    assert world.unbilled().get(item, 0) == {"canceled": 7, "changed on the way": 11}.get(then, 0)


@pytest.mark.parametrize("version", ["2024-06-20", "2025-02-24.acacia", "2026-10-28.endive"])
def test_in_whatever_version_the_accounts_events_are(world: World, version: str) -> None:
    world.stripe.api_version = version
    subscription = begun(world, "hours", "classic")
    item = passing(world, subscription, price_on(world, "hours", OTHER), 7, OTHER)
    world.execute()
    assert world.unbilled() == {item: 7}


def test_its_subscription_is_asked_for_once(world: World) -> None:
    """Although events are read again from a little before the last run on."""
    subscription = begun(world, "hours", "classic")
    world.execute()
    item = passing(world, subscription, price_on(world, "hours", OTHER), 7, OTHER)
    for _ in range(3):
        world.execute()
    assert (world.unbilled(), len(world.seen("GET", f"/v1/subscriptions/{subscription.id}"))) == ({item: 7}, 1)


def test_a_dry_run_and_a_key_without_permission_for_events_record_nothing(world: World) -> None:
    subscription = begun(world, "hours", "classic")
    passing(world, subscription, price_on(world, "hours", OTHER), 7, OTHER)
    world.execute(dry_run=True)
    assert world.unbilled() == {}
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/events$", status=403, times=None))
    world.execute()
    assert world.unbilled() == {}
