"""`meter-sync verify`: what Stripe holds against what OpenMeter says, without writing anything."""

import asyncio
import csv
import io
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meter_sync.core.planning.selection import Selection
from meter_sync.core.telling.comparison import Comparison, Explanation, Verdict
from meter_sync.ledger import Scope, run_lock
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from meter_sync.sync.verify import Verification, VerifyRequest, verify
from tests.support.ways import WAYS, by_tier, metered
from tests.support.world import ANCHOR, METER, NOW, PERIOD_START, World, interrupt

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ELSEWHERE = ANCHOR + 3600
BY_DAYS = f'[[meters]]\nprice = "{{price}}"\nopenmeter = "{METER}"\nrecords = "day"\n'


def verified(world: World, schedule: str = "hourly", **request: Any) -> Verification:
    """Do what the command does, in this process and by the sandbox's clock. Nothing may be written."""
    settings = world._settings(0, schedule)
    writes, books = len(world.writes), world.ledger.read_bytes() if world.ledger.exists() else None
    world._agree_on_time()
    done = asyncio.run(verify(settings, VerifyRequest(**request), world.sandbox.clock.now, Stop()))
    world.sandbox.date_skew_seconds = 0.0
    assert len(world.writes) == writes
    assert books == (world.ledger.read_bytes() if world.ledger.exists() else None)
    return done


def compared(world: World, subscription: SubscriptionView, **request: Any) -> Comparison:
    """Verify, and return what was found out about a subscription's first item."""
    done = verified(world, **request)
    assert done.error is None
    (found,) = (one for one in done.comparisons if one.found.item.id == subscription.items[0])
    return found


def numbers(one: Comparison) -> tuple[int | None, int | None, int | None]:
    return one.expected, one.actual, one.difference


def subscribed(world: World, way: str) -> SubscriptionView:
    """Subscribe to a price of this kind: a billing meter's, or a legacy one."""
    if way in WAYS:
        return metered(world, way)
    if way == "day records":
        world.configure(BY_DAYS.format(price=world.price))
        return world.subscribe()
    return world.subscribe(world.stripe.add_price(aggregate_usage=way, metadata={"om_meter_id": METER}))  # type: ignore[arg-type]


@pytest.fixture(params=by_tier([*WAYS, "sum", "max", "last_during_period", "last_ever", "day records"]))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# -- matches ----------------------------------------------------------------------------------------


def test_every_kind_of_price_matches_after_a_run_whatever_was_used_since(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, "5.5", at=PERIOD_START + timedelta(seconds=20))
    world.use(subscription, 7)
    world.execute()
    world.sandbox.clock.advance(HOUR)
    world.use(subscription, 30, at=world.now - timedelta(minutes=30))
    one = compared(world, subscription)
    assert (one.verdict, one.reason, *numbers(one)) == (Verdict.MATCH, None, 12, 12, 0)


def test_every_kind_of_price_matches_after_a_run_that_wrote_only_what_was_new(world: World, way: str) -> None:
    subscription, other = subscribed(world, way), world.subscribe()
    world.use(subscription, 5)
    world.use(other, 1)
    world.execute()
    world.sandbox.clock.advance(HOUR)
    world.use(other, 1)
    world.execute()
    assert {one.verdict for one in verified(world).comparisons} == {Verdict.MATCH}


def test_an_item_that_did_not_change_for_long_is_compared_until_the_last_run(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    for _ in range(4):
        world.execute()
        world.sandbox.clock.advance(HOUR)
    world.use(subscription, 3, at=world.now - timedelta(minutes=5))
    one = compared(world, subscription)
    assert (one.verdict, *numbers(one)) == (Verdict.MATCH, 5, 5, 0)


def test_an_item_without_usage_matches_also_when_it_is_used_after_the_last_run(world: World) -> None:
    subscription = world.subscribe()
    world.execute()
    world.sandbox.clock.advance(HOUR)
    world.use(subscription, 3, at=world.now - timedelta(minutes=5))
    assert compared(world, subscription).verdict is Verdict.MATCH


def test_what_stands_in_a_younger_day_for_one_that_stripe_takes_no_more_is_no_difference(world: World) -> None:
    meter = world.stripe.add_meter("yearly", formula="sum", window="day")
    price = world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}, interval="year")
    subscription = world.subscribe(price, period_start=NOW - 60 * DAY)
    world.use(subscription, 3, at=NOW - 50 * DAY)
    world.use(subscription, 4)
    assert world.verdict(subscription) == "reported"
    one = compared(world, subscription)
    assert (one.verdict, *numbers(one)) == (Verdict.MATCH, 7, 7, 0)


def test_a_period_that_began_after_the_last_report_is_not_compared_yet(world: World) -> None:
    subscription = world.subscribe(period_start=datetime(2025, 5, 10, 12, 30, tzinfo=UTC))
    world.execute()
    world.sandbox.clock.advance(HOUR)
    world.use(subscription, 3, at=world.now - timedelta(minutes=5))
    done = verified(world)
    (one,) = done.comparisons
    assert (one.verdict, one.reason, done.exit_code) == (Verdict.SKIPPED, "not_started", 0)
    assert not world.seen("GET", "/usage_record_summaries")[1:]


# -- differences ------------------------------------------------------------------------------------


def explained(one: Comparison, reason: str, *words: str) -> tuple[int | None, int | None, int | None]:
    assert (one.verdict, one.reason) == (Verdict.MISMATCH, reason), one
    assert one.message
    assert all(word in one.message for word in words), one.message
    assert one.needs_attention
    return numbers(one)


def test_usage_that_was_never_reported_is_named(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 9)
    one = compared(world, subscription)
    assert explained(one, "not_reported", "no report of it") == (9, 0, -9)


def test_a_report_that_stripe_refused_is_named_with_its_quantity(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 5, at=NOW - 2 * HOUR)
    world.execute()
    world.sandbox.clock.advance(HOUR)
    world.use(subscription, 3, at=NOW)
    world.sandbox.faults.add(Fault(server="stripe", method="POST", times=None, status=400))
    assert world.verdict(subscription) == "stripe_error"
    one = compared(world, subscription)
    assert explained(one, "not_reported", "of 8", "refused") == (8, 5, -3)


def test_a_report_without_an_answer_is_no_difference_if_it_arrived(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 5)
    world.execute()
    world.use(subscription, 3)
    world.sandbox.faults.add(Fault(server="stripe", method="POST", drop="after"))
    assert world.verdict(subscription) == "stripe_error"
    assert compared(world, subscription).verdict is Verdict.MATCH


def test_runs_that_do_not_come_any_more_are_named(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 5)
    world.execute()
    world.sandbox.clock.advance(3 * HOUR)
    world.use(subscription, 3)
    assert explained(compared(world, subscription), "not_reported", "12:00:00Z", "cron") == (8, 5, -3)
    assert compared(world, subscription, schedule="daily").verdict is Verdict.MATCH


def test_records_of_another_program_are_named(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 50)
    world.execute()
    world.stripe.create_usage_record(subscription.items[0], 30, ELSEWHERE, "set")
    one = compared(world, subscription)
    assert explained(one, "foreign_usage", "Stripe holds 80", "acknowledged 50") == (50, 80, 30)


def test_events_of_another_program_are_named(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 50)
    world.execute()
    customer = world.customer_of(subscription)
    world.stripe.create_meter_event(f"additions_{METER}", {"stripe_customer_id": customer, "value": "2"})
    assert explained(compared(world, subscription), "foreign_usage", "Stripe holds 52") == (50, 52, 2)


def test_a_record_that_somebody_else_lowered_is_named(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 50)
    world.execute()
    world.stripe.create_usage_record(subscription.items[0], 20, ANCHOR, "set")
    assert explained(compared(world, subscription), "foreign_usage") == (50, 20, -30)


def test_records_of_another_program_that_a_run_held_the_item_for_are_named(world: World) -> None:
    subscription = world.subscribe()
    world.stripe.create_usage_record(subscription.items[0], 30, ELSEWHERE, "set")
    world.use(subscription, 50)
    assert world.verdict(subscription) == "foreign_usage"
    assert explained(compared(world, subscription), "foreign_usage", "hold 30") == (50, 30, -20)


def test_late_events_are_named(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 5)
    world.execute()
    world.sandbox.clock.advance(HOUR)
    world.use(subscription, 3, at=NOW - 2 * HOUR)
    one = compared(world, subscription)
    assert explained(one, "late_events", "the 5 that was reported", "OpenMeter says 8") == (8, 5, -3)
    world.execute()
    assert compared(world, subscription).verdict is Verdict.MATCH


def test_usage_that_fell_is_named_with_the_brake(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.execute()
    world.use(subscription, -3)
    assert explained(compared(world, subscription), "late_events", "decrease brake") == (2, 5, 3)


def test_what_a_summary_does_not_show_yet_is_named_as_that(world: World) -> None:
    world.stripe.summary_lag_seconds = 3600
    subscriptions = [metered(world, way) for way in WAYS]
    for subscription in subscriptions:
        world.use(subscription, 7)
    world.execute()
    for subscription in subscriptions:
        assert explained(compared(world, subscription), "summary_lags", "0 of the 7") == (7, 0, -7)
    world.sandbox.clock.advance(HOUR)
    assert {one.verdict for one in verified(world).comparisons} == {Verdict.MATCH}


@pytest.mark.parametrize("way", by_tier(WAYS))
def test_what_stripe_rejected_is_named_once_a_run_knows_of_it(world: World, way: str) -> None:
    subscription, other = metered(world, way), world.subscribe()
    world.use(subscription, 7)
    world.stripe.reject_meter_events_as = "meter_event_customer_not_found"
    world.execute()
    world.sandbox.clock.advance(timedelta(minutes=5))
    both = Selection(customers=(world.customer_of(other), world.customer_of(subscription)), prices=(world.price,))
    world.execute(selection=both)
    one = compared(world, subscription)
    assert explained(one, "rejected", "meter_event_customer_not_found") == (7, 0, -7)


@pytest.mark.parametrize("way", by_tier(WAYS))
def test_what_is_still_lacking_after_a_day_was_rejected_or_cancelled(world: World, way: str) -> None:
    subscription = metered(world, way)
    world.use(subscription, 7)
    world.stripe.reject_meter_events_as = "meter_event_customer_not_found"
    world.execute()
    world.sandbox.clock.advance(DAY)
    assert explained(compared(world, subscription), "rejected", "took 7", "holds 0") == (7, 0, -7)


def test_a_quantity_that_was_rounded_in_another_way_is_named_as_that(world: World) -> None:
    row = f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nrounding = '
    subscription = world.subscribe()
    world.use(subscription, "12.25")
    world.configure(row + '"ceiling"\n')
    world.execute()
    world.configure(row + '"floor"\n')
    assert compared(world, subscription).verdict is Verdict.MATCH
    world.ledger.unlink()
    assert explained(compared(world, subscription), "rounding", "12.25") == (12, 13, 1)


def test_an_addition_of_unknown_outcome_is_named_unless_it_arrived(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 7)
    world.sandbox.faults.add(Fault(path="/v1/billing/meter_events", drop="before"))
    world.execute()
    assert explained(compared(world, subscription), "unsettled") == (7, 0, -7)


def test_a_ledger_that_was_lost_costs_the_explanation_only(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 7)
    world.execute()
    world.ledger.unlink()
    assert compared(world, subscription).verdict is Verdict.MATCH
    world.use(subscription, 3)
    assert explained(compared(world, subscription), "not_reported", "Stripe holds 7") == (10, 7, -3)
    world.use(subscription, -8)
    assert explained(compared(world, subscription), "foreign_usage", "ledger that was lost") == (2, 7, 5)


# -- what cannot be compared ------------------------------------------------------------------------


def test_what_a_run_would_not_query_is_skipped_with_its_reason(world: World) -> None:
    world.configure(f'[[meters]]\nprice = "{world.price}"\nignore = true\n')
    subscriptions = [world.subscribe(), world.subscribe(world.stripe.add_price())]
    done = verified(world)
    assert {one.found.item.id: one.reason for one in done.comparisons} == {
        subscriptions[0].items[0]: "ignored",
        subscriptions[1].items[0]: "no_meter_mapping",
    }
    assert done.counts == {"match": 0, "mismatch": 0, "skipped": 2, "failed": 0}
    assert done.exit_code == 4
    assert not world.seen("GET", "/usage_record_summaries")


def test_what_is_only_planned_is_not_compared(world: World) -> None:
    world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nreport = false\n')
    world.use(world.subscribe(), 7)
    done = verified(world)
    assert [(one.verdict, one.reason) for one in done.comparisons] == [(Verdict.SKIPPED, "ignored")]
    assert done.exit_code == 0


def test_items_that_bill_the_same_usage_are_skipped_with_exit_code_4(world: World) -> None:
    customer = world.stripe.add_customer()
    for _ in range(2):
        world.subscribe(customer=customer)
    done = verified(world)
    assert [one.reason for one in done.comparisons] == ["duplicate_usage"] * 2
    assert done.exit_code == 4


def test_one_item_that_cannot_be_read_spoils_nothing_else(world: World) -> None:
    bad, good = world.subscribe(), world.subscribe()
    world.execute()
    world.sandbox.faults.add(Fault(path=f"{bad.items[0]}/usage_record_summaries", status=400, times=None))
    done = verified(world)
    found = {one.found.item.id: (one.verdict, one.reason) for one in done.comparisons}
    assert found == {
        bad.items[0]: (Verdict.FAILED, "stripe_error"),
        good.items[0]: (Verdict.MATCH, None),
    }
    assert done.exit_code == 3


def test_without_any_answer_of_stripe_the_rest_is_not_tried(world: World) -> None:
    for _ in range(200):
        world.subscribe()
    world.sandbox.faults.add(Fault(path="/usage_record_summaries", status=503, times=None))
    done = verified(world)
    assert {(one.verdict, one.reason) for one in done.comparisons} == {(Verdict.FAILED, "stripe_error")}
    assert done.exit_code == 1
    assert len(world.seen("GET", "/usage_record_summaries")) < 200


def test_a_query_without_an_answer_is_a_failure_and_reads_nothing_of_stripe(world: World) -> None:
    world.subscribe()
    world.sandbox.faults.add(Fault(server="openmeter", path="/query", status=500, times=None))
    done = verified(world)
    assert [(one.verdict, one.reason) for one in done.comparisons] == [(Verdict.FAILED, "openmeter_error")]
    assert done.exit_code == 1
    assert not world.seen("GET", "/usage_record_summaries")


def test_usage_that_cannot_be_billed_is_skipped_with_exit_code_4(world: World) -> None:
    world.use(world.subscribe(), -3)
    done = verified(world)
    assert [(one.verdict, one.reason) for one in done.comparisons] == [(Verdict.SKIPPED, "invalid_usage")]
    assert done.exit_code == 4


def test_a_key_that_may_not_read_summaries_ends_it_with_78_and_names_what_was_left(world: World) -> None:
    world.subscribe()
    world.sandbox.faults.add(Fault(path="/usage_record_summaries", status=403, times=None))
    done = verified(world)
    assert done.exit_code == 78
    assert [(one.verdict, one.reason) for one in done.comparisons] == [(Verdict.SKIPPED, "interrupted")]


def test_it_needs_no_lock_and_works_beside_a_run(world: World) -> None:
    world.subscribe()
    world.execute()
    with run_lock(world.ledger, Scope("", "sandbox")):
        assert verified(world).counts["match"] == 1


def test_a_signal_ends_it_after_the_requests_in_flight_and_names_what_was_left(world: World) -> None:
    subscriptions = [world.subscribe() for _ in range(30)]
    world.sandbox.faults.add(Fault(path="/usage_record_summaries", delay_seconds=0.2))
    world.sandbox.faults.add(Fault(path="/usage_record_summaries", delay_seconds=1, times=None))
    process = world.start("verify", "--output", "json", METER_SYNC_STRIPE_RATE="25")
    world.sandbox.wait_for("GET", "/usage_record_summaries")
    done = interrupt(process)
    assert (done.code, done.document["error"]) == (1, None)
    assert done.items.keys() == {subscription.items[0] for subscription in subscriptions}
    became = Counter((item["outcome"], item["reason"]) for item in done.items.values())
    assert became.keys() == {("match", None), ("skipped", "interrupted")}
    assert became["match", None] > 1


# -- requests ---------------------------------------------------------------------------------------


def test_each_item_takes_one_request_and_a_raw_sum_one_more_for_the_minute_of_its_start(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 5, at=PERIOD_START + DAY)
    world.use(subscription, 7)
    world.execute()
    world.sandbox.requests.clear()
    verified(world)
    reads = world.seen("GET", "/event_summaries") + world.seen("GET", "/usage_record_summaries")
    assert len(reads) == (2 if way == "additions" else 1)


def test_items_of_one_period_share_queries_although_they_were_reported_at_different_times(world: World) -> None:
    subscriptions = [world.subscribe() for _ in range(30)]
    for subscription in subscriptions:
        world.use(subscription, 1)
    world.execute(selection=Selection(subscriptions=(subscriptions[0].id,)))
    world.sandbox.clock.advance(timedelta(minutes=5))
    world.execute()
    world.sandbox.requests.clear()
    assert verified(world).counts["match"] == 30
    for_all_items, for_whoever_nobody_bills = world.seen("POST", "/query")
    assert '"subject": ' in for_all_items.body
    assert '"subject": ' not in for_whoever_nobody_bills.body


def test_selectors_narrow_as_those_of_a_run_do(world: World) -> None:
    one, other = world.subscribe(), world.subscribe()
    world.execute()
    wanted = Selection(customers=(world.customer_of(one), world.customer_of(other)), subscriptions=(other.id,))
    (found,) = verified(world, selection=wanted).comparisons
    assert found.found.item.id == other.items[0]
    nothing = verified(world, selection=Selection(meters=("no_such_meter",)))
    assert (nothing.exit_code, nothing.error and nothing.error.code) == (1, "nothing_selected")


def test_a_sample_covers_every_item_once_in_its_days_with_one_request_each(world: World) -> None:
    subscriptions = [world.subscribe() for _ in range(12)]
    world.execute()
    world.sandbox.requests.clear()
    found: list[str] = []
    days: list[int] = []
    for _ in range(4):
        done = verified(world, sample_days=4)
        assert done.sample
        assert done.listed == 12
        days.append(done.sample.day)
        found += [one.found.item.id for one in done.comparisons]
        world.sandbox.clock.advance(DAY)
    assert sorted(found) == sorted(subscription.items[0] for subscription in subscriptions)
    assert sorted(days) == [1, 2, 3, 4]
    assert len(world.seen("GET", "/usage_record_summaries")) == 12


# -- the command ------------------------------------------------------------------------------------


def test_the_json_document_has_the_promised_keys(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, "5.5")
    world.run()
    world.stripe.create_usage_record(subscription.items[0], 30, ELSEWHERE, "set")
    writes, books = len(world.writes), world.ledger.read_bytes()

    done = world.meter_sync("verify", "--output", "json", "--sample", "1")

    document = done.document
    assert (done.code, len(world.writes), world.ledger.read_bytes()) == (4, writes, books)
    assert set(document) == {
        *("version", "run", "summary", "items", "error"),
        *("unbilled_subjects", "unbilled_usage"),
    }
    assert set(document["run"]) == {"id", "started_at", "finished_at", "as_of"}
    numbers = {"match": 0, "mismatch": 1, "skipped": 0, "failed": 0}
    counted = {"stripe_requests", "openmeter_requests", "seconds"}
    assert {name: value for name, value in document["summary"].items() if name not in counted} == {
        "items": 1,
        **numbers,
        "exit_code": 4,
        "sample": {"day": 1, "days": 1, "of_items": 1},
    }
    assert document["error"] is None
    assert document["items"][0] | {"message": None} == {
        "account": None,
        "customer": world.customer_of(subscription),
        "subscription": subscription.id,
        "subscription_item": subscription.items[0],
        "price": world.price,
        "meter": METER,
        "subjects": [world.customer_of(subscription)],
        "target": "usage_record",
        "period": {"start": "2025-06-01T09:30:17Z", "end": "2025-07-01T09:30:17Z"},
        "usage": "5.5",
        "as_of": "2025-07-01T09:30:17Z",
        "expected": "5",
        "actual": "35",
        "difference": "30",
        "outcome": "mismatch",
        "reason": "foreign_usage",
        "message": None,
    }


def test_the_table_says_both_numbers_and_how_many_of_the_items_were_looked_at(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 1234)
    world.run()
    done = world.meter_sync("verify", "--sample", "1")
    assert done.code == 0
    heading, row, summary = done.stdout.splitlines()
    assert heading.split("  ")[0] == "customer"
    assert row.split()[-4:] == ["1,234", "1,234", "0", "match"]
    assert summary.startswith("Day 1 of 1: 1 of 1 items: 1 match. Usage until 20")

    world.stripe.create_usage_record(subscription.items[0], 30, ELSEWHERE, "set")
    done = world.meter_sync("verify")
    assert done.code == 4
    assert f"mismatch (foreign_usage): {subscription.items[0]} of " in done.stdout
    assert "exit code 4" in done.stdout


def test_csv_has_a_row_for_each_item(world: World) -> None:
    world.use(world.subscribe(), 7)
    world.run()
    done = world.meter_sync("verify", "--output", "csv")
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    found = (row["expected"], row["actual"], row["difference"], row["outcome"], row["reason"])
    assert found == ("7", "7", "0", "match", "")


def test_quiet_prints_only_what_is_not_as_it_should_be(world: World) -> None:
    good, bad = world.subscribe(), world.subscribe()
    world.run()
    assert world.meter_sync("verify", "--quiet").stdout == ""
    world.stripe.create_usage_record(bad.items[0], 30, ELSEWHERE, "set")
    done = world.meter_sync("verify", "--quiet")
    assert done.code == 4
    assert bad.items[0] in done.stdout
    assert good.items[0] not in done.stdout


@pytest.mark.parametrize(
    ("overrides", "flags", "code"),
    [
        ({"STRIPE_API_KEY": "sk_test_other"}, (), 78),
        ({"STRIPE_API_KEY": ""}, (), 78),
        ({"OPENMETER_URL": "http://127.0.0.1:9"}, (), 75),
        ({"STRIPE_API_BASE": "http://127.0.0.1:9"}, (), 75),
        ({}, ("--customer", "cus_nobody"), 1),
    ],
)
def test_stdout_is_one_json_document_however_it_ends(
    world: World, overrides: dict[str, str], flags: tuple[str, ...], code: int
) -> None:
    world.subscribe()
    overrides = {"METER_SYNC_RETRY_SECONDS": "0.1", **overrides}
    done = world.meter_sync("verify", "--output", "json", *flags, **overrides)
    assert (done.code, done.document["summary"]["exit_code"]) == (code, code)
    assert done.document["error"]["hint"] in done.stderr
    assert not world.ledger.exists()


@pytest.mark.parametrize("arguments", [("--sample", "0"), ("--sample", "400"), ("--as-of", "2025-06-10T12:00:00Z")])
def test_wrong_arguments_exit_with_2(world: World, arguments: tuple[str, ...]) -> None:
    assert world.meter_sync("verify", *arguments).code == 2


def test_what_a_meter_did_not_count_is_said_of_what_does_not_match(world: World) -> None:
    world.openmeter.add_meter("young", event_from=NOW - timedelta(days=1))
    subscription = world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "young"}))
    world.use(subscription, 7, meter="young")
    assert compared(world, subscription).reason is Explanation.METER_STARTS_LATER
