"""What changes beneath a mapping, and usage that is older than Stripe takes: each unit is billed once or named once."""

from datetime import timedelta

import pytest

from meter_sync.core.outcomes import Reason
from tests.support.ways import ALL_WAYS, WAYS, end_of, invoiced, metered_price, one_fast, subscribed
from tests.support.world import METER, NOW, World

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_a_meter_that_was_made_anew_under_its_slug_is_held(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 1000, at=NOW - DAY)
    world.execute()
    world.openmeter.delete_meter(METER)
    world.openmeter.add_meter(METER, aggregation="SUM")
    world.use(subscription, 1100, at=NOW + HOUR)
    world.sandbox.clock.advance(DAY)
    assert (world.verdict(subscription), world.billed(subscription)) == ("mapping_changed", 1000)
    end = end_of(world, subscription)
    for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    assert (invoiced(world), world.unbilled()) == (1000, {subscription.items[0]: 1100})


def test_so_is_one_that_aggregates_in_another_way_until_that_is_allowed(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 1000, at=NOW - DAY)
    world.execute()
    world.openmeter.delete_meter(METER)
    world.openmeter.add_meter(METER, aggregation="LATEST")
    world.use(subscription, 1100, at=NOW - HOUR)
    assert world.verdict(subscription) == "mapping_changed"
    assert world.verdict(subscription, Reason.MAPPING_CHANGED) == "reported"
    assert world.billed(subscription) == 1100


@pytest.mark.parametrize("way", one_fast(("hours", "days"), "hours"))
def test_what_is_too_old_for_its_own_window_goes_into_the_oldest_that_stripe_takes(world: World, way: str) -> None:
    """The invoice of the period sums them all the same."""
    price = world.stripe.state.prices[metered_price(world, way)]
    quarter = world.stripe.add_price(
        meter=price.meter, interval="month", interval_count=3, metadata={"om_meter_id": METER}
    )
    subscription = world.subscribe(quarter)
    world.use(subscription, 1000, at=NOW - 8 * DAY)
    world.sandbox.clock.advance(70 * DAY)
    world.use(subscription, 5, at=world.now - DAY)
    for _ in range(3):
        assert world.verdict(subscription) in {"reported", "unchanged"}
        assert world.billed(subscription) == 1005
        world.sandbox.clock.advance(7 * HOUR)
    world.use(subscription, 100, at=NOW)
    world.sandbox.clock.advance(DAY)
    world.execute()
    assert world.billed(subscription) == 1105
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end - HOUR)
    world.execute()
    for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    assert (invoiced(world), world.unbilled()) == (1105, {})
    assert WAYS[way]["window"]


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
@pytest.mark.parametrize("is_seen", [True, pytest.param(False, marks=pytest.mark.every_way)])
def test_of_a_period_shorter_than_a_minute_each_unit_is_billed_or_named_once(
    world: World, way: str, is_seen: bool
) -> None:
    subscription = subscribed(world, way, period_start=NOW)
    world.sandbox.clock.advance(5 * MINUTE)
    world.use(subscription, 5, at=world.now - MINUTE)
    world.execute()
    world.sandbox.clock.advance(10 * SECOND)
    world.stripe.restart_periods(subscription.id)
    world.use(subscription, 7, at=world.now + 5 * SECOND)
    world.sandbox.clock.advance(20 * SECOND)
    if is_seen:
        world.execute()
    world.sandbox.clock.advance(15 * SECOND)
    world.stripe.restart_periods(subscription.id)
    world.use(subscription, 3, at=world.now + HOUR)
    for pause in (MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.advance(pause)
        world.execute()
    open_now = world.billed(subscription)
    assert invoiced(world) + sum(world.unbilled().values()) + open_now == 15


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_a_planned_end_is_reported_up_to_its_instant_by_the_closing_run(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    ends = NOW + 2 * DAY + 30 * MINUTE
    world.stripe.cancel_at(subscription.id, ends)
    world.use(subscription, 5, at=NOW - DAY)
    world.execute()
    world.use(subscription, 3, at=ends - 3 * HOUR)
    world.sandbox.clock.move_to(ends - MINUTE)
    world.execute(closing=3 * MINUTE, is_beside=True)
    world.sandbox.clock.move_to(ends + SECOND)
    in_the_last_window = 3 if way == "days" else 0
    assert invoiced(world) == 8 - in_the_last_window
    for pause in (2 * HOUR, 4 * DAY):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert sum(world.unbilled().values()) == in_the_last_window


def test_one_that_is_kept_after_all_goes_on(world: World) -> None:
    subscription = subscribed(world, "additions")
    world.use(subscription, 5, at=NOW - DAY)
    world.stripe.cancel_at(subscription.id, NOW + DAY)
    world.execute()
    world.stripe.cancel_at(subscription.id, None)
    world.sandbox.clock.advance(3 * DAY)
    world.use(subscription, 3, at=world.now - HOUR)
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 8


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
@pytest.mark.parametrize(("setting", "named"), [("name", 12), ("forgive", 0)])
def test_of_a_voided_invoice_all_that_it_held_is_named_or_none_of_it(
    world: World, way: str, setting: str, named: int
) -> None:
    world.configure(f'voided_invoices = "{setting}"\n')
    subscription = subscribed(world, way)
    world.use(subscription, 5, at=NOW - DAY)
    world.execute()
    world.stripe.pause_collection(subscription.id, "void")
    end = end_of(world, subscription)
    world.use(subscription, 7, at=end - DAY)
    for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY, DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    assert sum(world.unbilled().values()) == named


def test_what_billing_thresholds_kept_from_being_reported_is_named_at_the_end(world: World) -> None:
    subscription = world.subscribe(billing_thresholds={"amount_gte": 1000})
    world.use(subscription, 5, at=NOW - DAY)
    assert world.verdict(subscription) == "billing_thresholds"
    end = end_of(world, subscription)
    for pause in (10 * MINUTE, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    assert (invoiced(world), world.unbilled()) == (0, {subscription.items[0]: 5})


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
@pytest.mark.parametrize("is_allowed", [True, pytest.param(False, marks=pytest.mark.every_way)])
def test_a_lost_subject_is_held_and_by_permission_the_interval_is_split_where_it_was_reported_last(
    world: World, way: str, is_allowed: bool
) -> None:
    world.configure('[mapping]\nsubject = "subscription.metadata.tenant"\n')
    subscription = subscribed(world, way, metadata={"tenant": "old"})
    world.use("old", 100, at=NOW - DAY)
    world.execute()
    world.stripe.set_subscription_metadata(subscription.id, {"tenant": "new"})
    world.use("new", 50, at=NOW - 2 * DAY)
    world.use("new", 180, at=NOW + HOUR)
    world.sandbox.clock.advance(DAY)
    assert (world.verdict(subscription), world.billed(subscription)) == ("mapping_changed", 100)
    end = end_of(world, subscription)
    if is_allowed:
        assert world.verdict(subscription, Reason.MAPPING_CHANGED) == "reported"
        assert world.billed(subscription) == 280
        world.use("new", 20, at=world.now)
        world.sandbox.clock.advance(DAY)
        assert (world.verdict(subscription), world.billed(subscription)) == ("reported", 300)
    for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    assert (invoiced(world), sum(world.unbilled().values())) == ((300, 0) if is_allowed else (100, 180))
