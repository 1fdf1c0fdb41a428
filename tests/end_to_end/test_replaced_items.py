"""An item that takes another's place on the same billing meter: the customer's usage is billed once, and all of it."""

from datetime import timedelta
from typing import Any

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import EVENTS, WAYS, by_tier, end_of, invoiced, metered
from tests.support.world import METER, NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(params=by_tier(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def replaced(world: World, subscription: SubscriptionView, **metadata: str) -> str:
    """Put an item with a price of its own on the same meter beside the one there is, and remove that one."""
    old = world.stripe.state.items[subscription.items[-1]]
    meter = world.stripe.state.prices[old.price].meter
    price = world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER, **metadata})
    new = world.stripe.add_item(subscription.id, price)
    world.stripe.delete_item(old.id)
    return new


def bills(world: World, way: str) -> SubscriptionView:
    """Return a subscription of which 3 have been reported, and 4 were used since."""
    subscription = metered(world, way)
    world.use(subscription, 3, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.advance(10 * MINUTE)
    world.use(subscription, 4, at=world.now - MINUTE)
    return subscription


def test_all_usage_of_the_period_is_billed_once_with_the_new_item(world: World, way: str) -> None:
    subscription = bills(world, way)
    new = replaced(world, subscription)
    world.use(subscription, 8, at=world.now + MINUTE)
    world.sandbox.clock.advance(5 * MINUTE)
    result = world.execute()[new]
    assert (str(result.outcome), result.found.quantity, world.stripe.total(new)) == ("reported", 15, 15)
    assert [one.item.id for one in world.last_results] == [new]
    world.sandbox.clock.move_to(end_of(world, subscription) + 2 * HOUR)
    world.execute()
    assert (invoiced(world), world.unbilled()) == (15, {})


def test_so_it_is_where_that_one_is_replaced_too(world: World, way: str) -> None:
    subscription = bills(world, way)
    first = replaced(world, subscription)
    subscription.items.append(first)
    world.sandbox.clock.advance(HOUR)
    second = replaced(world, subscription)
    world.use(subscription, 8, at=world.now - MINUTE)
    world.sandbox.clock.advance(DAY)
    world.execute()
    assert world.stripe.total(second) == 15


def test_so_it_is_where_no_run_came_before_the_period_ended(world: World, way: str) -> None:
    subscription = bills(world, way)
    new = replaced(world, subscription)
    end = end_of(world, subscription)
    world.use(subscription, 8, at=end - 2 * DAY)
    for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    assert invoiced(world) + sum(world.unbilled().values()) == 15
    assert {line.item for invoice in world.stripe.invoices for line in invoice.lines} == {new}


def test_an_item_that_meters_something_else_is_held_until_the_next_period(world: World, way: str) -> None:
    world.openmeter.add_meter("other", aggregation="SUM")
    subscription = bills(world, way)
    new = replaced(world, subscription, om_meter_id="other")
    world.sandbox.clock.advance(HOUR)
    result = world.execute()[new]
    assert (result.reason, world.stripe.total(new)) == ("mapping_changed", 3)


def test_an_addition_without_an_answer_is_not_made_twice_by_the_new_item(world: World) -> None:
    subscription = bills(world, "additions")
    world.sandbox.faults.add(Fault(path=EVENTS, drop="after"))
    world.execute()
    new = replaced(world, subscription)
    world.sandbox.clock.advance(HOUR)
    world.execute()
    assert world.stripe.total(new) == 7


def test_in_another_subscription_the_removed_items_usage_stays_its_own(world: World, way: str) -> None:
    """Its own last invoice may bill it."""
    subscription = bills(world, way)
    customer = world.customer_of(subscription)
    price = world.stripe.state.items[subscription.items[0]].price
    world.stripe.cancel(subscription.id, invoice_now=True)
    other = world.subscribe(price, customer=customer, period_start=world.now)
    world.use(subscription, 8, at=world.now)
    world.sandbox.clock.advance(30 * MINUTE)
    world.execute()
    assert world.stripe.total(other.items[0]) == 8


def ended_well(world: World, subscription: SubscriptionView) -> int:
    """Run until the period is closed, and return what is invoiced."""
    end = end_of(world, subscription)
    for pause in (2 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    return invoiced(world)


@pytest.mark.parametrize("where", ["the subscription", "another subscription"])
def test_a_duplicate_that_is_removed_leaves_the_usage_to_the_item_that_stays(
    world: World, way: str, where: str
) -> None:
    """As the hold asks for."""
    subscription = metered(world, way)
    world.use(subscription, 3, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.advance(10 * MINUTE)
    price = world.stripe.state.items[subscription.items[0]].price
    customer = world.customer_of(subscription)
    is_beside = where == "the subscription"
    item = world.stripe.add_item(subscription.id, world.stripe.add_price(meter=_meter(world, price), **ON_METER))
    if not is_beside:
        world.stripe.delete_item(item)
        other = world.subscribe(price, customer=customer, period_start=world.now)
    world.sandbox.clock.advance(DAY)
    world.use(subscription, 10, at=world.now - 2 * HOUR)
    assert world.verdict(subscription) == "duplicate_usage"
    if is_beside:
        world.stripe.delete_item(item)
    else:
        world.stripe.cancel(other.id)
    for pause in (10 * MINUTE, HOUR):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert world.billed(subscription) == 13
    assert (ended_well(world, subscription), world.unbilled()) == (13, {})


def test_while_the_removal_cannot_be_read_the_new_item_waits(world: World, way: str) -> None:
    subscription = bills(world, way)
    new = replaced(world, subscription)
    world.use(subscription, 8, at=world.now + MINUTE)
    world.sandbox.clock.advance(5 * MINUTE)
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/subscriptions/[^/]+$", status=500, times=None))
    assert world.execute()[new].reason == "duplicate_usage"
    world.sandbox.faults.clear()
    world.sandbox.clock.advance(5 * MINUTE)
    world.execute()
    assert world.stripe.total(new) == 15
    assert (ended_well(world, subscription), world.unbilled()) == (15, {})


def test_one_that_meters_something_else_is_not_billed_for_what_was_used_before_it_was_there(
    world: World, way: str
) -> None:
    world.openmeter.add_meter("other", aggregation="SUM")
    subscription = metered(world, way)
    world.execute()
    world.use(subscription, 100, at=NOW - DAY, meter="other")
    new = replaced(world, subscription, om_meter_id="other")
    world.use(subscription, 5, at=world.now + MINUTE, meter="other")
    world.sandbox.clock.advance(HOUR)
    world.execute()
    assert world.stripe.total(new) == 5


@pytest.mark.parametrize("row", ["ignore = true", 'openmeter = "api_requests"\nreport = false'])
def test_one_that_is_not_reported_takes_nothing_over(world: World, way: str, row: str) -> None:
    subscription = bills(world, way)
    old = world.stripe.state.items[subscription.items[0]]
    price = world.stripe.add_price(meter=_meter(world, old.price), **ON_METER)
    world.configure(f'[[meters]]\nprice = "{price}"\n{row}\n')
    new = world.stripe.add_item(subscription.id, price)
    world.stripe.delete_item(old.id)
    world.sandbox.clock.advance(HOUR)
    world.execute()
    assert world.stripe.total(new) + sum(world.unbilled().values()) == 7


def test_a_new_ledger_holds_an_item_whose_meter_has_events_from_before_it_was_there(world: World, way: str) -> None:
    subscription = bills(world, way)
    new = replaced(world, subscription)
    world.sandbox.clock.advance(HOUR)
    world.execute()
    world.ledger.unlink()
    world.use(subscription, 8, at=world.now - MINUTE)
    world.sandbox.clock.advance(HOUR)
    result = world.execute()[new]
    assert (result.reason, world.stripe.total(new)) == ("foreign_usage", 7)
    assert "from before it was added" in (result.message or "")


ON_METER: dict[str, Any] = {"metadata": {"om_meter_id": METER}}


def _meter(world: World, price: str) -> str:
    meter = world.stripe.state.prices[price].meter
    assert meter
    return meter
