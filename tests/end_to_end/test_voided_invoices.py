"""What an invoice held that was voided, or deleted as a draft, is billed by nobody: it is named, also long after.

Runs are the program's own, in this process and over real HTTP; invoices and their events are the sandbox's.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, end_of, one_fast, subscribed
from tests.support.world import METER, NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(params=by_tier(ALL_WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ended(world: World, way: str, used: int = 100) -> SubscriptionView:
    """Return a subscription ten minutes after its period's end, when its invoice is a draft of what was used."""
    subscription = subscribed(world, way)
    world.use(subscription, used, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) + 10 * MINUTE)
    world.execute()
    return subscription


def run_after(world: World, *pauses: timedelta) -> None:
    for pause in pauses:
        world.sandbox.clock.advance(pause)
        world.execute()


def void(world: World, number: int = 0) -> None:
    world.stripe.void_invoice(world.stripe.invoices[number].id)


def delete(world: World) -> None:
    world.stripe.delete_draft(world.stripe.invoices[0].id)


def still_billed(world: World) -> int:
    return sum(line.quantity for one in world.stripe.invoices if one.status != "void" for line in one.lines)


@pytest.mark.parametrize(("after", "undo"), [(timedelta(0), delete), (2 * HOUR, void)])
def test_what_an_invoice_held_that_bills_nobody_any_more_is_named_in_all_later_runs(
    world: World, way: str, after: timedelta, undo: Callable[[World], None]
) -> None:
    subscription = ended(world, way)
    run_after(world, after)
    undo(world)
    for pause in (MINUTE, 2 * HOUR, DAY, 4 * DAY, DAY):
        run_after(world, pause)
        assert (still_billed(world), world.unbilled()) == (0, {subscription.items[0]: 100})


def test_it_is_named_also_where_the_period_was_closed_before(world: World, way: str) -> None:
    subscription = ended(world, way)
    run_after(world, 2 * HOUR, 4 * DAY, 6 * DAY)
    assert world.unbilled() == {}
    void(world)
    run_after(world, HOUR, DAY)
    assert world.unbilled() == {subscription.items[0]: 100}


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_openmeter_that_fails_then_is_asked_again(world: World, way: str) -> None:
    subscription = ended(world, way)
    run_after(world, 2 * HOUR, 10 * DAY)
    void(world)
    world.sandbox.faults.add(Fault(server="openmeter", path="/query$", status=500, times=2))
    run_after(world, HOUR)
    assert world.unbilled() == {}
    run_after(world, HOUR)
    assert world.unbilled() == {subscription.items[0]: 100}


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "hours"))
def test_what_is_forgiven_is_not_named(world: World, way: str) -> None:
    world.configure('voided_invoices = "forgive"\n')
    ended(world, way)
    run_after(world, 2 * HOUR, 10 * DAY)
    void(world)
    run_after(world, HOUR, DAY)
    assert (still_billed(world), world.unbilled()) == (0, {})


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
@pytest.mark.parametrize("setting", ["name", "forgive"])
def test_what_a_later_period_has_of_it_stays_there_and_no_more_is_carried(world: World, way: str, setting: str) -> None:
    world.configure(f'voided_invoices = "{setting}"\nlate_usage = "carry"\n')
    subscription = ended(world, way)
    run_after(world, 2 * HOUR)
    world.use(subscription, 10, at=NOW - DAY)
    run_after(world, HOUR, HOUR)
    assert (world.billed(subscription), world.unbilled()) == (10, {})
    void(world)
    named = {"name": {subscription.items[0]: 100}, "forgive": {}}[setting]
    for pause in (HOUR, 5 * DAY, end_of(world, subscription) - world.now, 2 * HOUR, 4 * DAY, DAY):
        run_after(world, pause)
        assert world.unbilled() == named
    assert still_billed(world) == 10


def test_what_an_invoice_item_billed_of_the_time_before_a_change_of_price_is_named_with_it(world: World) -> None:
    meters = [world.stripe.add_meter(f"{name}_used", formula="last") for name in ("old", "new")]
    old, new = (world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}) for meter in meters)
    subscription = world.subscribe(old, billing_mode="flexible")
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    world.stripe.change_price(subscription.items[0], new)
    world.use(subscription, 50, at=NOW + DAY)
    run_after(world, 2 * DAY)
    world.sandbox.clock.move_to(end_of(world, subscription) + 10 * MINUTE)
    world.execute()
    assert (still_billed(world), world.unbilled()) == (150, {})
    delete(world)
    run_after(world, MINUTE, 2 * HOUR, 4 * DAY)
    assert world.unbilled() == {subscription.items[0]: 150}


def test_events_are_asked_for_in_one_request(world: World) -> None:
    ended(world, "record")
    world.sandbox.requests.clear()
    world.execute()
    assert len(world.seen("GET", "/v1/events")) == 1


@pytest.mark.parametrize("way", one_fast(["record", "last"], "record"))
def test_an_invoice_with_more_lines_than_its_event_shows_is_voided_as_a_whole(world: World, way: str) -> None:
    prices = []
    for number in range(12):
        world.openmeter.add_meter(f"meter_{number}", aggregation="SUM")
        meter = world.stripe.add_meter(f"event_{number}", formula="last") if way == "last" else None
        prices.append(world.stripe.add_price(meter=meter, metadata={"om_meter_id": f"meter_{number}"}))
    subscription = world.subscribe(*prices)
    for number in range(12):
        world.use(subscription, number + 1, at=NOW - DAY, meter=f"meter_{number}")
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) + 10 * MINUTE)
    world.execute()
    delete(world)
    run_after(world, MINUTE, 2 * HOUR, 4 * DAY)
    assert world.unbilled() == {item: number + 1 for number, item in enumerate(subscription.items)}
