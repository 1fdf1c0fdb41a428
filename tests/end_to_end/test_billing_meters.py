"""Prices on billing meters: after any number of runs Stripe bills exactly the usage that OpenMeter answered last."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import MeterEvent
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.streaming import REQUESTS, STREAMED, billed, posted, with_hours
from tests.support.ways import WAYS, MeterOf, by_tier, metered, metered_price
from tests.support.world import METER, NOW, PERIOD_START, World

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MIDNIGHT = NOW.replace(hour=0)


def metered_by_other(world: World, way: str) -> SubscriptionView:
    """Subscribe another customer to the price of the first."""
    (price,) = (price.id for price in world.stripe.state.prices if price.meter)
    return world.subscribe(price)


def events(world: World, subscription: SubscriptionView) -> list[MeterEvent]:
    """The events that Stripe counts for a subscription's first item, in the order received."""
    item = world.stripe.state.items[subscription.items[0]]
    meter = world.stripe.state.prices[item.price].meter
    assert meter is not None
    return world.stripe.meter_events(meter, world.customer_of(subscription))


@pytest.fixture(params=by_tier(WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_kind_of_meter_is_billed_exactly_after_any_number_of_runs(world: World, way: str) -> None:
    subscription = metered(world, way)
    world.use(subscription, 5, at=PERIOD_START + DAY)
    world.use(subscription, 7)
    first = world.run()
    assert (first.code, first.item["outcome"], first.item["quantity"]) == (0, "reported", "12")
    assert first.item["target"] == "meter_event"

    again = world.run()
    assert (again.code, again.item["outcome"], again.item["previous"]) == (0, "unchanged", "12")
    world.use(subscription, 1, at=PERIOD_START + 2 * DAY)
    world.sandbox.clock.advance(DAY)
    world.use(subscription, 3, at=NOW + timedelta(minutes=30))
    later = world.run()
    assert (later.code, later.item["previous"], later.item["quantity"]) == (0, "12", "16")
    assert world.billed(subscription) == 16


def test_every_kind_of_meter_is_billed_exactly_after_the_ledger_was_lost(
    world: World, ledger_file: Path, way: str
) -> None:
    subscription = metered(world, way)
    world.use(subscription, 5, at=PERIOD_START + DAY)
    world.use(subscription, 7)
    world.run()
    ledger_file.unlink()

    world.sandbox.clock.advance(HOUR)
    world.use(subscription, 2, at=NOW + timedelta(minutes=1))
    after = world.run()
    assert (after.code, after.item["previous"], after.item["quantity"]) == (0, "12", "14")
    assert world.billed(subscription) == 14


@pytest.mark.parametrize("when", ["before", "after"])
def test_every_kind_of_meter_is_billed_exactly_after_an_answer_was_lost(
    world: World, way: str, when: Literal["before", "after"]
) -> None:
    subscription = metered(world, way)
    world.use(subscription, 7)
    world.sandbox.faults.add(Fault(path="/v1/billing/meter_events$", drop=when, times=None))
    broken = world.run()
    assert (broken.code, broken.verdict) == (1, ("failed", "stripe_error"))

    world.sandbox.faults.clear()
    world.use(subscription, 2, at=NOW - HOUR)
    world.sandbox.clock.advance(HOUR)
    assert world.run().code == 0
    assert world.billed(subscription) == 9


def test_a_dry_run_sends_no_event(world: World, way: str) -> None:
    subscription = metered(world, way)
    world.use(subscription, 7)
    dry = world.run("--dry-run")
    assert (dry.code, dry.verdict, dry.item["quantity"]) == (0, ("planned", None), "7")
    assert world.writes == []
    assert world.billed(subscription) == 0


def test_a_fall_is_held_and_corrected_exactly_when_it_is_allowed(world: World, way: str) -> None:
    subscription = metered(world, way)
    world.use(subscription, 7)
    world.use(subscription, 5, at=PERIOD_START + DAY)
    world.run()
    world.openmeter.value_overrides.clear()
    world.use(subscription, -3)
    world.sandbox.clock.advance(timedelta(minutes=5))
    held = world.run()
    assert (held.code, held.verdict) == (4, ("held", "decrease"))
    assert world.billed(subscription) == 12

    assert world.run("--allow", "decrease").code == 0
    assert world.billed(subscription) == 9


# -- windows --------------------------------------------------------------------------------------


def test_only_the_windows_that_changed_are_sent(world: World) -> None:
    subscription = metered(world, "hours")
    for hours in (1, 2, 3):
        world.use(subscription, hours, at=NOW - hours * HOUR)
    first = world.run()
    assert first.item["windows"] == {"sent": 3, "unchanged": 0}
    world.use(subscription, 10, at=NOW - 2 * HOUR)
    second = world.run()
    assert second.item["windows"] == {"sent": 1, "unchanged": 2}
    assert [event.value for event in events(world, subscription)] == [3, 2, 1, 12]
    assert world.billed(subscription) == 16


def test_more_than_a_thousand_windows_are_sent_by_the_hundred_with_a_live_key(world: World) -> None:
    subscriptions = with_hours(world)
    assert {one.outcome for one in world.execute().values()} == {"reported"}
    assert posted(world) == {("session", 200): 1, ("stream", 200): REQUESTS}
    assert billed(world, subscriptions) == STREAMED


def test_a_late_event_of_any_age_is_billed_by_the_next_run(world: World) -> None:
    subscription = metered(world, "hours")
    world.use(subscription, 1)
    world.run()
    world.use(subscription, 4, at=PERIOD_START + HOUR)
    world.sandbox.clock.advance(HOUR)
    world.run()
    assert world.billed(subscription) == 5


def test_the_first_window_starts_when_the_customer_subscribed(world: World) -> None:
    subscription = metered(world, "days")
    world.use(subscription, 100, at=PERIOD_START - timedelta(seconds=1))
    world.use(subscription, 5, at=PERIOD_START)
    assert world.run().item["quantity"] == "5"
    assert world.billed(subscription) == 5


def test_a_window_that_straddles_two_periods_is_sent_whole_and_once_in_the_later_one(world: World) -> None:
    start = datetime(2025, 5, 10, 11, 30, tzinfo=UTC)
    subscription = metered(world, "days", period_start=start)
    world.sandbox.clock.move_to(datetime(2025, 6, 10, 11, 29, tzinfo=UTC))
    world.use(subscription, 5, at=datetime(2025, 6, 9, 23, 0, tzinfo=UTC))
    world.use(subscription, 7, at=datetime(2025, 6, 10, 11, 0, tzinfo=UTC))
    assert world.run().item["quantity"] == "5"

    world.sandbox.clock.move_to(datetime(2025, 6, 10, 12, 0, tzinfo=UTC))
    world.use(subscription, 2, at=datetime(2025, 6, 10, 11, 45, tzinfo=UTC))
    assert world.run().item["quantity"] == "9"
    assert world.billed(subscription) == 9
    (invoice,) = world.stripe.invoices
    assert [line.quantity for line in invoice.lines] == [5]


MOVES = [("record", "days"), ("days", "record"), ("hours", "days"), ("days", "last")]


def moved(world: World, old: str, new: str, after_the_end: timedelta) -> SubscriptionView:
    """Return a subscription whose price moved after its period's end: 7 used before, 8 at it and 16 later."""
    start, end = datetime(2025, 5, 10, 11, 30, 17, tzinfo=UTC), datetime(2025, 6, 10, 11, 30, 17, tzinfo=UTC)
    prices = {way: world.price if way == "record" else metered_price(world, way) for way in (old, new)}
    subscription = world.subscribe(prices[old], period_start=start)
    for value, before in ((1, timedelta(seconds=32)), (2, HOUR), (4, DAY)):
        world.use(subscription, value, at=end - before)
    world.sandbox.clock.move_to(end - timedelta(seconds=31))
    world.execute()

    world.sandbox.clock.move_to(end + after_the_end)
    world.stripe.change_price(subscription.items[0], prices[new])
    world.use(subscription, 8, at=end)
    world.use(subscription, 16, at=end + HOUR)
    world.sandbox.clock.move_to(end + DAY)
    world.execute()
    return subscription


@pytest.mark.parametrize(("old", "new"), MOVES)
def test_a_price_that_moves_at_a_periods_end_bills_everything_once(world: World, old: str, new: str) -> None:
    subscription = moved(world, old, new, timedelta(0))
    (invoice,) = world.stripe.invoices
    assert invoice.lines[0].quantity + world.billed(subscription) == 31
    assert world.unbilled() == {}


@pytest.mark.parametrize(("old", "new"), MOVES)
def test_of_one_that_moves_just_after_it_what_was_used_between_is_named(world: World, old: str, new: str) -> None:
    subscription = moved(world, old, new, timedelta(seconds=5))
    (invoice,) = world.stripe.invoices
    named = sum(world.unbilled().values())
    assert invoice.lines[0].quantity + named == 15
    assert (named >= 8, world.billed(subscription)) == (True, 16)


def test_what_is_too_old_for_its_own_window_is_billed_with_a_younger_one(world: World) -> None:
    meter = world.stripe.add_meter("yearly", formula="sum", window="day")
    price = world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}, interval="year")
    subscription = world.subscribe(price, period_start=NOW - 60 * DAY)
    world.use(subscription, 3, at=NOW - 50 * DAY)
    world.use(subscription, 4)
    first = world.run()
    assert (first.code, first.verdict, first.item["quantity"]) == (0, ("reported", None), "7")
    assert world.billed(subscription) == 7
    assert world.run().verdict == ("unchanged", None)


def test_values_are_rounded_as_running_totals(world: World) -> None:
    subscription = metered(world, "hours")
    for hours in range(1, 11):
        world.use(subscription, 0.3, at=NOW - hours * HOUR)
    world.run()
    assert world.billed(subscription) == 3


# -- last and additions ---------------------------------------------------------------------------


def test_timestamps_of_totals_rise_within_the_period(world: World) -> None:
    subscription = metered(world, "last")
    for value in (1, 2, 3):
        world.use(subscription, value)
        world.run()
    stamps = [event.timestamp for event in events(world, subscription)]
    assert stamps == sorted(set(stamps))
    assert world.billed(subscription) == 6


def test_a_total_without_its_ledger_is_stamped_after_what_was_written_seconds_ago(
    world: World, ledger_file: Path
) -> None:
    subscription = metered(world, "last")
    for value in (1, 2):
        world.use(subscription, value)
        world.execute()
        world.sandbox.clock.advance(timedelta(seconds=2))
    for file in ledger_file.parent.iterdir():
        file.unlink()
    world.use(subscription, 3)
    world.execute()
    assert world.billed(subscription) == 6


def test_any_aggregation_fits_a_meter_that_takes_totals(world: World) -> None:
    world.openmeter.add_meter("seats", aggregation="MAX")
    meter = world.stripe.add_meter("seats", formula="last")
    subscription = world.subscribe(world.stripe.add_price(meter=meter, metadata={"om_meter_id": "seats"}))
    world.use(subscription, 4, meter="seats")
    world.use(subscription, 9, meter="seats")
    assert world.run().code == 0
    assert world.billed(subscription) == 9


@pytest.mark.parametrize("way", by_tier(["hours", "days", "additions"]))
def test_what_does_not_add_up_is_never_billed_as_a_sum(world: World, way: str) -> None:
    world.openmeter.add_meter("seats", aggregation="MAX")
    meter = world.stripe.add_meter("seats", **WAYS[way])  # type: ignore[arg-type]
    world.subscribe(world.stripe.add_price(meter=meter, metadata={"om_meter_id": "seats"}))
    assert world.run().verdict == ("skipped", "aggregation_mismatch")


def test_an_addition_without_an_answer_is_sent_again_exactly(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 7)
    world.sandbox.faults.add(Fault(path="/v1/billing/meter_events", drop="after"))
    world.run()
    world.use(subscription, 5)
    world.sandbox.clock.advance(HOUR)
    assert world.run().code == 0
    assert [event.value for event in events(world, subscription)] == [7, 5]
    sent = [request.body for request in world.seen("POST", "/meter_events")]
    assert sent[0] == sent[1]


@pytest.mark.parametrize("arrived", [True, False])
def test_an_addition_of_unknown_outcome_is_looked_up_once_its_identifier_protects_no_more(
    world: World, arrived: bool
) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 7)
    world.sandbox.faults.add(Fault(path="/v1/billing/meter_events", drop="after" if arrived else "before"))
    world.execute()
    world.sandbox.clock.advance(timedelta(hours=25))
    assert world.verdict(subscription) == ("unchanged" if arrived else "reported")
    assert world.billed(subscription) == 7


def test_what_is_there_when_an_addition_is_looked_up_counts_as_added(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 7)
    world.sandbox.faults.add(Fault(path="/v1/billing/meter_events", drop="before"))
    world.execute()
    customer = world.customer_of(subscription)
    world.stripe.create_meter_event(f"additions_{METER}", {"stripe_customer_id": customer, "value": "2"})
    world.sandbox.clock.advance(timedelta(hours=25))
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 7


def test_nothing_is_added_twice_when_the_ledger_is_lost_and_the_summary_lags(world: World, ledger_file: Path) -> None:
    world.stripe.summary_lag_seconds = 3600
    subscription = metered(world, "additions")
    world.use(subscription, 7)
    world.run()
    ledger_file.unlink()
    world.use(subscription, 2)
    world.sandbox.clock.advance(timedelta(minutes=5))
    lagging = world.run()
    assert (lagging.code, lagging.verdict) == (1, ("failed", "stripe_error"))
    assert world.billed(subscription) == 7

    world.sandbox.clock.advance(HOUR)
    assert world.run().code == 0
    assert world.billed(subscription) == 9


def test_no_event_is_stamped_into_a_boundary_minute(world: World) -> None:
    """It waits until a whole minute has passed."""
    start = NOW - timedelta(seconds=20)
    subscriptions = [metered(world, way, period_start=start) for way in ("last", "additions")]
    for subscription in subscriptions:
        world.use(subscription, 1, at=start)
    assert {row["reason"] for row in world.run().items.values()} == {"not_started"}
    world.sandbox.clock.advance(timedelta(seconds=61))
    world.run()
    for subscription in subscriptions:
        (event,) = events(world, subscription)
        assert event.timestamp == (NOW + timedelta(seconds=1)).timestamp()
        assert world.billed(subscription) == 1


def test_what_was_added_too_much_is_cancelled_if_it_is_one_event_and_subtracted_otherwise(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 7, at=NOW - 2 * HOUR)
    world.run()
    world.use(subscription, 5)
    world.run()
    world.use(subscription, -5)
    world.run("--allow", "decrease")
    assert [event.is_cancelled for event in events(world, subscription)] == [False, True]
    world.use(subscription, -1)
    world.run("--allow", "decrease")
    assert [event.value for event in events(world, subscription)][2:] == [-1]
    assert world.billed(subscription) == 6
    world.use(subscription, 1)
    assert world.run().code == 0
    assert world.billed(subscription) == 7


# -- preflight ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "meter", [{"formula": "count"}, {"formula": "count", "window": "hour"}, {"formula": "last", "window": "day"}]
)
def test_a_meter_that_cannot_hold_a_total_is_refused_with_what_to_create(world: World, meter: MeterOf) -> None:
    price = world.stripe.add_price(
        meter=world.stripe.add_meter("counted", **meter),  # type: ignore[arg-type]
        metadata={"om_meter_id": METER},
    )
    subscription = world.subscribe(price)
    world.use(subscription, 3)
    refused = world.run()
    assert (refused.code, refused.verdict) == (4, ("skipped", "unsupported_meter"))
    assert "create a meter with formula sum" in refused.item["message"]


def test_an_inactive_meter_is_refused(world: World) -> None:
    subscription = metered(world, "hours")
    item = world.stripe.state.items[subscription.items[0]]
    world.stripe.deactivate_meter(str(world.stripe.state.prices[item.price].meter))
    assert world.run().verdict == ("skipped", "unsupported_meter")


def test_two_items_of_one_customer_on_one_meter_are_both_held(world: World) -> None:
    meter = world.stripe.add_meter("shared", formula="sum", window="hour")
    prices = [world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}) for _ in range(2)]
    world.subscribe(*prices)
    outcome = world.run()
    assert outcome.code == 4
    assert {(row["outcome"], row["reason"]) for row in outcome.items.values()} == {("held", "duplicate_usage")}
    assert world.writes == []


def test_a_price_that_moved_to_a_meter_within_the_period_is_reported_from_then_on(world: World) -> None:
    """Stripe bills what is stamped since; what was used before is named."""
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.execute()
    meter = world.stripe.add_meter("new", formula="sum", window="hour")
    world.stripe.change_price(
        subscription.items[0], world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER})
    )
    world.sandbox.clock.advance(HOUR)
    world.use(subscription, 3, at=world.now - timedelta(minutes=1))
    world.execute()
    assert (world.billed(subscription), sum(world.unbilled().values())) == (3, 5)


def test_both_kinds_of_prices_are_billed_side_by_side_in_one_subscription(world: World) -> None:
    world.openmeter.add_meter("storage", aggregation="SUM")
    meter = world.stripe.add_meter("storage", formula="sum", window="hour")
    subscription = world.subscribe(
        world.price, world.stripe.add_price(meter=meter, metadata={"om_meter_id": "storage"})
    )
    world.use(subscription, 5)
    world.use(subscription, 6, meter="storage")
    outcome = world.run()
    assert outcome.code == 0
    assert [world.stripe.total(item) for item in subscription.items] == [5, 6]
    assert [row["target"] for row in outcome.document["items"]] == ["meter_event", "usage_record"] or [
        row["target"] for row in outcome.document["items"]
    ] == ["usage_record", "meter_event"]


def test_the_payload_keys_of_the_meter_are_used(world: World) -> None:
    meter = world.stripe.add_meter("keys", formula="sum", window="hour", customer_key="account", value_key="amount")
    subscription = world.subscribe(world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}))
    world.use(subscription, 5)
    assert world.run().code == 0
    assert world.billed(subscription) == 5


# -- rejections -----------------------------------------------------------------------------------


def test_what_stripe_rejected_after_it_had_taken_it_is_shown_and_then_reported_again(world: World, way: str) -> None:
    subscription = metered(world, way)
    world.use(subscription, 7)
    world.stripe.reject_meter_events_as = "meter_event_customer_not_found"
    assert world.run().item["outcome"] == "reported"
    assert world.billed(subscription) == 0

    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.advance(timedelta(minutes=5))
    shown = world.run()
    assert (shown.code, shown.verdict) == (4, ("held", "rejected"))
    assert "meter_event_customer_not_found" in shown.item["message"]
    assert world.run().item["outcome"] == "reported"
    assert world.billed(subscription) == 7
    assert world.run().verdict == ("unchanged", None)


def test_what_was_only_counted_as_rejected_is_found_by_comparing_totals(world: World, way: str) -> None:
    world.stripe.samples_per_error = 0
    subscription = metered(world, way)
    world.use(subscription, 7)
    world.stripe.reject_meter_events_as = "meter_event_customer_not_found"
    world.execute()
    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.advance(timedelta(minutes=5))
    assert world.verdict(subscription) == "rejected"
    world.sandbox.clock.advance(DAY)
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 7


@pytest.mark.parametrize("way", by_tier(["hours", "days"]))
def test_windows_that_are_there_are_not_doubted_when_rejections_are_only_counted(world: World, way: str) -> None:
    world.stripe.samples_per_error = 0
    subscription, other = metered(world, way), metered_by_other(world, way)
    for each in (subscription, other):
        world.use(each, 5, at=PERIOD_START)
    world.sandbox.faults.add(Fault(path="/v1/billing/meter_events$", body=world.customer_of(other), status=400))
    world.run()
    world.sandbox.faults.clear()
    world.stripe.reject_meter_events_as = "meter_event_customer_not_found"
    world.run()
    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.advance(timedelta(minutes=5))
    shown = world.run().items
    assert (shown[subscription.items[0]]["outcome"], shown[other.items[0]]["reason"]) == ("unchanged", "rejected")


def test_without_permission_to_read_events_everything_else_goes_on(world: World) -> None:
    subscription = metered(world, "hours")
    world.stripe.keys["rk_test_narrow"] = frozenset(
        {"prices:read", "subscriptions:read", "billing_meters:read", "meter_events:write"}
    )
    world.use(subscription, 7)
    outcome = world.run(STRIPE_API_KEY="rk_test_narrow")
    assert outcome.code == 0
    assert "error_events_unread" in outcome.stderr
    assert world.billed(subscription) == 7
