"""A mapping that changes within a period: the period goes on by the one that it began with, the next by the new one."""

import sqlite3
from datetime import timedelta

import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, end_of, invoiced, metered_price, one_fast
from tests.support.world import METER, NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CHANGES = {
    "scale": (f'openmeter = "{METER}"\nscale = 10\n', 10),
    "rounding": (f'openmeter = "{METER}"\nrounding = "ceiling"\n', 1),
    "filter": ('openmeter = "by_region"\nfilter = { region = "eu" }\n', 0),
    "meter": ('openmeter = "events"\n', 1),
}
"""What the mapping says anew, and what 1 unit becomes by it: of `events` each use is one."""


@pytest.fixture
def world(world: World) -> World:
    """Two meters more, over the same events: one with a dimension, and one that counts how often something was used."""
    world.openmeter.add_meter("by_region", event_type=METER, group_by={"region": "$.region"})
    world.openmeter.add_meter("events", aggregation="COUNT", event_type=METER, value_property=None)
    return world


def row(price: str, metering: str = f'openmeter = "{METER}"\n') -> str:
    return f'[[meters]]\nprice = "{price}"\n{metering}'


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
@pytest.mark.parametrize("change", one_fast(CHANGES, "filter"))
def test_the_open_period_goes_on_as_it_began_and_the_next_one_takes_the_new_mapping(
    world: World, way: str, change: str
) -> None:
    price = world.price if way == "record" else metered_price(world, way)
    world.configure(row(price))
    subscription = world.subscribe(price)
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    new, one_becomes = CHANGES[change]
    world.configure(row(price, new))
    world.use(subscription, 7, at=NOW - HOUR)

    result = world.execute()[subscription.items[0]]

    assert (str(result.outcome), result.reason, world.billed(subscription)) == ("reported", None, 107)
    assert "its mapping changed within the period" in str(result.message)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end + 5 * MINUTE)
    world.execute()
    world.use(subscription, 1, at=end + 2 * DAY)
    world.sandbox.clock.move_to(end + 5 * DAY)
    goes_on = world.execute()[subscription.items[0]]
    assert (invoiced(world), world.unbilled()) == (107, {})
    assert (goes_on.message, world.billed(subscription)) == (None, one_becomes)


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_an_item_that_lost_its_row_as_a_lookup_key_moved_is_held_across_the_turn_until_that_is_allowed(
    world: World, way: str
) -> None:
    """By the row it is billed in thousands; by the metadata that it falls back to it would be in units."""
    price = world.price if way == "record" else metered_price(world, way)
    other = world.stripe.add_price(metadata={"om_meter_id": METER})
    world.stripe.state.prices[price].lookup_key = "traffic"
    world.configure(f'[[meters]]\nlookup_key = "traffic"\nopenmeter = "{METER}"\nscale = 0.001\n')
    subscription = world.subscribe(price)
    world.use(subscription, 5000, at=NOW - DAY)
    world.execute()
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end - MINUTE)
    world.execute()
    world.stripe.state.prices[price].lookup_key = None
    world.stripe.state.prices[other].lookup_key = "traffic"
    world.use(subscription, 800, at=end + DAY)
    for late in (5 * MINUTE, 2 * DAY):
        world.sandbox.clock.move_to(end + late)
        verdict = world.verdict(subscription)
    assert (invoiced(world), world.unbilled(), verdict) == (5, {}, "mapping_changed")
    assert world.billed(subscription) == 0

    world.execute(Reason.MAPPING_CHANGED)

    assert (world.billed(subscription), world.verdict(subscription)) == (800, "unchanged")


def test_what_was_held_all_along_a_period_is_held_in_the_next_one_too_and_listed_as_unknown(world: World) -> None:
    world.stripe.state.prices[world.price].lookup_key = "traffic"
    world.configure(f'[[meters]]\nlookup_key = "traffic"\nopenmeter = "{METER}"\nscale = 0.001\n')
    subscription = world.subscribe()
    world.use(subscription, 5000, at=NOW - DAY)
    world.execute()
    world.stripe.state.prices[world.price].lookup_key = None
    for _ in range(2):
        end = end_of(world, subscription)
        world.use(subscription, 800, at=end + DAY)
        for late in (2 * MINUTE, 2 * DAY, 4 * DAY):
            world.sandbox.clock.move_to(end + late)
            verdict = world.verdict(subscription)
        assert (verdict, world.billed(subscription)) == ("mapping_changed", 0)
    (unknown,) = world.meter_sync("history", "--unbilled", "--output", "json").document["unbilled"]
    assert (unknown["subscription_item"], unknown["unbilled"]) == (subscription.items[0], None)


@pytest.mark.parametrize("change", CHANGES)
def test_the_new_mapping_is_taken_at_once_by_permission(world: World, change: str) -> None:
    world.configure(row(world.price))
    subscription = world.subscribe()
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    new, one_becomes = CHANGES[change]
    world.configure(row(world.price, new))

    result = world.execute(Reason.MAPPING_CHANGED, Reason.DECREASE, Reason.JUMP)[subscription.items[0]]

    assert result.reason is None
    assert world.billed(subscription) == (1 if change == "meter" else 100 * one_becomes)
    assert world.execute()[subscription.items[0]].message is None


def test_what_was_never_reported_has_no_mapping_to_go_on_by(world: World) -> None:
    world.configure(row(world.price))
    subscription = world.subscribe()
    world.use(subscription, 100, at=NOW - DAY)
    world.execute(dry_run=True)
    world.configure(row(world.price, CHANGES["scale"][0]))

    world.execute()

    assert world.billed(subscription) == 1000


def test_where_the_meter_that_it_began_with_is_gone_it_is_said_what_to_do(world: World) -> None:
    world.configure(row(world.price, CHANGES["meter"][0]))
    subscription = world.subscribe()
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    del world.openmeter.meters["events"]
    world.configure(row(world.price))

    result = world.execute()[subscription.items[0]]

    assert str(result.reason) == "meter_not_found"
    assert "create it again" in str(result.message)
    assert "--allow mapping_changed" in str(result.message)
    assert world.billed(subscription) == 1


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
@pytest.mark.parametrize("is_final", [pytest.param(False, marks=pytest.mark.every_way), True], ids=["draft", "final"])
@pytest.mark.parametrize("change", one_fast([*CHANGES, "subject", "mapping gone"], "scale"))
def test_a_period_that_has_ended_is_judged_by_the_method_that_it_was_reported_by(
    world: World, way: str, is_final: bool, change: str
) -> None:
    """Also with permission, which is about the open period."""
    price = world.price if way == "record" else metered_price(world, way)
    world.configure(row(price))
    subscription = world.subscribe(price, metadata={"who": "somebody"})
    end = end_of(world, subscription)
    world.use(subscription, 100, at=NOW - DAY)
    world.use("somebody", 3, at=NOW - DAY)
    world.execute()
    world.use(subscription, 7, at=NOW + HOUR)
    if is_final:
        world.sandbox.clock.move_to(end + MINUTE)
        world.execute()
    if change == "subject":
        world.configure('[mapping]\nsubject = "subscription.metadata.who"\n' + row(price))
    elif change == "mapping gone":
        world.configure('[mapping]\nmeter_key = "other_key"\n')
    else:
        world.configure(row(price, CHANGES[change][0]))
    for pause in (2 * MINUTE, 3 * HOUR, 3 * HOUR + MINUTE, 4 * DAY):
        world.sandbox.clock.move_to(end + pause)
        world.execute(Reason.MAPPING_CHANGED, Reason.DECREASE, Reason.JUMP)
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert billed + named == 107
    assert billed == (100 if change == "mapping gone" and not is_final else 107)


CUSTOMERS = '[mapping]\nsubject = "openmeter.customer"\n'
SOURCES = {"to customers": ("", CUSTOMERS), "from customers": (CUSTOMERS, "")}
"""What the mapping says of the source of subjects before, and then."""


def of_two_subjects(world: World, way: str, source: str, used: int) -> SubscriptionView:
    """Return a subscription whose customer has two subjects in OpenMeter, of which one is its Stripe id.

    That one has used so much, and was reported; by OpenMeter's customer there are 50 more.
    """
    price = world.price if way == "record" else metered_price(world, way)
    world.configure(source + row(price))
    subscription = world.subscribe(price)
    customer = world.customer_of(subscription)
    world.openmeter.add_customer("acme", subjects=[customer, "other"], stripe_customer_id=customer)
    world.use(subscription, used, at=NOW - DAY)
    world.use("other", 50, at=NOW - DAY)
    world.execute()
    return subscription


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
@pytest.mark.parametrize("is_final", [False, True], ids=["draft", "final"])
@pytest.mark.parametrize("change", SOURCES)
def test_a_period_that_has_ended_is_of_the_subjects_or_customers_that_it_was_reported_by(
    world: World, way: str, is_final: bool, change: str
) -> None:
    """Also with permission, which is about the open period."""
    before, then = SOURCES[change]
    subscription = of_two_subjects(world, way, before, 100)
    price, end = world.stripe.state.items[subscription.items[0]].price, end_of(world, subscription)
    world.use(subscription, 7, at=NOW + HOUR)
    if is_final:
        world.sandbox.clock.move_to(end + MINUTE)
        world.execute()
    world.configure(then + row(price))
    for pause in (2 * MINUTE, 3 * HOUR, 3 * HOUR + MINUTE):
        world.sandbox.clock.move_to(end + pause)
        world.execute(Reason.MAPPING_CHANGED, Reason.DECREASE, Reason.JUMP)
        if pause == 3 * HOUR:
            world.use(subscription, 2, at=NOW + HOUR)
    world.use(subscription, 5, at=end + DAY)
    world.use("other", 3, at=end + DAY)
    world.sandbox.clock.move_to(end + 4 * DAY)
    world.execute()
    used = 107 + (50 if before else 0)
    assert (invoiced(world), world.unbilled()) == (used, {subscription.items[0]: 2})
    assert world.billed(subscription) == (8 if then else 5)


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
@pytest.mark.parametrize("change", SOURCES)
def test_an_open_period_is_held_until_it_is_allowed_and_is_then_of_the_others_since_its_last_report(
    world: World, way: str, change: str
) -> None:
    before, then = SOURCES[change]
    subscription = of_two_subjects(world, way, before, 100)
    reported = 150 if before else 100
    world.configure(then + row(world.stripe.state.items[subscription.items[0]].price))
    world.sandbox.clock.advance(4 * DAY)
    world.use(subscription, 7, at=NOW + 2 * DAY)
    world.use("other", 20, at=NOW + 2 * DAY)

    assert (world.verdict(subscription), world.billed(subscription)) == ("mapping_changed", reported)

    world.execute(Reason.MAPPING_CHANGED)

    since = 27 if then else 7
    assert world.billed(subscription) == reported + since
    end = end_of(world, subscription)
    for late in (2 * MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(end + late)
        world.execute()
    assert (invoiced(world), world.unbilled()) == (reported + since, {})


@pytest.mark.parametrize("source", ["", CUSTOMERS], ids=["subjects", "customers"])
def test_a_row_of_a_version_that_did_not_say_which_of_both_is_of_what_the_mapping_says(
    world: World, source: str
) -> None:
    subscription = of_two_subjects(world, "record", source, 100)
    with sqlite3.connect(world.ledger) as ledger:
        ledger.execute("UPDATE item_periods SET grouping = NULL")
    ledger.close()
    world.use(subscription, 7, at=NOW - HOUR)
    assert world.verdict(subscription) == "reported"
    world.use(subscription, 2, at=NOW - HOUR)
    world.sandbox.clock.move_to(end_of(world, subscription) + 2 * MINUTE)
    world.execute()
    assert invoiced(world) == 109 + (50 if source else 0)
