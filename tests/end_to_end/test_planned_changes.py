"""A change that is planned within a period is reported up to its instant, as the end of a period is."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from meter_sync.core.planning.selection import Selection
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import BillingMode
from meter_sync.sandbox.stripe.state.schedules import Phase
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.permissions import EXACTLY
from tests.support.ways import ALL_WAYS, WAYS, by_tier, end_of, invoiced, metered_price, one_fast, subscribed
from tests.support.world import METER, NOW, World

SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
WITHIN = 3 * MINUTE
CHANGE = NOW + DAY + 31 * MINUTE
"""When the change is planned for: no run comes then by itself."""

MODES = [pytest.param("classic", marks=pytest.mark.every_way), "flexible"]
HOW = ["another item", pytest.param("another price", marks=pytest.mark.every_way)]


def price_beside(world: World, subscription: SubscriptionView) -> str:
    """Add another price on the meter of a subscription's first item."""
    price = world.stripe.state.prices[world.stripe.state.items[subscription.items[0]].price]
    return world.stripe.add_price(meter=price.meter, metadata={"om_meter_id": METER})


def begun(world: World, way: str, mode: BillingMode) -> SubscriptionView:
    """Return a subscription of which 100 have been reported."""
    subscription = subscribed(world, way, billing_mode=mode)
    world.use(subscription, 100, at=world.now - DAY - HOUR)
    world.execute()
    return subscription


def planned(world: World, way: str, mode: BillingMode) -> SubscriptionView:
    """Return one with a change to another price ahead, 10 used since a full run has seen that."""
    subscription = begun(world, way, mode)
    world.stripe.plan_change(subscription.id, CHANGE, [price_beside(world, subscription)])
    world.sandbox.clock.move_to(CHANGE - 31 * MINUTE)
    world.execute()
    world.use(subscription, 10, at=CHANGE - 10 * SECOND)
    return subscription


def close(world: World) -> list[str]:
    """Do what `run --closing 3m` does, and return the items that it was about."""
    return list(world.close_in_time(WITHIN))


def end_well(world: World, subscription: SubscriptionView, end: datetime) -> tuple[int, int]:
    """Use 50 after the change, run past the end of the period, and return what was billed and what was named."""
    world.use(subscription, 50, at=CHANGE + HOUR)
    for pause in (2 * HOUR, end - world.now + 10 * MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.advance(pause)
        world.execute()
    return invoiced(world), sum(world.unbilled().values())


@pytest.mark.parametrize("way", one_fast(WAYS, "additions"))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", HOW)
def test_what_was_used_just_before_a_schedules_phase_is_reported_by_then(
    world: World, way: str, mode: BillingMode, how: str
) -> None:
    """So in flexible an invoice item bills it; in classic nobody bills what was stamped before, and it is named."""
    world.stripe.phases_change_prices = how == "another price"
    subscription = planned(world, way, mode)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(CHANGE - 50 * SECOND)
    assert close(world) == subscription.items
    assert (world.now, world.billed(subscription)) == (CHANGE - 5 * SECOND, 110)
    assert end_well(world, subscription, end) == ((50, 110) if mode == "classic" else (160, 0))


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_where_the_change_begins_a_new_period_the_invoice_has_all_that_was_used_before(world: World, way: str) -> None:
    subscription = begun(world, way, "classic")
    price = world.stripe.state.items[subscription.items[0]].price
    schedule = world.stripe.add_schedule(subscription.id)
    (phase,) = world.stripe.state.schedules[schedule].phases
    change = int(CHANGE.timestamp())
    anew = Phase(change, phase.end, phase.items, restarts_periods=True)
    world.stripe.set_phases(schedule, [Phase(phase.start, change, phase.items), anew])
    world.execute()
    world.sandbox.clock.move_to(CHANGE - 50 * SECOND)
    world.use(subscription, 10, at=world.now - MINUTE)
    close(world)
    assert world.billed(subscription) == 110
    world.sandbox.clock.move_to(CHANGE + 20 * SECOND)
    assert world.stripe.state.items[subscription.items[0]].price == price
    assert {line.quantity for one in world.stripe.invoices for line in one.lines} <= {100, 110}
    world.execute()
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert (invoiced(world) + world.billed(subscription), world.unbilled()) == (110, {})


def test_a_schedule_that_cancels_the_subscription_is_reported_up_to_its_end(world: World) -> None:
    subscription = begun(world, "last", "classic")
    schedule = world.stripe.add_schedule(subscription.id)
    (phase,) = world.stripe.state.schedules[schedule].phases
    until = Phase(phase.start, int(CHANGE.timestamp()), phase.items)
    world.stripe.set_phases(schedule, [until], "cancel")
    world.execute()
    world.sandbox.clock.move_to(CHANGE - 50 * SECOND)
    world.use(subscription, 10, at=world.now - MINUTE)
    close(world)
    for pause in (MINUTE, HOUR, 2 * HOUR):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert (invoiced(world), world.unbilled()) == (110, {})


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("events", ["read", "unread"])
def test_a_closing_run_just_after_it_bills_each_stretch_by_its_own_price(world: World, events: str, how: str) -> None:
    """It asks for that one subscription, once. Where no event tells, the change was at the instant that was planned."""
    world.openmeter.add_meter("other", aggregation="SUM")
    world.stripe.phases_change_prices = how == "another price"
    subscription = begun(world, "hours", "flexible")
    meter = world.stripe.state.prices[world.stripe.state.items[subscription.items[0]].price].meter
    other = world.stripe.add_price(meter=meter, metadata={"om_meter_id": "other"})
    world.stripe.plan_change(subscription.id, CHANGE, [other])
    world.execute()
    if events == "unread":
        world.sandbox.faults.add(Fault(server="stripe", path="/v1/events$", status=403, times=None))
    for meter_of_openmeter, used in ((METER, 10), ("other", 7)):
        world.use(subscription, used, at=CHANGE + 30 * SECOND, meter=meter_of_openmeter)
    world.use(subscription, 1, at=CHANGE - 30 * SECOND)
    for seconds in (60, 30):
        world.sandbox.clock.move_to(CHANGE + 150 * SECOND - timedelta(seconds=seconds))
        world.sandbox.requests.clear()
        world.execute(closing=WITHIN, is_beside=True)
    assert not [one for one in world.sandbox.requests if "/v1/subscriptions" in one.path], "it was asked for before"
    for _ in range(2):
        world.sandbox.clock.advance(HOUR)
        world.execute()
    (item,) = world.stripe.state.subscriptions[subscription.id].items
    assert (world.stripe.total(item), world.unbilled()) == (7, {subscription.items[0]: 1})


def test_of_several_phases_in_a_period_each_is_reported_up_to_its_instant(world: World) -> None:
    """Once one has begun, a closing run finds out about the next, though nothing has changed on the item."""
    subscription = begun(world, "hours", "flexible")
    schedule = world.stripe.add_schedule(subscription.id)
    (phase,) = world.stripe.state.schedules[schedule].phases
    first, second = (int(at.timestamp()) for at in (CHANGE, CHANGE + HOUR))
    cuts = [phase.start, first, second, phase.end]
    world.stripe.set_phases(schedule, [Phase(*cut, phase.items) for cut in pairwise(cuts)])
    world.execute()
    reported = []
    for at in (CHANGE, CHANGE + HOUR):
        world.sandbox.clock.move_to(at - 50 * SECOND)
        world.use(subscription, 1, at=world.now - SECOND)
        close(world)
        reported.append(world.billed(subscription))
        world.sandbox.clock.move_to(at + SECOND)
        close(world)
    assert reported == [101, 102]


def test_between_changes_a_closing_run_asks_nobody(world: World) -> None:
    subscription = planned(world, "hours", "flexible")
    world.sandbox.requests.clear()
    assert (close(world), world.sandbox.requests) == ([], [])
    schedule = world.stripe.state.subscriptions[subscription.id].schedule
    assert schedule
    world.stripe.release_schedule(schedule)
    world.execute()
    world.sandbox.clock.move_to(CHANGE - 50 * SECOND)
    assert close(world) == [], "a schedule that was released changes nothing"


@pytest.mark.parametrize("scheduled", [0, 1, 3])
def test_only_an_account_with_schedules_is_asked_for_them_with_one_request_more(world: World, scheduled: int) -> None:
    subscriptions = [world.subscribe() for _ in range(4)]
    world.execute()
    usual = len(world.seen("GET", ""))
    for subscription in subscriptions[:scheduled]:
        world.stripe.add_schedule(subscription.id)
    world.sandbox.requests.clear()
    assert set(world.execute()) == {item for one in subscriptions for item in one.items}
    lists = world.seen("GET", "/v1/subscriptions")
    assert len(lists) == (2 if scheduled else 1)
    assert len(world.seen("GET", "")) <= usual + len(lists) - 1


@pytest.mark.parametrize("narrowed", [False, True])
def test_a_key_that_may_not_read_schedules_goes_on_without(world: World, narrowed: bool) -> None:
    known = EXACTLY - {"subscription_schedules:read"}
    world.sandbox.stripe_key = world.stripe.add_restricted_key("rk_test_restricted", known)
    subscriptions = [world.subscribe(price) for price in (world.price, metered_price(world, "hours"))]
    for subscription in subscriptions:
        world.stripe.add_schedule(subscription.id)
        world.use(subscription, 5)
    ids = tuple(one.id for one in subscriptions)
    with capture_logs() as logged:
        found = world.execute(selection=Selection(subscriptions=ids) if narrowed else Selection())
    assert [str(one.outcome) for one in found.values()] == ["reported"] * 2
    assert [one["event"] for one in logged if one["log_level"] == "warning"] == ["schedules_unread"]
    assert [world.billed(subscription) for subscription in subscriptions] == [5, 5]


@pytest.mark.parametrize("way", one_fast(WAYS, "hours"))
@pytest.mark.parametrize("mode", MODES)
def test_while_an_update_is_pending_each_closing_run_reports_its_items(
    world: World, way: str, mode: BillingMode
) -> None:
    """It is applied when an invoice is paid, which nobody knows beforehand."""
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(CHANGE - HOUR)
    world.stripe.hold_update(subscription.id, {subscription.items[0]: price_beside(world, subscription)})
    world.execute()
    world.sandbox.clock.move_to(CHANGE - MINUTE)
    world.use(subscription, 10, at=world.now - SECOND)
    assert close(world) == subscription.items
    assert world.billed(subscription) == 110
    world.sandbox.clock.move_to(CHANGE)
    world.stripe.pay_for_update(subscription.id)
    world.sandbox.clock.advance(MINUTE)
    close(world)
    assert end_well(world, subscription, end) == ((50, 110) if mode == "classic" else (160, 0))


def test_once_it_has_expired_nothing_is_looked_at_any_more(world: World) -> None:
    subscription = begun(world, "hours", "flexible")
    world.stripe.hold_update(subscription.id, {subscription.items[0]: price_beside(world, subscription)})
    world.execute()
    world.sandbox.clock.advance(23 * HOUR - MINUTE)
    assert close(world) == subscription.items
    world.sandbox.clock.advance(2 * MINUTE)
    world.sandbox.requests.clear()
    assert (close(world), world.sandbox.requests) == ([], [])
