"""What an invoice has is never named: its line says what is billed, and where it cannot, Stripe's summary does in time.

Runs are the program's own, in this process and over real HTTP; invoices are the sandbox's.
"""

from datetime import datetime, timedelta
from typing import Literal

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import TransformQuantity
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, WAYS, by_tier, end_of, invoiced, one_fast, subscribed
from tests.support.world import NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
INVOICES = "/v1/invoices$"


def in_packages(world: World, subscription: SubscriptionView) -> SubscriptionView:
    """Let what an invoice's line says be in another unit: it is not known to be what was used."""
    price = world.stripe.state.prices[world.stripe.state.items[subscription.items[0]].price]
    price.transform_quantity = TransformQuantity(10, "up")
    return subscription


def with_last_usage(world: World, way: str, *, is_per_unit: bool) -> tuple[SubscriptionView, datetime]:
    """Return a subscription of which 93 were reported in its period, and 7 just after its end, and that end."""
    subscription = subscribed(world, way)
    if not is_per_unit:
        in_packages(world, subscription)
    end = end_of(world, subscription)
    world.use(subscription, 93, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.move_to(end - 2 * HOUR)
    world.execute()
    world.use(subscription, 7, at=end - DAY)
    world.sandbox.clock.move_to(end + MINUTE)
    world.execute()
    return subscription, end


@pytest.mark.parametrize("is_per_unit", [True, False], ids=["units", "packages"])
@pytest.mark.parametrize("way", by_tier(WAYS))
def test_what_a_summary_does_not_show_yet_when_the_invoice_is_final_is_not_named(
    world: World, way: str, is_per_unit: bool
) -> None:
    world.stripe.summary_lag_seconds = 6 * 3600
    _, end = with_last_usage(world, way, is_per_unit=is_per_unit)
    for pause in (2 * HOUR, 5 * HOUR, 8 * HOUR, 2 * DAY, 5 * DAY):
        world.sandbox.clock.move_to(end + pause)
        world.execute()
        assert (world.unbilled(), [one.reason for one in world.last_results if one.reason]) == ({}, [])
    assert invoiced(world) == 100
    with world.books() as ledger:
        assert all(one.item.period.end > end for one in ledger.listed.ended(world.now))


@pytest.mark.parametrize("way", by_tier(WAYS))
def test_the_line_of_a_final_invoice_decides_without_a_summary(world: World, way: str) -> None:
    _, end = with_last_usage(world, way, is_per_unit=True)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    asked = len(world.seen("GET", "/event_summaries"))
    world.execute()
    # Where one total counts, the period that follows is looked at once: nothing was used in it so far.
    asked += way == "last"
    assert (world.unbilled(), len(world.seen("GET", "/event_summaries"))) == ({}, asked)


@pytest.mark.parametrize("way", by_tier(WAYS))
def test_what_a_summary_still_does_not_show_after_a_day_is_named(world: World, way: str) -> None:
    """Stripe lost it: summaries do not lag so long."""
    subscription, end = with_last_usage(world, way, is_per_unit=False)
    (events,) = [those for those in world.stripe.state.meter_events.values() if those]
    last = max(events, key=lambda one: one.received)
    world.stripe.cancel_meter_event(last.event_name, last.identifier)
    lost = 100 - world.stripe.total(subscription.items[0], end - DAY)
    assert lost > 0
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    assert world.unbilled() == {}
    world.sandbox.clock.move_to(end + DAY + HOUR)
    world.execute()
    assert (100 - invoiced(world), world.unbilled()) == (lost, {subscription.items[0]: lost})


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_what_an_invoice_lacks_is_named_by_its_line(world: World, way: str) -> None:
    subscription, end = with_last_usage(world, way, is_per_unit=True)
    world.use(subscription, 5, at=end - DAY)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    world.sandbox.clock.move_to(end + 4 * DAY)
    world.execute()
    assert (invoiced(world), world.unbilled()) == (100, {subscription.items[0]: 5})


@pytest.mark.parametrize("unbounded", ["open", "all"])
@pytest.mark.parametrize("is_per_unit", [True, False], ids=["units", "packages"])
@pytest.mark.parametrize("late", one_fast([0, 9], 9))
def test_a_summary_without_bounds_is_taken_for_no_other_period(
    world: World, unbounded: Literal["open", "all"], is_per_unit: bool, late: int
) -> None:
    subscription = world.subscribe()
    if not is_per_unit:
        in_packages(world, subscription)
    world.stripe.summaries_without_bounds = unbounded
    end = end_of(world, subscription)
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.move_to(end + MINUTE)
    world.execute()
    world.use(subscription, 30, at=end + MINUTE)
    world.use(subscription, late, at=end - HOUR)
    for pause in (2 * HOUR, 3 * HOUR, 2 * DAY, 4 * DAY):
        world.sandbox.clock.move_to(end + pause)
        world.execute()
    named = {subscription.items[0]: late} if late else {}
    assert (invoiced(world), world.billed(subscription), world.unbilled()) == (100, 30, named)


def test_a_period_that_no_summary_can_be_told_from_others_is_not_known(world: World) -> None:
    """An earlier ledger reported it, and neither its invoice nor bounds say which summary is that of the period."""
    subscription = in_packages(world, world.subscribe())
    end = end_of(world, subscription)
    world.stripe.create_usage_record(subscription.items[0], 100, int(NOW.timestamp()), "set")
    world.use(subscription, 105, at=NOW - DAY)
    world.sandbox.clock.move_to(end - MINUTE)
    world.stripe.summaries_without_bounds = "all"
    world.sandbox.faults.add(Fault(server="openmeter", path="/query", status=500, times=None))
    world.execute()
    world.sandbox.faults.clear()
    world.sandbox.faults.add(Fault(server="stripe", method="GET", path=INVOICES, status=500, times=None))
    for pause in (HOUR, DAY, 4 * DAY, 6 * DAY):
        world.sandbox.clock.move_to(end + pause)
        world.execute()
    with world.books() as ledger:
        (one,) = ledger.remainders.unbilled()
    assert (one.is_unknown, one.remainder) == (True, 0)
