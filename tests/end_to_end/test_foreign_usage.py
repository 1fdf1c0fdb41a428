"""What another program reports, before, beside or after this one, is named, and no wrong quantity is left behind."""

from datetime import timedelta
from typing import Literal

import pytest

from meter_sync.core.outcomes import ExitCode, Reason
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import Aggregation
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.runs import executed
from tests.support.ways import ALL_WAYS, end_of, metered, one_fast
from tests.support.world import METER, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
EVERY_WAY = ["day_records", *ALL_WAYS]


def subscribed(world: World, way: str) -> SubscriptionView:
    if way == "day_records":
        world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nrecords = "day"\n')
    return metered(world, way) if way not in {"record", "day_records"} else world.subscribe()


def report_elsewhere(world: World, way: str, subscription: SubscriptionView, value: int) -> None:
    """Let another program report something, an hour ago."""
    at = int((world.now - HOUR).timestamp())
    if way in {"record", "day_records"}:
        world.stripe.create_usage_record(subscription.items[0], value, at, "set")
    else:
        payload = {"stripe_customer_id": world.customer_of(subscription), "value": str(value)}
        world.stripe.create_meter_event(f"{way}_{METER}", payload, at)


@pytest.mark.parametrize("way", one_fast(EVERY_WAY, "record"))
def test_usage_of_another_program_on_an_item_without_any_is_named_at_its_end(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    assert executed(world).exit_code is ExitCode.DONE
    world.sandbox.clock.advance(DAY)
    report_elsewhere(world, way, subscription, 500)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    if way in {"record", "day_records"}:  # Stripe might still take records of it
        world.execute()
        world.sandbox.clock.move_to(end + 3 * DAY + HOUR)

    (named,) = [one for one in executed(world).results if one.reason]

    assert (named.outcome, named.reason, named.lacking) == ("held", "foreign_usage", -500)
    assert world.stripe.invoices[0].lines[0].quantity == 500
    assert world.unbilled() == {subscription.items[0]: -500}
    world.sandbox.clock.advance(HOUR)
    assert executed(world).exit_code is ExitCode.DONE


@pytest.mark.parametrize("way", one_fast(["record", "day_records", "last"], "record"))
def test_an_item_without_usage_is_looked_at_once_in_each_period(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) + DAY)
    report_elsewhere(world, way, subscription, 500)

    for _ in range(2):
        assert world.verdict(subscription) == "foreign_usage"
        world.sandbox.clock.advance(HOUR)
    assert world.billed(subscription) == 500
    assert not world.writes

    report_elsewhere(world, way, subscription, 0)
    if way != "last":
        world.stripe.create_usage_record(subscription.items[0], 0, int((world.now - 3 * HOUR).timestamp()), "set")
    assert world.verdict(subscription) == "unchanged"
    world.sandbox.requests.clear()
    assert world.verdict(subscription) == "unchanged"
    assert not [*world.seen("GET", "/usage_record_summaries"), *world.seen("GET", "/event_summaries")]


@pytest.mark.parametrize("aggregation", one_fast(["SUM", "LATEST"], "LATEST"))
@pytest.mark.parametrize("aggregate_usage", ["last_during_period", "last_ever", "max"])
@pytest.mark.parametrize("first", one_fast([50, 30, 120], 50))
def test_the_first_sight_decides_whose_record_counts_where_records_do_not_add_up(
    world: World, aggregate_usage: Aggregation, aggregation: Literal["SUM", "LATEST"], first: int
) -> None:
    """Also where both are the same at first: no run says that it has reported what Stripe does not bill."""
    world.openmeter.add_meter("seats", aggregation=aggregation)
    price = world.stripe.add_price(metadata={"om_meter_id": "seats"}, aggregate_usage=aggregate_usage)
    subscription = world.subscribe(price)
    later = int((world.now - HOUR).timestamp())
    world.stripe.create_usage_record(subscription.items[0], 50, later, "set")
    used = 0
    for quantity in (first, first, 120, 130):
        if quantity != used:
            gauge = quantity if aggregation == "LATEST" else quantity - used
            world.use(subscription, gauge, meter="seats", at=world.now - MINUTE)
        used = quantity
        for _ in range(2):
            said = world.verdict(subscription)
            assert said in {"reported", "unchanged", "foreign_usage", "decrease"}
            if said in {"reported", "unchanged"}:
                assert world.billed(subscription) == quantity
            elif aggregate_usage != "max":
                assert world.billed(subscription) == 50
        world.sandbox.clock.advance(HOUR)
    if aggregate_usage == "max":
        assert world.billed(subscription) == 130
        return
    assert world.verdict(subscription) == "foreign_usage"
    assert "130, but a usage record that is not from this program" in str(world.last_results[0].message)
    assert "Stripe bills 50" in str(world.last_results[0].message)


def test_a_later_record_of_another_program_that_is_gone_lifts_the_hold(world: World) -> None:
    price = world.stripe.add_price(metadata={"om_meter_id": METER}, aggregate_usage="last_during_period")
    subscription = world.subscribe(price)
    (item,) = subscription.items
    later = int((world.now - HOUR).timestamp())
    world.stripe.create_usage_record(item, 50, later, "set")
    world.use(subscription, 120)
    assert world.verdict(subscription) == "foreign_usage"
    world.stripe.create_usage_record(item, 120, later, "set")
    assert world.verdict(subscription) == "unchanged"
    del world.stripe.state.items[item].records[later]
    world.use(subscription, 5)
    assert [world.verdict(subscription) for _ in range(2)] == ["reported", "unchanged"]
    assert world.billed(subscription) == 125


@pytest.mark.parametrize("way", one_fast(["record", "day_records"], "record"))
def test_what_another_program_holds_is_read_again_whenever_only_the_rest_is_billed(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    elsewhere = int((world.now - 3 * HOUR).timestamp())

    def hold_elsewhere(quantity: int) -> None:
        world.stripe.create_usage_record(subscription.items[0], quantity, elsewhere, "set")

    hold_elsewhere(30)
    world.use(subscription, 20, at=world.now - 2 * DAY)
    world.use(subscription, 30)
    assert world.verdict(subscription, Reason.FOREIGN_USAGE) == "reported"
    assert world.billed(subscription) == 50
    assert world.verdict(subscription) == "unchanged"

    hold_elsewhere(40)
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 50

    hold_elsewhere(0)
    world.use(subscription, 5)
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 55
    world.use(subscription, 1)
    assert [world.verdict(subscription) for _ in range(2)] == ["reported", "unchanged"]
    assert world.billed(subscription) == 56


@pytest.mark.parametrize("way", one_fast(["record", "day_records"], "record"))
def test_more_than_all_from_another_program_is_held_again_in_spite_of_the_permission(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    elsewhere = int((world.now - 3 * HOUR).timestamp())
    world.stripe.create_usage_record(subscription.items[0], 30, elsewhere, "set")
    world.use(subscription, 50)
    world.execute(Reason.FOREIGN_USAGE)
    world.stripe.create_usage_record(subscription.items[0], 80, elsewhere, "set")
    world.use(subscription, 5)

    for _ in range(2):
        assert world.verdict(subscription) == "foreign_usage"
        assert "OpenMeter says 55" in str(world.last_results[0].message)
        assert "hold 80" in str(world.last_results[0].message)
    assert world.verdict(subscription, dry_run=True) == "planned"

    world.stripe.create_usage_record(subscription.items[0], 55, elsewhere, "set")
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 55


def test_a_write_without_an_answer_beside_another_program_ends_at_the_right_total(world: World) -> None:
    subscription = world.subscribe()
    elsewhere = int((world.now - 3 * HOUR).timestamp())
    world.stripe.create_usage_record(subscription.items[0], 30, elsewhere, "set")
    world.use(subscription, 50)
    world.execute(Reason.FOREIGN_USAGE)
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(method="POST", path="/usage_records$", drop="after"))
    assert world.verdict(subscription) == "stripe_error"
    world.stripe.create_usage_record(subscription.items[0], 45, elsewhere, "set")

    world.execute()
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 55


def overwrite(world: World, way: str, subscription: SubscriptionView, value: int) -> None:
    """Let another writer set the hour, or the day, that was reported to something else."""
    if way == "day_records":
        records = world.stripe.records(subscription.items[0])
        world.stripe.create_usage_record(subscription.items[0], value, min(records), "set")
        return
    state, customer = world.stripe.state, world.customer_of(subscription)
    meter = state.prices[state.items[subscription.items[0]].price].meter
    first = world.stripe.meter_events(str(meter), customer)[0]
    payload = {"stripe_customer_id": world.customer_of(subscription), "value": str(value)}
    world.stripe.create_meter_event(f"{way}_{METER}", payload, first.timestamp)


@pytest.mark.parametrize("value", [1, 500])
@pytest.mark.parametrize("way", one_fast(["day_records", "hours", "days"], "hours"))
def test_an_hour_or_a_day_that_another_writer_changed_heals_within_a_day(world: World, way: str, value: int) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 100, at=world.now - 5 * DAY)
    world.use(subscription, 7)
    world.execute()
    overwrite(world, way, subscription, value)
    assert world.billed(subscription) == value + 7

    world.sandbox.clock.advance(DAY)
    assert world.verdict(subscription) == "reported"

    assert world.billed(subscription) == 107
    world.sandbox.requests.clear()
    for _ in range(2):
        world.sandbox.clock.advance(HOUR)
        assert world.verdict(subscription) == "unchanged"
    reads = [*world.seen("GET", "/usage_record_summaries"), *world.seen("GET", "/event_summaries")]
    assert (reads, world.writes) == ([], [])


@pytest.mark.parametrize("way", one_fast(["day_records", "hours", "days"], "hours"))
def test_hours_or_days_that_nobody_changed_cost_one_read_a_day_and_no_write(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 100, at=world.now - 5 * DAY)
    world.execute()
    world.sandbox.requests.clear()
    for _ in range(5):
        world.sandbox.clock.advance(12 * HOUR)
        assert world.verdict(subscription) == "unchanged"
    reads = [*world.seen("GET", "/usage_record_summaries"), *world.seen("GET", "/event_summaries")]
    assert (len(reads), world.writes) == (2, [])


@pytest.mark.parametrize("way", one_fast(["day_records", "hours", "days"], "hours"))
def test_what_cannot_be_compared_is_reported_all_the_same(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 100, at=world.now - 5 * DAY)
    world.execute()
    world.sandbox.clock.advance(DAY)
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(method="GET", path="summaries$", times=None, status=500))
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 105


def test_an_hour_of_another_program_in_which_nothing_was_used_is_set_to_zero(world: World) -> None:
    subscription = subscribed(world, "hours")
    world.use(subscription, 100, at=world.now - 5 * DAY)
    world.execute()
    report_elsewhere(world, "hours", subscription, 40)
    world.sandbox.clock.advance(2 * DAY)
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 100


def test_a_record_of_another_program_beside_records_of_days_is_found_within_a_day(world: World) -> None:
    subscription = subscribed(world, "day_records")
    world.use(subscription, 100, at=world.now - 5 * DAY)
    world.execute()
    report_elsewhere(world, "day_records", subscription, 40)
    world.sandbox.clock.advance(DAY)
    assert world.verdict(subscription) == "foreign_usage"
    assert world.billed(subscription) == 140
