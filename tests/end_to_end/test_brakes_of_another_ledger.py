"""With a new or a lost ledger the brakes compare with what Stripe's summaries say of the last periods."""

from datetime import timedelta

import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, WAYS, end_of, one_fast, subscribed
from tests.support.world import METER, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MAD = 1_000_000_000
FIRST_OF_JULY = "17513[0-9]{5}"
"""When the summary of July begins, in Unix seconds: at its first minute, or a little earlier with its first window."""


def billed_for_two_months(world: World, way: str) -> SubscriptionView:
    """Return a subscription that another ledger's runs billed for June and July, in the middle of August."""
    subscription = subscribed(world, way)
    for quantity in (80, 100):
        world.use(subscription, quantity, at=world.now - DAY)
        world.execute()
        assert world.billed(subscription) == quantity
        world.sandbox.clock.move_to(end_of(world, subscription) + 10 * DAY)
    world.execute(Reason.ALL_ZERO)
    assert [line.quantity for invoice in world.stripe.invoices for line in invoice.lines] == [80, 100]
    world.ledger.unlink()
    world.sandbox.requests.clear()
    return subscription


def summaries_read(world: World) -> int:
    """How many summaries were asked for since the last time."""
    asked = len(world.seen("GET", "summaries"))
    world.sandbox.requests.clear()
    return asked


def first_look(way: str) -> int:
    """How many requests the first look at an item costs: that of usage records has earlier periods on its page."""
    return 1 if way == "record" else 2


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_a_mad_quantity_is_held_by_a_fresh_ledger_until_it_is_allowed(world: World, way: str) -> None:
    subscription = billed_for_two_months(world, way)
    world.use(subscription, MAD)

    done = world.run()

    assert (done.code, done.verdict) == (4, ("held", "jump"))
    assert "(100)" in done.item["message"]
    assert (world.billed(subscription), world.writes) == (0, [])
    assert summaries_read(world) == first_look(way)
    assert world.run().verdict == ("held", "jump")
    assert summaries_read(world) == 1
    assert world.run("--allow", "jump").verdict == ("reported", None)
    assert world.billed(subscription) == MAD


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_what_is_usual_passes_and_what_is_mad_later_is_held_without_asking_again(world: World, way: str) -> None:
    subscription = billed_for_two_months(world, way)
    world.use(subscription, 120)
    assert world.run().verdict == ("reported", None)
    assert summaries_read(world) == first_look(way)
    world.use(subscription, MAD)

    done = world.run()

    assert done.verdict == ("held", "jump")
    assert (world.billed(subscription), summaries_read(world)) == (120, 0)
    assert world.run("--dry-run").verdict == ("held", "jump")


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_a_meter_without_any_usage_is_held_by_a_fresh_ledger(world: World, way: str) -> None:
    subscription = billed_for_two_months(world, way)

    done = world.run()

    assert (done.code, done.verdict) == (4, ("held", "all_zero"))
    assert "had 100 in its last period" in done.item["message"]
    assert summaries_read(world) == first_look(way)
    assert world.run("--allow", "all_zero").verdict == ("unchanged", None)
    assert world.run().verdict == ("held", "all_zero")
    world.use(subscription, 1)
    assert world.run().verdict == ("reported", None)


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_one_that_began_its_ledger_early_in_the_period_notices_later_that_nothing_comes(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 100)
    world.execute()
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end + HOUR)
    world.execute()
    world.ledger.unlink()
    assert world.run().verdict == ("unchanged", None)
    world.sandbox.clock.move_to(end + 10 * DAY)
    world.sandbox.requests.clear()
    assert world.run().verdict == ("held", "all_zero")
    # Hours and days are compared with what Stripe holds once a day.
    assert summaries_read(world) == (1 if way in ("hours", "days") else 0)


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_what_stripe_said_counts_in_the_following_periods_too(world: World, way: str) -> None:
    subscription = billed_for_two_months(world, way)
    world.use(subscription, 3)
    assert world.run().verdict == ("reported", None)
    world.sandbox.clock.move_to(end_of(world, subscription) + 10 * DAY)
    world.use(subscription, 1050)

    assert world.run().verdict == ("reported", None), "it is beside July's 100, not only beside August's 3"


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_a_period_that_a_fresh_ledger_finishes_and_reads_of_counts_once(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 100)
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) + timedelta(minutes=2))
    world.ledger.unlink()
    world.execute()
    world.sandbox.clock.advance(10 * DAY)
    world.use(subscription, MAD)

    assert "times that of its last period (103)" in world.run().item["message"], "of June's 100, July having 31 days"


def test_records_by_the_day_are_compared_as_well(world: World) -> None:
    world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nrecords = "day"\n')
    subscription = billed_for_two_months(world, "record")
    world.use(subscription, MAD)
    assert world.run().verdict == ("held", "jump")
    assert summaries_read(world) == 1


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_an_item_without_a_past_is_compared_with_nothing_and_costs_no_request_for_it(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, MAD)
    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == MAD
    assert summaries_read(world) == 1


def test_a_silent_item_is_not_held_where_another_one_of_its_meter_shows_usage(world: World) -> None:
    silent = billed_for_two_months(world, "record")
    new = world.subscribe(period_start=world.now - 8 * DAY)
    world.use(new, 1)
    results = world.run().items
    assert [results[one.items[0]]["outcome"] for one in (silent, new)] == ["unchanged", "reported"]


@pytest.mark.parametrize("way", [way for way in WAYS if way != "last"])
def test_fractions_that_another_program_sent_last_month_are_compared_with(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    payload = {"stripe_customer_id": world.customer_of(subscription), "value": "99.5"}
    world.stripe.create_meter_event(f"{way}_{METER}", payload, int((world.now - DAY).timestamp()))
    world.sandbox.clock.move_to(end_of(world, subscription) + 10 * DAY)
    world.use(subscription, MAD)
    assert world.run().verdict == ("held", "jump")
    assert world.run("--allow", "jump").verdict == ("reported", None)


@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_to_tell_of_the_last_period_keeps_nothing_from_being_billed(world: World, way: str) -> None:
    subscription = billed_for_two_months(world, way)
    world.use(subscription, 120)
    world.sandbox.faults.add(Fault(path="event_summaries", body=f"start_time={FIRST_OF_JULY}", status=400, times=None))

    done = world.run()

    assert done.verdict == ("reported", None)
    assert '"past_not_read"' in done.stderr
    assert world.billed(subscription) == 120


def test_summaries_without_bounds_are_compared_with_nothing(world: World) -> None:
    subscription = billed_for_two_months(world, "record")
    (item,) = subscription.items
    world.use(subscription, MAD)
    unbounded = f'{{"subscription_item": "{item}", "total_usage": 0}}'
    page = f'{{"data": [{unbounded}, {unbounded}], "has_more": false}}'
    world.sandbox.faults.add(Fault(path="usage_record_summaries", replace_text=page))
    assert world.run().verdict == ("reported", None)
