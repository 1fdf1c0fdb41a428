"""Mishaps that come together on billing meters: what Stripe bills is what was used all the same.

Runs are the program's own, in this process and over real HTTP.
"""

import shutil
from datetime import timedelta

import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.selection import Selection
from meter_sync.sandbox import Fault
from tests.support.ways import EVENTS, NOT_FOUND, WAYS, by_tier, end_of, metered, metered_price
from tests.support.world import METER, NOW, PERIOD_START, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# -- rejections ----------------------------------------------------------------------------------


def test_an_addition_that_was_rejected_after_its_answer_was_lost_is_taken_off_nothing(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 5)
    world.execute()
    world.use(subscription, 7)
    world.stripe.reject_meter_events_as = NOT_FOUND
    world.sandbox.faults.add(Fault(path=EVENTS, drop="after"))
    world.execute()
    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.advance(5 * MINUTE)
    assert world.verdict(subscription) == "rejected"
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 12


def test_an_addition_that_was_cancelled_and_is_rejected_then_is_taken_off_only_once(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 5)
    world.execute()
    world.use(subscription, 7)
    world.stripe.meter_processing_seconds = 600
    world.stripe.reject_meter_events_as = NOT_FOUND
    world.execute()
    world.stripe.reject_meter_events_as = None
    world.use(subscription, -7)
    world.execute(Reason.DECREASE)
    world.sandbox.clock.advance(15 * MINUTE)
    for _ in range(3):
        world.execute()
    assert world.billed(subscription) == 5


def test_settling_an_addition_does_not_undo_the_rejection_of_an_earlier_one(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 5)
    world.stripe.meter_processing_seconds = 120
    world.stripe.reject_meter_events_as = NOT_FOUND
    world.execute()
    world.stripe.reject_meter_events_as = None
    world.use(subscription, 2)
    world.sandbox.clock.advance(MINUTE)
    world.sandbox.faults.add(Fault(path=EVENTS, drop="after"))
    world.execute()
    world.sandbox.clock.advance(5 * MINUTE)
    assert world.verdict(subscription) == "rejected"
    world.execute()
    assert world.billed(subscription) == 7


def test_two_additions_that_were_only_counted_as_rejected_are_added_again_within_a_day(world: World) -> None:
    world.stripe.samples_per_error = 0
    world.stripe.meter_processing_seconds = 120
    world.stripe.reject_meter_events_as = NOT_FOUND
    subscription = metered(world, "additions")
    for value in (5, 2):
        world.use(subscription, value)
        world.execute()
        world.sandbox.clock.advance(MINUTE)
    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.advance(5 * MINUTE)
    assert world.verdict(subscription) == "rejected"
    assert world.verdict(subscription) == "unsettled"
    world.sandbox.clock.advance(DAY)
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 7


def test_a_cancelled_addition_that_comes_into_doubt_is_not_in_doubt_for_ever(world: World) -> None:
    subscription = metered(world, "additions")
    for value, before in ((7, 2 * HOUR), (5, HOUR), (-5, HOUR)):
        world.use(subscription, value, at=NOW - before)
        world.execute(Reason.DECREASE)
    world.stripe.summary_lag_seconds = 3600
    world.stripe.samples_per_error = 0
    other = world.subscribe(world.stripe.state.items[subscription.items[0]].price)
    world.use(other, 4)
    world.stripe.reject_meter_events_as = NOT_FOUND
    world.execute()
    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.advance(5 * MINUTE)
    world.execute()
    world.use(subscription, 9)
    for _ in range(3):
        world.sandbox.clock.advance(DAY)
        world.execute()
    assert (world.billed(subscription), world.billed(other)) == (16, 4)


def test_windows_that_stripe_takes_no_more_are_not_doubted(world: World) -> None:
    meter = world.stripe.add_meter("yearly", formula="sum", window="day")
    price = world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}, interval="year")
    subscription = world.subscribe(price, period_start=NOW - 20 * DAY)
    world.use(subscription, 3, at=NOW - 15 * DAY)
    world.execute()
    world.sandbox.clock.advance(30 * DAY)
    world.use(subscription, 4)
    world.stripe.samples_per_error = 0
    world.stripe.reject_meter_events_as = NOT_FOUND
    world.execute()
    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.advance(5 * MINUTE)
    assert world.verdict(subscription) == "rejected"
    world.sandbox.clock.advance(25 * HOUR)
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 7


def test_two_reports_of_rejections_of_the_same_instant_are_both_read(world: World) -> None:
    subscription = metered(world, "hours")
    world.use(subscription, 7)
    world.stripe.reject_meter_events_as = NOT_FOUND
    assert [world.verdict(subscription) for _ in range(3)] == ["reported", "rejected", "reported"]
    world.stripe.reject_meter_events_as = None
    assert [world.verdict(subscription) for _ in range(3)] == ["rejected", "reported", "unchanged"]
    assert world.billed(subscription) == 7


# -- ledgers that were lost, and summaries that lag -----------------------------------------------


@pytest.mark.parametrize(
    "mishap", [Fault(path=EVENTS, status=400), Fault(path=EVENTS, drop="before")], ids=["no", "lost"]
)
@pytest.mark.parametrize("retry_seconds", [0, 2])
def test_what_a_lagging_summary_said_is_not_believed_any_longer_than_it_lags(
    world: World, mishap: Fault, retry_seconds: int
) -> None:
    world.stripe.summary_lag_seconds = 3600
    subscription = metered(world, "additions")
    world.use(subscription, 7)
    world.execute()
    world.ledger.unlink()
    world.use(subscription, 2)
    world.sandbox.clock.advance(5 * MINUTE)
    world.sandbox.faults.add(mishap)
    world.execute(retry_seconds=retry_seconds)
    for hours in (1, 23, 1):
        world.sandbox.clock.advance(hours * HOUR)
        world.execute()
    assert world.billed(subscription) == 9


def test_an_addition_repeated_late_is_not_missed_in_a_summary_that_lags(world: World) -> None:
    world.stripe.summary_lag_seconds = 3600
    subscription = metered(world, "additions")
    world.use(subscription, 7)
    world.sandbox.faults.add(Fault(path=EVENTS, drop="before"))
    world.execute()
    world.sandbox.clock.advance(22 * HOUR + 50 * MINUTE)
    world.sandbox.faults.add(Fault(path=EVENTS, drop="after"))
    world.execute()
    world.sandbox.clock.advance(15 * MINUTE)
    assert world.verdict(subscription) == "unsettled"
    world.sandbox.clock.advance(DAY)
    world.execute()
    assert world.billed(subscription) == 7


def test_a_ledger_of_an_hour_ago_adds_nothing_twice(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 7)
    world.execute()
    shutil.copy(world.ledger, world.folder / "backup")
    world.sandbox.clock.advance(HOUR)
    world.use(subscription, 5)
    world.execute()
    shutil.copy(world.folder / "backup", world.ledger)
    world.use(subscription, 1)
    world.sandbox.clock.advance(HOUR)
    world.execute()
    world.execute()
    assert world.billed(subscription) == 13


# -- writes that were taken back -------------------------------------------------------------------


def test_windows_of_a_first_report_that_was_refused_are_not_sent_later(world: World) -> None:
    subscription = metered(world, "hours")
    world.use(subscription, 1, at=PERIOD_START + HOUR)
    world.execute()
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end + 5 * DAY)
    world.use(subscription, 5, at=end + HOUR)
    world.sandbox.faults.add(Fault(path=EVENTS, status=400))
    world.execute()
    world.use(subscription, -5, at=end + HOUR + MINUTE)
    for value in (2, 1):
        world.use(subscription, value)
        world.execute()
        world.execute()
    assert world.billed(subscription) == 3


def test_resending_leaves_windows_alone_that_stripe_takes_no_more(world: World) -> None:
    meter = world.stripe.add_meter("yearly", formula="sum", window="day")
    price = world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}, interval="year")
    subscription = world.subscribe(price, period_start=NOW - 20 * DAY)
    world.use(subscription, 3, at=NOW - 15 * DAY)
    world.execute()
    world.sandbox.clock.advance(30 * DAY)
    world.use(subscription, 2, at=NOW - 14 * DAY)
    world.use(subscription, 4)
    result = world.execute(resend=True)[subscription.items[0]]
    assert (result.reason, result.found.quantity) == (None, 9)
    assert world.billed(subscription) == 9


def test_a_dry_run_takes_an_addition_whose_answer_was_lost_for_what_the_next_run_will_find(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 7)
    world.sandbox.faults.add(Fault(path=EVENTS, drop="after"))
    world.execute()
    assert world.verdict(subscription, dry_run=True) == "unchanged"


# -- whose usage it is -----------------------------------------------------------------------------


def test_an_item_beside_another_one_on_its_meter_is_held_whatever_becomes_of_the_other(world: World) -> None:
    meter = world.stripe.add_meter("shared", formula="sum", window="hour")
    mapped = world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER})
    for toml in ('openmeter = "missing"', "ignore = true"):
        other = world.stripe.add_price(meter=meter)
        world.configure(f'[[meters]]\nprice = "{other}"\n{toml}\n')
        subscription = world.subscribe(mapped, other)
        world.use(subscription, 5)
        assert world.verdict(subscription) == "duplicate_usage"


def test_a_narrowed_run_does_not_forget_the_other_item_on_the_meter(world: World) -> None:
    meter = world.stripe.add_meter("shared", formula="sum", window="hour")
    prices = [world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}) for _ in range(2)]
    customer = world.stripe.add_customer()
    one, other = (world.subscribe(price, customer=customer) for price in prices)
    world.use(one, 5)
    world.execute()
    for narrowed in (Selection(prices=(prices[0],)), Selection(subscriptions=(other.id,))):
        results = world.execute(selection=narrowed).values()
        assert [result.reason for result in results] == [Reason.DUPLICATE_USAGE]


def test_what_was_used_on_a_trial_is_not_billed_when_the_trial_ends_early(world: World) -> None:
    subscription = metered(world, "days", trial_end=NOW + 5 * DAY)
    world.use(subscription, 5, at=NOW - 2 * HOUR)
    world.execute()
    world.sandbox.clock.advance(30 * MINUTE)
    world.stripe.end_trial(subscription.id)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert world.billed(subscription) == 0


def test_a_known_item_is_looked_at_again_on_another_meter(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.execute()
    end = end_of(world, subscription)
    world.stripe.change_price(subscription.items[0], metered_price(world, "additions"))
    world.sandbox.clock.move_to(end + HOUR)
    world.use(subscription, 3, at=end + 30 * MINUTE)
    customer = world.customer_of(subscription)
    world.stripe.create_meter_event(f"additions_{METER}", {"stripe_customer_id": customer, "value": "3"})
    world.execute()
    assert world.billed(subscription) == 3


# -- the end of a period ---------------------------------------------------------------------------


def test_windows_of_a_day_are_followed_by_windows_of_an_hour_without_a_gap(world: World) -> None:
    subscription = metered(world, "days")
    end = end_of(world, subscription)
    world.use(subscription, 1, at=NOW)
    world.use(subscription, 40, at=end.replace(hour=3, minute=0))
    world.sandbox.clock.move_to(end - MINUTE)
    world.execute()
    world.sandbox.clock.move_to(end)
    world.stripe.change_price(subscription.items[0], metered_price(world, "hours"))
    world.use(subscription, 2, at=end + MINUTE)
    world.sandbox.clock.move_to(end + 10 * MINUTE)
    world.execute()
    (invoice,) = world.stripe.invoices
    assert [line.quantity for line in invoice.lines] == [1]
    assert world.billed(subscription) == 42
    assert world.verdict(subscription) == "unchanged"


@pytest.mark.parametrize("way", by_tier(WAYS))
def test_a_late_event_of_any_age_is_billed_by_the_last_run_of_its_period(world: World, way: str) -> None:
    subscription = metered(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 1, at=NOW)
    world.sandbox.clock.move_to(end - 20 * HOUR)
    world.execute()
    world.use(subscription, 10, at=end - 6 * DAY)
    world.sandbox.clock.move_to(end - HOUR)
    world.execute()
    world.sandbox.clock.move_to(end + 10 * MINUTE)
    (invoice,) = world.stripe.invoices
    assert [line.quantity for line in invoice.lines] == [11]


def test_a_meter_with_windows_of_another_size_spoils_nothing(world: World) -> None:
    subscription = metered(world, "hours")
    other = world.subscribe()
    world.use(other, 3)
    body = (
        '{"object": "list", "has_more": false, "url": "/v1/billing/meters", "data": [{"id": "mtr_1Sandbox00000001",'
        '"object": "billing.meter", "event_name": "x", "default_aggregation": {"formula": "sum"},'
        '"event_time_window": "minute", "customer_mapping": {"event_payload_key": "a", "type": "by_id"},'
        '"value_settings": {"event_payload_key": "v"}, "status": "active"}]}'
    )
    world.sandbox.faults.add(Fault(path="/v1/billing/meters", method="GET", times=None, replace_text=body))
    assert world.verdict(subscription) == "unknown_to_this_version"
    assert world.billed(other) == 3


def test_a_lost_ledger_and_a_lagging_summary_over_the_turn_bill_once(world: World) -> None:
    """What is known of the item's new period says nothing of the one that was forgotten."""
    subscription = metered(world, "additions")
    end = end_of(world, subscription)
    world.use(subscription, 3, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.move_to(end - 10 * MINUTE)
    world.use(subscription, 4, at=end - 2 * DAY)
    world.execute()
    world.ledger.unlink()
    world.stripe.summary_lag_seconds = 900
    world.use(subscription, 8, at=end)
    world.sandbox.clock.move_to(end + 2 * MINUTE)
    world.execute()
    world.sandbox.clock.advance(20 * MINUTE)
    world.execute()
    assert [line.quantity for invoice in world.stripe.invoices for line in invoice.lines] == [7]
