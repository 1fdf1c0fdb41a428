"""OpenMeter's own customers as subjects: all of a customer's subjects count as one, for every aggregation."""

from datetime import timedelta

import pytest

from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, end_of, invoiced, metered, subscribed
from tests.support.world import METER, PERIOD_START, World

BY_CUSTOMER = {"METER_SYNC_SUBJECT": "openmeter.customer"}
EACH_VERSION = pytest.mark.parametrize("openmeter_version", ["v1", "v3"], indirect=True)


@EACH_VERSION
def test_a_customer_is_found_by_its_key_or_by_its_stripe_app_data(world: World) -> None:
    by_key, by_app, unknown = (world.subscribe() for _ in range(3))
    world.openmeter.add_customer(world.customer_of(by_key))
    world.openmeter.add_customer("acme", subjects=["a", "b"], stripe_customer_id=world.customer_of(by_app))
    world.openmeter.add_customer("someone_else")
    world.use(by_key, 3)
    world.use("a", 4)
    world.use("b", 5)
    world.use(unknown, 6)

    done = world.run(**BY_CUSTOMER)

    assert done.code == 4
    assert [world.billed(each) for each in (by_key, by_app, unknown)] == [3, 9, 0]
    row = done.items[unknown.items[0]]
    assert (row["outcome"], row["reason"]) == ("skipped", "no_subject")


@EACH_VERSION
@pytest.mark.parametrize(("aggregation", "billed"), [("AVG", 4), ("UNIQUE_COUNT", 3), ("LATEST", 6), ("MAX", 6)])
def test_several_subjects_are_one_customer_for_every_aggregation(world: World, aggregation: str, billed: int) -> None:
    world.openmeter.add_meter("gauge", aggregation=aggregation)  # type: ignore[arg-type]
    subscription = world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "gauge"}))
    world.openmeter.add_customer(world.customer_of(subscription), subjects=["a", "b"])
    for place, (subject, value) in enumerate((("a", 2), ("b", 4), ("a", 4), ("b", 6))):
        world.use(subject, value, at=PERIOD_START + timedelta(hours=place), meter="gauge")

    assert world.run(**BY_CUSTOMER).code == 0
    assert world.billed(subscription) == billed


@pytest.mark.parametrize("openmeter_version", ["v1"], indirect=True)
@pytest.mark.parametrize("metered", [False, True])
def test_one_customer_that_was_deleted_meanwhile_does_not_spoil_its_chunk(world: World, metered: bool) -> None:
    meter = world.stripe.add_meter(formula="sum", window="hour") if metered else None
    price = world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER})
    subscriptions = [world.subscribe(price) for _ in range(5)]
    customers = [world.openmeter.add_customer(world.customer_of(each)) for each in subscriptions]
    for subscription in subscriptions:
        world.use(subscription, 7)
    world.openmeter.delete_after_listing(customers[2])

    done = world.run(**BY_CUSTOMER)

    assert done.code == 3
    assert [world.billed(each) for each in subscriptions] == [7, 7, 0, 7, 7]
    gone = done.items[subscriptions[2].items[0]]
    assert (gone["outcome"], gone["reason"]) == ("failed", "openmeter_error")


@EACH_VERSION
def test_hours_of_a_customer_are_those_of_all_its_subjects(world: World) -> None:
    meter = world.stripe.add_meter(formula="sum", window="hour")
    subscription = world.subscribe(world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}))
    world.openmeter.add_customer(world.customer_of(subscription), subjects=["a", "b"])
    world.use("a", 2)
    world.use("b", 3)

    done = world.run(**BY_CUSTOMER)

    assert done.item["windows"] == {"sent": 1, "unchanged": 0}
    assert world.billed(subscription) == 5


@EACH_VERSION
def test_one_who_has_no_living_subscription_any_more_is_billed_to_the_end(world: World) -> None:
    world.configure('[mapping]\nsubject = "openmeter.customer"\n')
    subscription = metered(world, "additions")
    world.openmeter.add_customer(world.customer_of(subscription))
    world.use(subscription, 5)
    world.execute()
    end = end_of(world, subscription)
    world.stripe.cancel_at_period_end(subscription.id)
    world.use(subscription, 3, at=end - timedelta(minutes=5))
    world.sandbox.clock.move_to(end + timedelta(minutes=2))
    world.execute()
    assert (invoiced(world), world.unbilled()) == (8, {})


@pytest.fixture
def deleted(world: World, way: str) -> SubscriptionView:
    """A subscription of which 5 were reported, and 2 used later, before its OpenMeter customer was deleted."""
    world.configure('[mapping]\nsubject = "openmeter.customer"\n')
    subscription = subscribed(world, way)
    customer = world.openmeter.add_customer(world.customer_of(subscription))
    world.use(subscription, 5)
    world.execute()
    world.use(subscription, 2)
    world.openmeter.delete_customer(customer)
    world.sandbox.clock.advance(timedelta(hours=2))
    return subscription


@pytest.mark.parametrize("openmeter_version", ["v3"], indirect=True)
@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_an_item_whose_customer_was_deleted_is_told_its_usage(world: World, deleted: SubscriptionView) -> None:
    """API v3 counts a deleted customer, though no list has it."""
    assert (world.verdict(deleted), world.billed(deleted)) == ("reported", 7)
    world.sandbox.clock.move_to(end_of(world, deleted) + timedelta(hours=2))
    world.execute()
    assert (invoiced(world), world.unbilled()) == (7, {})


@pytest.mark.parametrize("openmeter_version", ["v3"], indirect=True)
@pytest.mark.parametrize("way", ["record"])
def test_one_that_never_was_a_customer_there_is_not_asked_for(world: World, deleted: SubscriptionView) -> None:
    world.openmeter.customers.clear()
    assert world.verdict(deleted) == "no_subject"


@pytest.mark.parametrize("openmeter_version", ["v3"], indirect=True)
@pytest.mark.parametrize("way", ["record"])
def test_the_successor_of_a_deleted_customer_does_not_take_its_place_unseen(
    world: World, deleted: SubscriptionView
) -> None:
    """Both have the same usage by their subjects, and nobody has said whose the rest of the period is."""
    world.openmeter.add_customer(world.customer_of(deleted))
    assert (world.verdict(deleted), world.billed(deleted)) == ("mapping_changed", 5)


@pytest.mark.parametrize("openmeter_version", ["v1"], indirect=True)
@pytest.mark.parametrize("way", ["record"])
def test_v1_cannot_be_asked_for_a_deleted_customer(world: World, deleted: SubscriptionView) -> None:
    assert (world.verdict(deleted), world.billed(deleted)) == ("no_subject", 5)
