"""What a run reports, and what it asks for on the way."""

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from tests.support.tables import carry_out
from tests.support.world import ANCHOR, METER, PERIOD_START, World


def test_the_usage_of_the_period_becomes_one_record_at_the_anchor(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 40)
    world.use(subscription, 2)
    world.use(subscription, 1000, at=PERIOD_START - timedelta(seconds=1))

    done = world.run()

    assert done.code == 0
    assert world.stripe.records(subscription.items[0]) == {ANCHOR: 42}
    assert done.item["usage"] == done.item["quantity"] == "42"
    assert done.item["previous"] == "0"
    assert done.item["timestamp"] == "2025-06-01T09:30:18Z"
    assert done.verdict == ("reported", None)


def test_any_number_of_runs_bills_the_last_total_once(world: World) -> None:
    subscription = world.subscribe()
    for total in (1, 2, 3):
        world.use(subscription, 1)
        world.sandbox.clock.advance(timedelta(hours=1))
        assert world.run().code == 0
        assert world.billed(subscription) == total


def test_unchanged_items_are_not_sent_again(world: World) -> None:
    for _ in range(3):
        world.use(world.subscribe(), 7)
    world.run()
    world.sandbox.requests.clear()

    again = world.run()

    assert again.code == 0
    assert {row["outcome"] for row in again.items.values()} == {"unchanged"}
    assert not world.writes
    assert not world.seen("GET", "/usage_record_summaries")


def test_resend_reports_what_stripe_already_holds(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.run()
    world.stripe.create_usage_record(subscription.items[0], 0, ANCHOR, "set")

    assert world.run("--resend").verdict == ("reported", None)
    assert world.billed(subscription) == 5


def test_a_change_of_somebody_else_heals_once_the_acknowledgement_is_old(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.run()
    world.stripe.create_usage_record(subscription.items[0], 99, ANCHOR, "set")
    world.configure("resend_after_hours = 0")

    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 5


@pytest.mark.parametrize("flags", [(), ("--resend",), ("--allow", "decrease", "--resend")])
def test_a_dry_run_writes_nothing_whatever_else_is_given(world: World, flags: tuple[str, ...]) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)

    done = world.run("--dry-run", *flags)

    assert done.verdict == ("planned", None)
    assert done.document["run"]["dry_run"] is True
    assert done.item["previous"] is None
    assert not world.writes
    assert not world.ledger.parent.exists()


def test_a_dry_run_leaves_the_ledger_as_it_is(world: World, ledger_file: Path) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.run()
    before = ledger_file.read_bytes()
    world.use(subscription, 5)

    done = world.run("-n")

    assert (done.item["previous"], done.item["quantity"]) == ("5", "10")
    assert ledger_file.read_bytes() == before
    assert world.billed(subscription) == 5


def test_usage_is_scaled_and_rounded_as_the_row_says(world: World) -> None:
    world.configure(
        f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nscale = 0.001\nrounding = "ceiling"\n'
    )
    subscription = world.subscribe()
    world.use(subscription, 2001)

    done = world.run()

    assert (done.item["usage"], done.item["quantity"]) == ("2001", "3")
    assert world.billed(subscription) == 3


def test_float_noise_of_the_meter_bills_nothing(world: World) -> None:
    world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nscale = 10\nrounding = "ceiling"\n')
    subscription = world.subscribe()
    for part in (0.1, 0.2, 0.3):
        world.use(subscription, part)

    assert world.run().item["quantity"] == "6"


def test_a_filter_bills_only_what_it_admits(world: World) -> None:
    world.openmeter.add_meter("tokens", aggregation="SUM", group_by={"model": "$.model", "region": "$.region"})
    price = world.stripe.add_price()
    world.configure(
        f'[[meters]]\nprice = "{price}"\nopenmeter = "tokens"\n'
        'filter = { model = ["large", "huge"], region = "eu" }\n'
    )
    subscription = world.subscribe(price)
    customer = world.customer_of(subscription)
    for model, region, value in (("large", "eu", 1), ("huge", "eu", 10), ("small", "eu", 100), ("large", "us", 1000)):
        world.openmeter.add_event(
            "tokens",
            customer,
            world.now - timedelta(hours=1),
            data={"model": model, "region": region, "value": value},
        )

    assert world.run().item["quantity"] == "11"


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [("SUM", 10), ("COUNT", 4), ("MAX", 4), ("MIN", 1), ("LATEST", 4), ("UNIQUE_COUNT", 4)],
)
def test_each_aggregation_is_billed_as_openmeter_says(world: World, aggregation: str, expected: int) -> None:
    world.openmeter.add_meter("gauge", aggregation=aggregation)  # type: ignore[arg-type]
    subscription = world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "gauge"}))
    for hours, value in ((4, 1), (3, 2), (2, 3), (1, 4)):
        world.use(subscription, value, at=world.now - timedelta(hours=hours), meter="gauge")

    assert world.run().item["quantity"] == str(expected)


@pytest.mark.parametrize("status", ["active", "past_due", "trialing", "unpaid"])
def test_every_living_subscription_is_reported(world: World, status: str) -> None:
    subscription = world.subscribe(status=status)
    world.use(subscription, 5)

    assert world.run().verdict == ("reported", None)


@pytest.mark.parametrize("status", ["incomplete", "incomplete_expired", "canceled"])
def test_subscriptions_that_are_no_customers_are_not_listed(world: World, status: str) -> None:
    world.subscribe(status=status)

    done = world.run()

    assert (done.code, done.document["items"]) == (0, [])


def test_items_of_mixed_intervals_have_their_own_periods(world: World) -> None:
    daily = world.stripe.add_price(interval="day", metadata={"om_meter_id": "daily"})
    world.openmeter.add_meter("daily", aggregation="SUM")
    start = world.now - timedelta(hours=7, seconds=13)
    subscription = world.subscribe(world.price, daily, period_start=start)
    for meter in (METER, "daily"):
        world.use(subscription, 3, meter=meter)

    done = world.run()

    ends = {row["meter"]: row["period"]["end"] for row in done.items.values()}
    assert ends == {METER: "2025-07-10T04:59:47Z", "daily": "2025-06-11T04:59:47Z"}
    assert [world.stripe.total(item) for item in subscription.items] == [3, 3]


def test_an_item_added_in_mid_period_bills_nothing_from_before_it(world: World) -> None:
    extra = world.stripe.add_price(metadata={"om_meter_id": "extra"})
    world.openmeter.add_meter("extra", aggregation="SUM")
    subscription = world.subscribe()
    added_at = world.now - timedelta(hours=2)
    item = world.stripe.add_item(subscription.id, extra, created=added_at)
    world.use(subscription, 100, at=added_at - timedelta(seconds=1), meter="extra")
    world.use(subscription, 7, at=added_at, meter="extra")

    world.run()

    assert world.stripe.records(item) == {int(added_at.timestamp()) + 1: 7}


def test_a_backdated_subscription_bills_from_its_periods_start(world: World) -> None:
    subscription = world.subscribe(created=world.now - timedelta(hours=2))
    world.use(subscription, 7, at=PERIOD_START)

    world.run()

    assert world.stripe.records(subscription.items[0]) == {ANCHOR: 7}


def test_usage_that_has_not_begun_is_named_and_does_no_harm(world: World) -> None:
    world.subscribe()

    done = world.run("-n", "--as-of", PERIOD_START.isoformat())

    assert done.verdict == ("skipped", "not_started")
    assert done.code == 0


def test_a_new_period_starts_from_nothing(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 50)
    world.run()
    world.sandbox.clock.move_to(datetime.fromisoformat("2025-07-01T10:30:17+00:00"))
    world.use(subscription, 3, at=world.now - timedelta(minutes=1))

    done = world.run()

    assert (done.item["previous"], done.item["quantity"]) == ("0", "3")
    assert world.billed(subscription) == 3
    assert not world.seen("GET", "/usage_record_summaries")[1:]


def test_the_first_report_of_a_last_ever_price_is_sent_even_when_it_is_zero(world: World) -> None:
    price = world.stripe.add_price(aggregate_usage="last_ever", metadata={"om_meter_id": METER})
    subscription = world.subscribe(price)
    world.use(subscription, 50)
    world.run()
    world.sandbox.clock.move_to(datetime.fromisoformat("2025-07-01T10:30:17+00:00"))
    assert world.billed(subscription) == 50

    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 0


def test_the_period_that_ends_soonest_is_reported_first(world: World) -> None:
    starts = [PERIOD_START + timedelta(hours=hours) for hours in (5, 1, 3, 2, 4)]
    for start in starts:
        world.use(world.subscribe(period_start=start), 1)
    world.run(METER_SYNC_STRIPE_ENDPOINT_RATE="10")

    anchors = [int(parse_qs(request.body)["timestamp"][0]) for request in world.writes]
    assert len(anchors) == len(starts)
    assert anchors == sorted(anchors)


def test_all_pages_are_read_and_nothing_is_asked_per_item(world: World) -> None:
    archived = world.stripe.add_price(active=False, metadata={"om_meter_id": METER})
    subscriptions = [world.subscribe(archived if number % 5 == 0 else world.price) for number in range(250)]
    for subscription in subscriptions:
        world.use(subscription, 2)
    world.run(METER_SYNC_STRIPE_RATE="1000", METER_SYNC_STRIPE_ENDPOINT_RATE="1000")
    assert sum(world.billed(subscription) for subscription in subscriptions) == 500
    world.sandbox.requests.clear()

    again = world.run()

    gets = world.seen("GET", "")
    account, prices, pages, events, test_clocks, found_nothing = 1, 1, 3, 1, 1, 4
    assert len(again.items) == 250
    asked = account + prices + pages + events + test_clocks
    assert len([get for get in gets if get.server == "stripe"]) <= asked + found_nothing
    assert again.document["summary"]["stripe_requests"] == len([get for get in gets if get.server == "stripe"])
    assert len(world.seen("POST", "/query")) == again.document["summary"]["openmeter_requests"] - 1 == 3


def test_what_waits_for_nothing_is_asked_before_the_list_is_there(world: World) -> None:
    world.subscribe()
    world.run()

    dealt_with = [request.path for request in world.sandbox.requests]
    listed = dealt_with.index("/v1/subscriptions")
    assert {"/v1/account", "/v1/prices", "/v1/events"} <= set(dealt_with[:listed])


def test_more_than_a_thousand_subjects_of_one_period_are_one_query(world: World) -> None:
    subscriptions = [world.subscribe() for _ in range(1001)]
    world.use(subscriptions[17], 5)

    done = world.run("-n")

    assert len(world.seen("POST", "/query")) == 1
    assert sum(Decimal(row["quantity"]) for row in done.items.values()) == 5


def test_at_most_four_queries_are_under_way_at_once(world: World) -> None:
    for seconds in range(12):
        world.subscribe(period_start=PERIOD_START + timedelta(seconds=seconds))
    world.sandbox.latency.openmeter_query = 0.05

    assert world.run("-n").code == 0

    begun = sorted(request.at for request in world.seen("POST", "/query"))
    assert all(later - earlier > 0.04 for earlier, later in zip(begun, begun[4:], strict=False))


def test_items_beyond_the_first_page_of_a_subscription_are_reported(world: World) -> None:
    prices = []
    for number in range(12):
        world.openmeter.add_meter(f"meter_{number}", aggregation="SUM")
        prices.append(world.stripe.add_price(metadata={"om_meter_id": f"meter_{number}"}))
    subscription = world.subscribe(*prices)
    for number in range(12):
        world.use(subscription, number + 1, meter=f"meter_{number}")

    done = world.run()

    assert len(done.items) == 12
    assert [world.stripe.total(item) for item in subscription.items] == list(range(1, 13))


def test_licensed_items_are_left_alone(world: World) -> None:
    seats = world.stripe.add_price(usage_type="licensed")
    subscription = world.subscribe(seats, world.price)
    world.use(subscription, 4)

    done = world.run()

    assert list(done.items) == [subscription.items[1]]


def test_an_archived_price_without_subscriptions_is_asked_for_once_a_day(world: World) -> None:
    world.stripe.add_price(active=False, metadata={"om_meter_id": METER})
    world.subscribe()

    def asked() -> int:
        world.sandbox.requests.clear()
        world.run()
        return len(world.seen("GET", "/v1/subscriptions"))

    assert [asked(), asked()] == [2, 1]
    carry_out(world.place, "UPDATE prices SET found_empty_at = found_empty_at - 86401")
    assert [asked(), asked()] == [2, 1]


def test_a_price_that_came_back_to_life_is_listed_at_once(world: World) -> None:
    reactivated = world.stripe.add_price(active=False, metadata={"om_meter_id": METER})
    joining = world.stripe.add_price(active=False, metadata={"om_meter_id": METER})
    incomplete = world.subscribe(joining, status="incomplete")
    world.run()
    world.stripe.state.prices[reactivated].active = True
    world.stripe.set_status(incomplete.id, "active")
    added = world.subscribe(reactivated)

    assert set(world.run().items) == {*added.items, *incomplete.items}


def test_a_customer_is_reported_alone_without_listing_the_account(world: World) -> None:
    chosen, other = world.subscribe(), world.subscribe()
    for subscription in (chosen, other):
        world.use(subscription, 5)

    done = world.run("--customer", world.customer_of(chosen))

    assert list(done.items) == chosen.items
    assert (world.billed(chosen), world.billed(other)) == (5, 0)
    assert all("customer=" in get.query for get in world.seen("GET", "/v1/subscriptions"))
    assert not world.seen("GET", "/v1/prices")


def test_selectors_narrow_together(world: World) -> None:
    world.openmeter.add_meter("tokens", aggregation="SUM")
    tokens = world.stripe.add_price(metadata={"om_meter_id": "tokens"})
    one, two = world.subscribe(world.price, tokens), world.subscribe(world.price, tokens)

    def chosen(*selectors: str) -> set[str]:
        return set(world.run("-n", *selectors).items)

    assert chosen("--subscription", one.id) == set(one.items)
    assert chosen("--price", tokens) == {one.items[1], two.items[1]}
    assert chosen("--meter", "tokens") == {one.items[1], two.items[1]}
    assert chosen("--meter", "tokens", "--subscription", two.id) == {two.items[1]}
    assert chosen("--subscription", one.id, "--subscription", two.id) == {*one.items, *two.items}


@pytest.mark.parametrize(
    "selector",
    [
        ("--customer", "cus_nobody"),
        ("--subscription", "sub_nothing"),
        ("--price", "price_nothing"),
        ("--meter", "nothing"),
    ],
)
def test_a_selector_that_matches_nothing_is_an_error(world: World, selector: tuple[str, str]) -> None:
    world.subscribe()

    done = world.run(*selector)

    assert (done.code, done.error_code) == (1, "nothing_selected")
    assert selector[1] in done.document["error"]["message"]


def test_selectors_that_match_nothing_together_are_an_error(world: World) -> None:
    one, two = world.subscribe(), world.subscribe()

    done = world.run("--customer", world.customer_of(one), "--customer", world.customer_of(two), "--meter", METER)
    assert done.code == 0

    other = world.stripe.add_price(metadata={"om_meter_id": METER})
    world.subscribe(other)
    done = world.run("--subscription", one.id, "--price", other)
    assert (done.code, done.error_code) == (1, "nothing_selected")
