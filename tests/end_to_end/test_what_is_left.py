"""What is left at a period's end is always named: with its quantity where that can be told, and else as unknown.

Runs are the program's own, in this process and over real HTTP; invoices are the sandbox's.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.stages import Result
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, WAYS, by_tier, end_of, invoiced, one_fast, subscribed
from tests.support.world import METER, NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(params=by_tier(ALL_WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ended(world: World, subscription: SubscriptionView) -> Result:
    """What the last run said of the period that has ended."""
    return next(one for one in world.last_results if one.item.id == subscription.items[0])


def live(world: World, way: str, trouble: Callable[[World, SubscriptionView], None]) -> SubscriptionView:
    """Let 100 be used and reported, then trouble begin and 40 more be used, until days after the period's end."""
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 100, at=NOW - HOUR)
    world.execute()
    trouble(world, subscription)
    world.use(subscription, 40, at=NOW + 2 * DAY)
    for instant in (NOW + 3 * DAY, end + 2 * MINUTE, end + 2 * HOUR, end + 2 * DAY, end + 5 * DAY):
        world.sandbox.clock.move_to(instant)
        world.execute()
    return subscription


def unmapped(world: World, subscription: SubscriptionView) -> None:
    price = world.stripe.state.items[subscription.items[0]].price
    world.stripe.state.prices[price].metadata.clear()


def meter_deactivated(world: World, subscription: SubscriptionView) -> None:
    price = world.stripe.state.items[subscription.items[0]].price
    meter = world.stripe.state.prices[price].meter
    world.stripe.deactivate_meter(str(meter))


def meter_deleted(world: World, _subscription: SubscriptionView) -> None:
    world.openmeter.delete_meter(METER)


def falls_below_zero(world: World, subscription: SubscriptionView) -> None:
    world.use(subscription, -1000, at=NOW + DAY)


def test_what_an_item_without_a_mapping_used_is_named_by_that_of_its_last_report(world: World, way: str) -> None:
    subscription = live(world, way, unmapped)
    assert (invoiced(world), world.unbilled()) == (100, {subscription.items[0]: 40})


@pytest.mark.parametrize("way", one_fast(WAYS, "hours"))
def test_what_was_used_on_a_billing_meter_that_is_inactive_is_named(world: World, way: str) -> None:
    subscription = live(world, way, meter_deactivated)
    assert (invoiced(world), world.unbilled()) == (100, {subscription.items[0]: 40})


def unknown(world: World) -> list[tuple[str, object]]:
    """What `history --unbilled` lists without a quantity."""
    done = world.meter_sync("history", "--unbilled", "--output", "json")
    assert done.code == 4
    return [(row["subscription_item"], row["unbilled"]) for row in done.document["unbilled"]]


@pytest.mark.parametrize("trouble", [meter_deleted, falls_below_zero])
def test_what_cannot_be_told_any_more_is_listed_as_unknown_until_a_person_settles_it(
    world: World, way: str, trouble: Callable[[World, SubscriptionView], None]
) -> None:
    subscription = live(world, way, trouble)
    item = subscription.items[0]
    assert invoiced(world) == 100
    assert unknown(world) == [(item, None)]
    shown = world.meter_sync("history", "--unbilled").stdout
    assert "unknown: how much is not billed" in shown
    start = shown.split()[2]
    done = world.meter_sync("history", "--settle", item, start, "--note", "asked the customer")
    assert (done.code, done.stdout.split(" of ")[0]) == (0, "an unknown quantity")
    assert world.meter_sync("history", "--unbilled").stdout == "Nothing was left unbilled.\n"


def no_longer_reported(world: World, subscription: SubscriptionView) -> None:
    price = world.stripe.state.items[subscription.items[0]].price
    world.configure(f'[[meters]]\nprice = "{price}"\nopenmeter = "{METER}"\nreport = false\n')


def test_what_an_item_used_once_it_was_no_longer_to_be_reported_is_named(world: World, way: str) -> None:
    subscription = live(world, way, no_longer_reported)
    assert (invoiced(world), world.unbilled()) == (100, {subscription.items[0]: 40})


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_nothing_is_named_of_an_item_that_was_only_ever_shown(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    no_longer_reported(world, subscription)
    world.use(subscription, 40, at=NOW - HOUR)
    for days in (0, 25, 30):
        world.sandbox.clock.move_to(NOW + days * DAY)
        world.execute()
    assert (invoiced(world), world.unbilled()) == (0, {})


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_an_item_used_that_lost_its_subject_is_billed_by_that_of_its_last_report(world: World, way: str) -> None:
    """Once its period has ended, and while Stripe still takes usage of it; what it takes no more is named."""
    world.configure('[mapping]\nsubject = "customer.metadata.subject"\n')
    customer = world.stripe.add_customer(metadata={"subject": "acme"})
    subscription = subscribed(world, way, customer=customer)
    end = end_of(world, subscription)
    world.use("acme", 100, at=NOW - HOUR)
    world.execute()
    world.stripe.state.customers[customer].metadata.clear()
    world.use("acme", 40, at=NOW + 2 * DAY)
    for instant in (NOW + 3 * DAY, end + 2 * MINUTE, end + 2 * HOUR, end + 5 * DAY):
        world.sandbox.clock.move_to(instant)
        world.execute()
    assert (invoiced(world), world.unbilled()) == (140, {})


def never_mapped(world: World) -> str:
    return world.stripe.add_price(metadata={})


def never_supported(world: World) -> str:
    return world.stripe.add_price(
        meter=world.stripe.add_meter("counted", formula="count"), metadata={"om_meter_id": METER}
    )


@pytest.mark.parametrize("price", [never_mapped, never_supported])
def test_an_item_that_was_never_reported_is_listed_as_unknown(world: World, price: Callable[[World], str]) -> None:
    subscription = world.subscribe(price(world))
    world.use(subscription, 40, at=NOW - HOUR)
    for days in (0, 22, 30):
        world.sandbox.clock.move_to(NOW + days * DAY)
        world.execute()
    assert unknown(world) == [(subscription.items[0], None)]


def test_nothing_is_unknown_of_an_item_that_was_gone_in_the_second_in_which_it_began(world: World) -> None:
    subscription = world.subscribe(never_mapped(world), period_start=NOW)
    world.execute()
    world.stripe.cancel(subscription.id)
    for pause in (HOUR, 4 * DAY, 2 * DAY):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert world.meter_sync("history", "--unbilled").code == 0
    assert world.last_results == []


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_openmeter_refuses_to_say_for_good_is_unknown_a_day_after_the_watch(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 100, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.move_to(end - MINUTE)
    world.execute()
    world.sandbox.faults.add(Fault(server="openmeter", path="/query$", status=400, times=1000))
    for days in (1, 3.5):
        world.sandbox.clock.move_to(end + days * DAY)
        world.execute()
        assert ended(world, subscription).reason is Reason.OPENMETER_ERROR
        assert world.meter_sync("history", "--unbilled").code == 0
    world.sandbox.clock.move_to(end + 4.5 * DAY)
    world.execute()
    assert unknown(world) == [(subscription.items[0], None)]
    world.execute()
    assert [one.item.period.end for one in world.last_results if one.item.period.end == end] == []


def test_a_correction_below_zero_at_first_is_part_of_the_total(world: World, way: str) -> None:
    """Where it comes before what it corrects, the first hour or day bills nothing, and the next one less."""
    subscription = subscribed(world, way)
    start = world.stripe.period(subscription.items[0]).start
    world.use(subscription, -5, at=NOW.fromtimestamp(start + 600, NOW.tzinfo))
    world.use(subscription, 100, at=NOW - 2 * DAY)
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 95
