"""Every listed item ends in one outcome, with a reason that says what to do."""

import sqlite3
from datetime import timedelta

import pytest

from meter_sync.sandbox import Fault
from tests.support.ways import ALL_WAYS, metered_price, one_fast
from tests.support.world import METER, PERIOD_START, Outcome, World


def told(done: Outcome, *words: str) -> None:
    """The message names the things and the remedy."""
    assert all(word in done.item["message"] for word in words), done.item["message"]


def test_an_item_without_a_mapping_is_named_and_someone_should_look(world: World) -> None:
    world.subscribe(world.stripe.add_price(id="price_unmapped"))

    done = world.run()

    assert (done.code, done.verdict) == (4, ("skipped", "no_meter_mapping"))
    told(done, "price_unmapped", "om_meter_id", "[[meters]]")


def test_an_ignored_price_is_nobodys_business_here(world: World) -> None:
    world.configure(f'[[meters]]\nprice = "{world.price}"\nignore = true\n')
    world.subscribe()

    done = world.run()

    assert (done.code, done.verdict) == (0, ("skipped", "ignored"))


def test_a_mapping_to_a_meter_that_does_not_exist_is_that_items_matter(world: World) -> None:
    world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "api_request"}))
    healthy = world.subscribe()
    world.use(healthy, 5)

    done = world.run()

    assert done.code == 4
    assert sorted((row["outcome"], row["reason"]) for row in done.items.values() if row["reason"]) == [
        ("skipped", "meter_not_found")
    ]
    assert world.billed(healthy) == 5


@pytest.mark.parametrize("value", [None, "", " , "])
def test_an_item_without_a_subject_is_not_billed_as_somebody_else(world: World, value: str | None) -> None:
    metadata = {} if value is None else {"external_key": value}
    world.subscribe(customer=world.stripe.add_customer(metadata=metadata))
    world.use("", 100)

    done = world.run(METER_SYNC_SUBJECT="customer.metadata.external_key")

    assert (done.code, done.verdict) == (4, ("skipped", "no_subject"))
    told(done, "customer.metadata.external_key")


def test_subjects_come_from_the_customers_metadata_in_the_same_requests(world: World) -> None:
    customer = world.stripe.add_customer(metadata={"external_key": "acme, acme-eu,acme"})
    subscription = world.subscribe(customer=customer)
    world.use("acme", 5)
    world.use("acme-eu", 7)

    done = world.run(METER_SYNC_SUBJECT="customer.metadata.external_key")

    assert done.item["subjects"] == ["acme", "acme-eu"]
    assert world.billed(subscription) == 12
    assert not world.seen("GET", f"/v1/customers/{customer}")


@pytest.mark.parametrize("owner", ["subscription", "item"])
def test_subjects_come_from_the_metadata_that_the_mapping_names(world: World, owner: str) -> None:
    where = {"subscription": "metadata", "item": "item_metadata"}[owner]
    subscription = world.subscribe(**{where: {"tenant": "acme"}})
    world.use("acme", 5)

    world.run(METER_SYNC_SUBJECT=f"{owner}.metadata.tenant")

    assert world.billed(subscription) == 5


def test_the_meter_on_the_item_wins_over_the_price_and_a_row_over_both(world: World) -> None:
    for meter in ("of_item", "of_row"):
        world.openmeter.add_meter(meter, aggregation="SUM")
    plain = world.stripe.add_price(metadata={"om_meter_id": METER})
    ruled = world.stripe.add_price(metadata={"om_meter_id": METER}, lookup_key="ruled")
    world.configure('[[meters]]\nlookup_key = "ruled"\nopenmeter = "of_row"\n')
    world.subscribe(plain, item_metadata={"om_meter_id": "of_item"})
    world.subscribe(ruled, item_metadata={"om_meter_id": "of_item"})

    assert sorted(row["meter"] for row in world.run().items.values()) == ["of_item", "of_row"]


@pytest.mark.parametrize("selector", ["product", "stripe_meter"])
def test_a_row_finds_its_items_by_product_or_billing_meter(world: World, selector: str) -> None:
    product = world.stripe.add_product()
    world.stripe.add_meter(id="mtr_1")
    price = world.stripe.add_price(product=product, meter="mtr_1" if selector == "stripe_meter" else None)
    value = {"product": product, "stripe_meter": "mtr_1"}[selector]
    world.configure(f'[[meters]]\n{selector} = "{value}"\nignore = true\n')
    world.subscribe(price)

    assert world.run().verdict == ("skipped", "ignored")


def test_a_meter_may_be_named_by_its_id(world: World) -> None:
    meter = world.openmeter.add_meter("by_id", aggregation="SUM")
    subscription = world.subscribe(world.stripe.add_price(metadata={"om_meter_id": meter}))
    world.use(subscription, 5, meter="by_id")

    assert world.run().item["meter"] == "by_id"
    assert world.billed(subscription) == 5


def test_an_average_of_several_subjects_is_refused(world: World) -> None:
    world.openmeter.add_meter("load", aggregation="AVG")
    customer = world.stripe.add_customer(metadata={"key": "a,b"})
    world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "load"}), customer=customer)

    done = world.run(METER_SYNC_SUBJECT="customer.metadata.key")

    assert (done.code, done.verdict) == (4, ("skipped", "aggregation_mismatch"))


def test_a_subscription_with_billing_thresholds_is_named(world: World) -> None:
    world.subscribe(billing_thresholds={"amount_gte": 5000})

    done = world.run()

    assert (done.code, done.verdict) == (4, ("skipped", "billing_thresholds"))


def test_a_paused_subscription_is_shown_and_does_no_harm(world: World) -> None:
    world.subscribe(status="paused")

    done = world.run()

    assert (done.code, done.verdict) == (0, ("skipped", "subscription_paused"))


def test_a_deleted_customer_is_named(world: World) -> None:
    customer = world.stripe.add_customer(metadata={"external_key": "acme"})
    world.subscribe(customer=customer)
    world.stripe.delete_customer(customer, keep_subscriptions=True)

    done = world.run(METER_SYNC_SUBJECT="customer.metadata.external_key")

    assert (done.code, done.verdict) == (4, ("skipped", "customer_deleted"))


def test_two_items_that_would_bill_the_same_usage_hold_each_other(world: World) -> None:
    subscription = world.subscribe(world.price, world.stripe.add_price(metadata={"om_meter_id": METER}))
    world.use(subscription, 5)

    done = world.run()

    one, two = subscription.items
    assert done.code == 4
    assert {row["reason"] for row in done.items.values()} == {"duplicate_usage"}
    assert two in done.items[one]["message"]
    assert one in done.items[two]["message"]
    assert not world.writes


def test_a_run_for_one_customer_sees_what_another_customer_bills(world: World) -> None:
    first = world.subscribe(customer=world.stripe.add_customer(metadata={"key": "acme"}))
    world.use("acme", 5)
    subject = {"METER_SYNC_SUBJECT": "customer.metadata.key"}
    world.run(**subject)
    second = world.subscribe(customer=world.stripe.add_customer(metadata={"key": "acme"}))

    done = world.run("--customer", world.customer_of(second), **subject)

    assert done.verdict == ("held", "duplicate_usage")
    told(done, first.items[0])


def test_a_whole_run_that_failed_does_not_forget_what_others_bill(world: World) -> None:
    world.subscribe(customer=world.stripe.add_customer(metadata={"key": "acme"}))
    world.use("acme", 5)
    subject = {"METER_SYNC_SUBJECT": "customer.metadata.key"}
    world.run(**subject)
    with sqlite3.connect(world.ledger) as connection:
        connection.execute("UPDATE runs SET started_at = started_at - 10")
        connection.execute("UPDATE item_periods SET seen_at = seen_at - 10")
    connection.close()
    failed = world.run(**subject, OPENMETER_URL="http://127.0.0.1:9", METER_SYNC_RETRY_SECONDS="0.1")
    assert failed.code == 75
    second = world.subscribe(customer=world.stripe.add_customer(metadata={"key": "acme"}))

    done = world.run("--customer", world.customer_of(second), **subject)

    assert done.verdict == ("held", "duplicate_usage")
    assert world.billed(second) == 0


def test_a_quantity_that_stripe_refused_is_nothing_to_fall_from(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 100)
    world.run()
    world.sandbox.faults.add(Fault(server="stripe", path="/usage_records$", status=400))
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "200"
    assert world.run().verdict == ("failed", "stripe_error")
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "150"

    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 150


def test_usage_may_be_billed_twice_where_the_configuration_says_so(world: World) -> None:
    support = world.stripe.add_price()
    world.configure(f'[[meters]]\nprice = "{support}"\nopenmeter = "{METER}"\nshared = true\n')
    subscription = world.subscribe(world.price, support)
    world.use(subscription, 5)

    assert world.run().code == 0
    assert [world.stripe.total(item) for item in subscription.items] == [5, 5]


@pytest.mark.parametrize("value", ["-5", "9007199254740993", "1e300", "NaN", "Infinity"])
def test_a_usage_that_cannot_be_billed_is_held(world: World, value: str) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = value

    done = world.run()

    assert (done.code, done.verdict) == (4, ("held", "invalid_usage"))
    assert not world.writes


@pytest.mark.parametrize("way", one_fast(["day_records", *ALL_WAYS], "record"))
def test_more_bytes_than_a_double_holds_exactly_are_billed_by_the_gigabyte(world: World, way: str) -> None:
    price = world.price if way in {"record", "day_records"} else metered_price(world, way)
    records = '\nrecords = "day"' if way == "day_records" else ""
    world.configure(f'[[meters]]\nprice = "{price}"\nopenmeter = "{METER}"\nscale = "1e-9"{records}\n')
    subscription = world.subscribe(price)
    for hours, used in ((1, 11 * 10**15), (4, 5 * 10**15 + 5 * 10**8), (30, 10**15)):
        world.use(subscription, used, at=world.now - timedelta(hours=hours))

    assert (world.run().code, world.billed(subscription)) == (0, 17_000_000)


@pytest.mark.parametrize("openmeter_version", ["v1"], indirect=True)
@pytest.mark.parametrize("value", ["null", '"12"', "[]"])
def test_an_answer_that_is_half_understood_writes_nothing(world: World, value: str) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = value

    done = world.run()

    assert (done.code, done.verdict) == (1, ("failed", "openmeter_error"))
    assert not world.writes


def test_a_quantity_that_fell_is_held_with_both_numbers(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 100)
    world.run()
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "60"

    done = world.run()

    assert (done.code, done.verdict) == (4, ("held", "decrease"))
    told(done, "100", "60", "--allow decrease")
    assert done.item["quantity"] == done.item["previous"] == "100"
    assert world.billed(subscription) == 100


def test_a_lifted_brake_lets_a_decrease_through_once(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 100)
    world.run()
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "60"

    assert world.run("--allow", "decrease").verdict == ("reported", None)
    assert world.billed(subscription) == 60


@pytest.mark.parametrize(("percent", "outcome"), [("40", "reported"), ("39.9", "held")])
def test_a_decrease_within_the_configured_percentage_passes(world: World, percent: str, outcome: str) -> None:
    world.configure(f"[brakes]\ndecrease_percent = {percent}\n")
    subscription = world.subscribe()
    world.use(subscription, 100)
    world.run()
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "60"

    assert world.run().item["outcome"] == outcome


def test_a_gauge_may_fall(world: World) -> None:
    world.openmeter.add_meter("seats", aggregation="LATEST")
    subscription = world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "seats"}))
    world.use(subscription, 9, at=world.now - timedelta(hours=2), meter="seats")
    world.run()
    world.use(subscription, 4, at=world.now - timedelta(hours=1), meter="seats")

    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 4


def test_another_way_of_metering_waits_for_the_next_period(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 100)
    world.run()
    world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nscale = 0.01\n')

    world.use(subscription, 3)
    goes_on = world.run()
    assert (goes_on.code, goes_on.verdict) == (0, ("reported", None))
    told(goes_on, "its mapping changed", f"from {METER} x 1 floor to {METER} x 0.01 floor", "--allow mapping_changed")
    assert world.billed(subscription) == 103

    assert world.run("--allow", "mapping_changed").verdict == ("reported", None)
    assert world.billed(subscription) == 1
    assert list(world.stripe.records(subscription.items[0])) == [int(PERIOD_START.timestamp()) + 1]


def test_another_price_of_the_same_kind_is_no_change_of_method(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 100)
    world.run()
    world.stripe.change_price(subscription.items[0], world.stripe.add_price(metadata={"om_meter_id": METER}))

    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 100
