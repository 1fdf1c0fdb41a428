"""`meter-sync verify --closed DAYS`: what invoices bill of periods that have ended against what OpenMeter says by now.

It writes nothing, neither to Stripe nor to the ledger.
"""

from datetime import datetime, timedelta

import pytest

from meter_sync.core.telling.comparison import Comparison, Verdict
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.end_to_end.test_read_back import in_packages
from tests.end_to_end.test_verify import BY_DAYS, numbers, verified
from tests.support.ways import ALL_WAYS, by_tier, end_of, metered, one_fast, subscribed
from tests.support.world import METER, NOW, PERIOD_START, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(params=by_tier(ALL_WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def closed(world: World, subscription: SubscriptionView, *, late: int = 0) -> datetime:
    """Report 100 of a period until it is closed, and return its end; `late` are ingested once it is watched no more."""
    end = end_of(world, subscription)
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    for pause in (-HOUR, MINUTE, 3 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(end + pause)
        world.execute()
    if late:
        world.use(subscription, late, at=NOW - DAY)
    return end


def compared(world: World, days: int = 30) -> Comparison:
    done = verified(world, closed_days=days)
    assert done.error is None
    (one,) = done.comparisons
    return one


def test_a_closed_period_matches_its_invoice(world: World, way: str) -> None:
    closed(world, subscribed(world, way))
    one = compared(world)
    assert (one.verdict, one.reason, *numbers(one)) == (Verdict.MATCH, None, 100, 100, 0)


def test_usage_that_came_once_a_period_was_no_longer_watched_is_named(world: World, way: str) -> None:
    closed(world, subscribed(world, way), late=40)
    world.execute()
    assert world.unbilled() == {}
    one = compared(world)
    assert (one.verdict, one.reason, *numbers(one)) == (Verdict.MISMATCH, "late_events", 140, 100, -40)
    assert "the invoice bills 100 and OpenMeter says 140 by now: 40 are not billed" in str(one.message)


def test_it_takes_one_list_of_invoices_however_many_items_there_are(world: World) -> None:
    first = world.subscribe()
    for _ in range(4):
        world.use(world.subscribe(), 7, at=NOW - DAY)
    closed(world, first)
    asked = len([one for one in world.sandbox.requests if one.server == "stripe"])
    done = verified(world, closed_days=30)
    assert [one.verdict for one in done.comparisons] == [Verdict.MATCH] * 5
    paths = [one.path for one in world.sandbox.requests if one.server == "stripe"][asked:]
    assert paths.count("/v1/invoices") == 1
    assert len(paths) <= 2, paths


def test_periods_that_ended_earlier_are_left_out(world: World) -> None:
    end = closed(world, world.subscribe(), late=40)
    world.sandbox.clock.move_to(end + 9 * DAY)
    assert not verified(world, closed_days=8).comparisons
    assert compared(world, 10).verdict is Verdict.MISMATCH


def test_a_period_whose_invoice_is_a_draft_is_left_to_runs(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.move_to(end + 10 * MINUTE)
    assert not verified(world, closed_days=1).comparisons


def test_what_a_run_has_named_is_a_difference_until_a_person_settles_it(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.move_to(end + 3 * HOUR)
    world.execute()
    world.use(subscription, 5, at=NOW - DAY)
    world.stripe.grace_seconds = 0
    world.execute()
    world.sandbox.clock.move_to(end + 4 * DAY)
    world.execute()
    one = compared(world)
    assert (one.verdict, one.reason, *numbers(one)) == (Verdict.MISMATCH, "period_closed", 105, 100, -5)
    assert "history --unbilled" in str(one.message)
    start = one.found.item.period.start.isoformat()
    assert world.meter_sync("history", "--settle", subscription.items[0], start, "--note", "by hand").code == 0
    one = compared(world)
    assert (one.verdict, *numbers(one)) == (Verdict.MATCH, 100, 100, 0)


def test_what_was_carried_is_expected_of_the_period_that_it_was_carried_into(world: World, way: str) -> None:
    world.configure('late_usage = "carry"\n')
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.move_to(end + 3 * HOUR)
    world.stripe.grace_seconds = 0
    world.execute()
    world.use(subscription, 5, at=NOW - DAY)
    world.execute()
    world.use(subscription, 1, at=end + DAY)
    later = end_of(world, subscription)
    for pause in (-HOUR, MINUTE, 3 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(later + pause)
        world.execute()
    done = verified(world, closed_days=60)
    assert [(one.verdict, *numbers(one)) for one in done.comparisons] == [
        (Verdict.MATCH, 100, 100, 0),
        (Verdict.MATCH, 6, 6, 0),
    ]


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_a_period_is_compared_by_the_mapping_that_it_was_reported_by(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    price = world.stripe.state.items[subscription.items[0]].price
    closed(world, subscription)
    world.openmeter.add_meter("other", aggregation="SUM")
    world.use(subscription, 3, at=NOW - DAY, meter="other")
    world.configure(f'[[meters]]\nprice = "{price}"\nopenmeter = "other"\nscale = 10\n')
    one = compared(world)
    assert (one.verdict, *numbers(one)) == (Verdict.MATCH, 100, 100, 0)


def test_records_for_each_day_are_compared_with_their_invoice_too(world: World) -> None:
    world.configure(BY_DAYS.format(price=world.price))
    closed(world, world.subscribe(), late=40)
    assert numbers(compared(world)) == (140, 100, -40)


def test_a_price_whose_lines_are_in_packages_is_compared_with_what_stripe_acknowledged(world: World, way: str) -> None:
    closed(world, in_packages(world, subscribed(world, way)), late=40)
    one = compared(world)
    assert (one.verdict, *numbers(one)) == (Verdict.MISMATCH, 140, 100, -40)
    assert "what Stripe acknowledged" in str(one.message)


def test_events_of_another_program_in_a_boundary_minute_are_found_on_the_invoice(world: World) -> None:
    """No summary shows them: they are asked for by whole minutes."""
    subscription = metered(world, "additions")
    end = closed(world, subscription)
    customer = world.customer_of(subscription)
    later = end_of(world, subscription)
    foreign = {"stripe_customer_id": customer, "value": "30"}
    world.stripe.create_meter_event(f"additions_{METER}", foreign, int((end + timedelta(seconds=5)).timestamp()))
    for pause in (-HOUR, MINUTE, 3 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(later + pause)
        world.execute()
    found = [
        numbers(one)
        for one in verified(world, closed_days=10).comparisons
        if one.found.item.id == subscription.items[0]
    ]
    assert found == [(0, 30, 30)]


def test_events_of_another_program_in_the_minute_of_an_open_periods_start_are_not_said_to_match(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 100)
    foreign = {"stripe_customer_id": world.customer_of(subscription), "value": "30"}
    world.stripe.create_meter_event(f"additions_{METER}", foreign, int(PERIOD_START.timestamp()) + 5)
    world.execute()
    done = verified(world)
    (one,) = done.comparisons
    assert (world.billed(subscription), done.exit_code) == (130, 4)
    assert (one.verdict, one.reason, *numbers(one)) == (Verdict.SKIPPED, "foreign_usage", 100, None, None)
    assert "add up to 30 in the minute in which the period begins" in str(one.message)


def test_an_item_that_was_canceled_without_an_invoice_bills_nothing(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    world.stripe.cancel(subscription.id)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    one = compared(world, 1)
    assert (one.verdict, one.reason, *numbers(one)) == (Verdict.MISMATCH, "period_closed", 100, 0, -100)


def test_invoices_that_cannot_be_read_are_no_all_clear(world: World) -> None:
    closed(world, world.subscribe())
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/invoices$", status=500, times=None))
    done = verified(world, closed_days=30)
    assert [(one.verdict, one.reason) for one in done.comparisons] == [(Verdict.FAILED, "stripe_error")]
    assert done.exit_code == 1


def test_the_command_prints_closed_periods_as_it_does_open_ones(world: World) -> None:
    subscription = world.subscribe()
    closed(world, subscription)
    outcome = world.meter_sync("verify", "--closed", "366", "--output", "json")
    assert (outcome.code, outcome.document["items"], outcome.document["unbilled_subjects"]) == (0, [], None)
    wrong = world.meter_sync("verify", "--closed", "366", "--price", "price_unknown", "--output", "json")
    assert (wrong.code, wrong.error_code) == (1, "nothing_selected")
    assert world.meter_sync("verify", "--closed", "0").code == 2
