"""Subscriptions end in every way that Stripe offers, go on trial and pause, and bill what they should."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.world import SubscriptionView

from .instants import NOW, PERIOD_END, PERIOD_START
from .wire import StripeWire

START, END = int(PERIOD_START.timestamp()), int(PERIOD_END.timestamp())
ODD = datetime(2026, 11, 17, 3, 4, 5, tzinfo=UTC)
ENDIVE = "2026-10-28.endive"


def seconds(instant: datetime) -> int:
    return int(instant.timestamp())


def subscribe(sandbox: Sandbox, **options: Any) -> SubscriptionView:
    """Add a subscription to a price of one cent on a meter without windows, or on the meter given."""
    world = sandbox.stripe
    meter = options.pop("meter", None) or world.add_meter(f"event_{len(world.state.meters)}")
    price = world.add_price(meter=meter, unit_amount_decimal="1")
    return world.add_subscription(world.add_customer(), [price], period_start=PERIOD_START, **options)


def use(sandbox: Sandbox, view: SubscriptionView, value: int, at: datetime) -> None:
    """Send a meter event for the subscription's customer on the meter of its item."""
    world = sandbox.stripe
    subscription = world.state.subscriptions[view.id]
    meter = world.state.price_of(world.state.items[view.items[0]]).meter
    assert meter is not None
    world.create_meter_event(
        world.state.meters[meter].event_name,
        {"stripe_customer_id": subscription.customer, "value": str(value)},
        timestamp=seconds(at),
    )


def billed(sandbox: Sandbox) -> list[tuple[int, int, int, int]]:
    """Return the start, the end, the quantity and the cost of each line, oldest invoice first."""
    return [
        (line.period.start, line.period.end, line.quantity, int(line.amount_cents))
        for invoice in sandbox.stripe.invoices
        for line in invoice.lines
    ]


def shown(stripe: StripeWire, view: SubscriptionView) -> dict[str, Any]:
    answer: dict[str, Any] = stripe("GET", f"/v1/subscriptions/{view.id}", version=ENDIVE).json
    return answer


def change(stripe: StripeWire, view: SubscriptionView, **params: Any) -> dict[str, Any]:
    reply = stripe("POST", f"/v1/subscriptions/{view.id}", params, version=ENDIVE)
    assert reply.status == 200, reply.text
    answer: dict[str, Any] = reply.json
    return answer


# -- the end -------------------------------------------------------------------------------------


def test_canceled_at_once_usage_is_invoiced_only_if_asked_for(sandbox: Sandbox, stripe: StripeWire) -> None:
    silent, asked = subscribe(sandbox), subscribe(sandbox)
    for view, params in ((silent, {}), (asked, {"invoice_now": "true"})):
        use(sandbox, view, 4, PERIOD_START)
        canceled = stripe("DELETE", f"/v1/subscriptions/{view.id}", params, version=ENDIVE).json
        assert canceled["status"] == "canceled"
        assert canceled["ended_at"] == canceled["canceled_at"] == seconds(NOW)
    sandbox.clock.move_to(PERIOD_END + timedelta(days=40))
    assert billed(sandbox) == [(START, seconds(NOW), 4, 4)]
    (invoice,) = sandbox.stripe.invoices
    assert (invoice.subscription, invoice.billing_reason) == (asked.id, "subscription_update")


def test_canceled_with_its_period_the_last_one_is_billed_like_any_other(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    changed = change(stripe, view, cancel_at_period_end="true")
    assert (changed["status"], changed["cancel_at_period_end"]) == ("active", True)
    assert (changed["cancel_at"], changed["canceled_at"], changed["ended_at"]) == (END, seconds(NOW), None)
    use(sandbox, view, 6, NOW)
    sandbox.clock.move_to(PERIOD_END)
    ended = shown(stripe, view)
    assert (ended["status"], ended["ended_at"], ended["canceled_at"]) == ("canceled", END, seconds(NOW))
    assert ended["latest_invoice"] == sandbox.stripe.invoices[0].id
    assert sandbox.stripe.invoices[0].billing_reason == "subscription_cycle"
    sandbox.clock.advance(timedelta(days=40))
    assert billed(sandbox) == [(START, END, 6, 6)]
    assert stripe("GET", "/v1/subscriptions", {"status": "canceled"}).json["data"][0]["id"] == view.id


@pytest.mark.parametrize("way", ["cancel_at_period_end", "cancel_at"])
def test_the_end_is_told_of_as_a_deletion_when_it_comes(sandbox: Sandbox, stripe: StripeWire, way: str) -> None:
    view = subscribe(sandbox)
    end = END if way == "cancel_at_period_end" else seconds(ODD)
    change(stripe, view, **{way: "true" if end == END else str(end)})
    sandbox.clock.move_to(PERIOD_END + timedelta(days=1))
    happened = stripe("GET", "/v1/events", {"limit": 100}).json["data"]
    ((deleted, at),) = [
        (each["data"]["object"], each["created"]) for each in happened if each["type"].endswith(".deleted")
    ]
    assert (deleted["status"], deleted["ended_at"], at) == ("canceled", end, end)
    (update,) = [each for each in happened if each["type"] == "customer.subscription.updated"]
    assert update["created"] == seconds(NOW)
    assert update["data"]["previous_attributes"]["cancel_at"] is None


def test_canceled_at_an_odd_second_the_period_ends_there(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    changed = change(stripe, view, cancel_at=seconds(ODD))
    assert (changed["cancel_at"], changed["cancel_at_period_end"]) == (seconds(ODD), False)
    use(sandbox, view, 3, NOW)
    sandbox.clock.move_to(ODD - timedelta(seconds=1))
    use(sandbox, view, 5, sandbox.clock.now())
    assert shown(stripe, view)["status"] == "active"
    sandbox.clock.advance(timedelta(seconds=1))
    use(sandbox, view, 7, sandbox.clock.now())
    assert shown(stripe, view)["ended_at"] == seconds(ODD)
    assert billed(sandbox) == [(START, seconds(ODD), 8, 8)]


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"cancel_at_period_end": "true"}, {"cancel_at_period_end": "false"}),
        ({"cancel_at": END + 60}, {"cancel_at": ""}),
    ],
)
def test_a_subscription_that_was_to_end_can_be_kept(
    sandbox: Sandbox, stripe: StripeWire, asked: dict[str, Any], kept: dict[str, Any]
) -> None:
    view = subscribe(sandbox)
    change(stripe, view, **asked)
    changed = change(stripe, view, **kept)
    assert (changed["cancel_at"], changed["cancel_at_period_end"], changed["canceled_at"]) == (None, False, None)
    sandbox.clock.move_to(PERIOD_END + timedelta(days=1))
    assert shown(stripe, view)["status"] == "active"


def test_the_draft_of_a_canceled_subscription_takes_late_events_until_it_is_final(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    view = subscribe(sandbox)
    change(stripe, view, cancel_at=seconds(ODD))
    sandbox.clock.move_to(ODD + timedelta(minutes=59))
    use(sandbox, view, 2, ODD - timedelta(seconds=1))
    use(sandbox, view, 100, ODD)  # after the end
    assert billed(sandbox) == [(START, seconds(ODD), 2, 2)]
    sandbox.clock.advance(timedelta(minutes=1))
    use(sandbox, view, 5, ODD - timedelta(seconds=1))
    assert billed(sandbox) == [(START, seconds(ODD), 2, 2)]


def test_a_window_that_straddles_the_end_of_a_canceled_subscription_is_billed_nowhere(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    view = subscribe(sandbox, meter=sandbox.stripe.add_meter("windowed", window="hour"))
    change(stripe, view, cancel_at=seconds(ODD))
    sandbox.clock.move_to(ODD)
    use(sandbox, view, 10, ODD - timedelta(hours=1))
    use(sandbox, view, 1000, ODD - timedelta(seconds=1))
    sandbox.clock.advance(timedelta(days=40))
    assert [quantity for _, _, quantity, _ in billed(sandbox)] == [10]


def test_a_canceled_subscription_only_takes_metadata(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    sandbox.stripe.cancel(view.id)
    refused = stripe("POST", f"/v1/subscriptions/{view.id}", {"cancel_at_period_end": "true"})
    assert refused.error["message"].startswith("A canceled subscription can only update")
    assert change(stripe, view, **{"metadata[why]": "moved"})["metadata"] == {"why": "moved"}


@pytest.mark.parametrize(
    "params",
    [
        {"cancel_at": START},
        {"cancel_at": END, "cancel_at_period_end": "true"},
        {"trial_end": START},
        {"billing_cycle_anchor": "yesterday"},
        {"pause_collection[behavior]": "forget"},
        {"items[0][id]": "si_none"},
        {"items[0][quantity]": "3"},
    ],
)
def test_a_change_that_makes_no_sense_changes_nothing(
    sandbox: Sandbox, stripe: StripeWire, params: dict[str, Any]
) -> None:
    view = subscribe(sandbox)
    before = shown(stripe, view)
    assert stripe("POST", f"/v1/subscriptions/{view.id}", params).status == 400
    assert shown(stripe, view) == before


# -- summaries -----------------------------------------------------------------------------------


def test_summaries_show_a_canceled_subscriptions_periods_until_its_end_and_no_deleted_item(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    world = sandbox.stripe
    price = world.add_price()
    view = world.add_subscription(world.add_customer(), [price, world.add_price()], period_start=PERIOD_START)
    kept, gone = view.items
    stripe.record(kept, 7, timestamp=START + 1)
    stripe("DELETE", f"/v1/subscription_items/{gone}")
    sandbox.clock.move_to(PERIOD_END + timedelta(days=1))
    stripe.record(kept, 9, timestamp=END + 1)
    stripe("DELETE", f"/v1/subscriptions/{view.id}", {"invoice_now": "true"})

    rows = stripe("GET", f"/v1/subscription_items/{kept}/usage_record_summaries").json["data"]
    ids = [invoice.id for invoice in reversed(world.invoices)]
    assert [(row["total_usage"], row["period"]["end"], row["invoice"]) for row in rows] == [
        (9, END + 86_400, ids[0]),
        (7, END, ids[1]),
    ]
    assert stripe("GET", f"/v1/subscription_items/{gone}/usage_record_summaries").status == 404


# -- changes in mid-period -----------------------------------------------------------------------


def test_a_new_billing_cycle_bills_what_is_open_and_begins_at_once(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    use(sandbox, view, 3, NOW - timedelta(hours=1))
    changed = change(stripe, view, billing_cycle_anchor="now")
    assert changed["billing_cycle_anchor"] == changed["items"]["data"][0]["current_period_start"] == seconds(NOW)
    use(sandbox, view, 4, NOW)
    sandbox.clock.move_to(datetime(2026, 12, 10, 12, tzinfo=UTC))
    assert billed(sandbox) == [
        (START, seconds(NOW), 3, 3),
        (seconds(NOW), seconds(NOW + timedelta(days=30)), 4, 4),
    ]
    assert [each.billing_reason for each in sandbox.stripe.invoices] == ["subscription_update", "subscription_cycle"]


def test_another_price_in_mid_period_bills_the_period_and_another_interval_begins_a_new_one(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    world = sandbox.stripe
    view = world.add_subscription(
        world.add_customer(), [world.add_price(unit_amount_decimal="1")], period_start=PERIOD_START
    )
    stripe.record(view.items[0], 5, timestamp=START + 1)
    world.change_price(view.items[0], world.add_price(unit_amount_decimal="2"))
    assert world.invoices == []
    world.change_price(view.items[0], world.add_price(unit_amount_decimal="3", interval="day"))
    assert billed(sandbox) == [(START, seconds(NOW), 5, 10)]
    assert world.period(view.items[0]).start == seconds(NOW)
    assert world.period(view.items[0]).end == seconds(NOW) + 86_400


def test_an_item_can_be_replaced_in_mid_period(sandbox: Sandbox, stripe: StripeWire) -> None:
    world = sandbox.stripe
    view = world.add_subscription(
        world.add_customer(), [world.add_price(unit_amount_decimal="1")], period_start=PERIOD_START
    )
    stripe.record(view.items[0], 5, timestamp=START + 1)
    replaced = {"items[0][id]": view.items[0], "items[0][deleted]": "true", "items[1][price]": world.add_price()}
    assert stripe("POST", f"/v1/subscriptions/{view.id}", replaced).status == 400  # its usage would be lost
    (item,) = change(stripe, view, **replaced, **{"items[0][clear_usage]": "true"})["items"]["data"]
    assert item["id"] != view.items[0]
    assert (item["created"], item["current_period_start"]) == (seconds(NOW), START)
    assert stripe("GET", f"/v1/subscription_items/{view.items[0]}").status == 404


# -- trials --------------------------------------------------------------------------------------


def test_a_trial_can_begin_and_end_at_any_time_and_costs_nothing(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    use(sandbox, view, 1, NOW - timedelta(hours=1))
    trial_end = NOW + timedelta(days=10)
    begun = change(stripe, view, trial_end=seconds(trial_end))
    assert (begun["status"], begun["trial_start"], begun["trial_end"]) == (
        "trialing",
        seconds(NOW),
        seconds(trial_end),
    )
    use(sandbox, view, 20, NOW)
    sandbox.clock.advance(timedelta(days=2))
    ended = change(stripe, view, trial_end="now")
    assert (ended["status"], ended["trial_end"]) == ("active", seconds(NOW) + 2 * 86_400)
    use(sandbox, view, 300, sandbox.clock.now())
    sandbox.clock.advance(timedelta(days=30))
    assert [(quantity, cost) for _, _, quantity, cost in billed(sandbox)] == [(1, 1), (20, 0), (300, 300)]


def test_the_end_of_a_trial_can_be_moved(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox, trial_end=NOW + timedelta(days=1))
    later = seconds(NOW) + 3 * 86_400
    changed = change(stripe, view, trial_end=later)
    assert (changed["items"]["data"][0]["current_period_end"], changed["trial_start"]) == (later, START)
    sandbox.clock.advance(timedelta(days=2))
    assert shown(stripe, view)["status"] == "trialing"
    sandbox.clock.advance(timedelta(days=1))
    assert shown(stripe, view)["status"] == "active"
    assert [each.created for each in sandbox.stripe.invoices] == [later]


def test_a_trial_without_a_payment_method_ends_in_a_pause_until_it_is_resumed(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    view = subscribe(sandbox, trial_end=NOW + timedelta(days=1), pauses_after_trial=True)
    sandbox.clock.advance(timedelta(days=9))
    paused = shown(stripe, view)
    assert paused["status"] == "paused"
    assert paused["trial_settings"] == {"end_behavior": {"missing_payment_method": "pause"}}
    assert sandbox.stripe.invoices == []
    use(sandbox, view, 8, sandbox.clock.now() - timedelta(hours=1))
    resumed_at = seconds(sandbox.clock.now())
    resumed = stripe("POST", f"/v1/subscriptions/{view.id}/resume", version=ENDIVE).json
    assert (resumed["status"], resumed["billing_cycle_anchor"]) == ("active", resumed_at)
    use(sandbox, view, 2, sandbox.clock.now())
    sandbox.clock.advance(timedelta(days=31))
    assert [(start, quantity) for start, _, quantity, _ in billed(sandbox)] == [(resumed_at, 2)]
    assert stripe("POST", f"/v1/subscriptions/{view.id}/resume").status == 400


def test_a_pause_after_the_trial_is_asked_for_at_creation_or_later(sandbox: Sandbox, stripe: StripeWire) -> None:
    pausing = {"trial_settings[end_behavior][missing_payment_method]": "pause"}
    world = sandbox.stripe
    params = {
        "customer": world.add_customer(),
        "items[0][price]": world.add_price(),
        "trial_end": seconds(NOW) + 86_400,
    }
    first = stripe("POST", "/v1/subscriptions", {**params, **pausing}).json["id"]
    second = stripe("POST", "/v1/subscriptions", params).json["id"]
    third = stripe("POST", "/v1/subscriptions", params).json["id"]
    stripe("POST", f"/v1/subscriptions/{second}", pausing)
    sandbox.clock.advance(timedelta(days=2))
    statuses = [stripe("GET", f"/v1/subscriptions/{each}").json["status"] for each in (first, second, third)]
    assert statuses == ["paused", "paused", "active"]


def test_pausing_and_resuming_are_told_of(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox, trial_end=NOW + timedelta(days=1), pauses_after_trial=True)
    sandbox.clock.advance(timedelta(days=2))
    stripe("POST", f"/v1/subscriptions/{view.id}/resume", {"billing_cycle_anchor": "unchanged"})
    happened = stripe("GET", "/v1/events", {"type": "customer.subscription.*", "created[gt]": START})
    day = seconds(NOW) + 86_400
    assert [(each["type"].rpartition(".")[2], each["created"]) for each in reversed(happened.json["data"])] == [
        ("updated", day),
        ("paused", day),
        ("updated", day + 86_400),
        ("resumed", day + 86_400),
    ]
    assert sandbox.stripe.period(view.items[0]).start == day


# -- paused collection ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behavior", "status"), [("keep_as_draft", "draft"), ("void", "void"), ("mark_uncollectible", "uncollectible")]
)
def test_while_collection_is_paused_periods_turn_and_invoices_are_not_collected(
    sandbox: Sandbox, stripe: StripeWire, behavior: str, status: str
) -> None:
    view = subscribe(sandbox)
    use(sandbox, view, 5, NOW)
    resumes = PERIOD_END + timedelta(days=3)
    params = {"pause_collection[behavior]": behavior, "pause_collection[resumes_at]": seconds(resumes)}
    changed = change(stripe, view, **params)
    assert changed["pause_collection"] == {"behavior": behavior, "resumes_at": seconds(resumes)}
    assert changed["status"] == "active"
    sandbox.clock.move_to(resumes - timedelta(seconds=1))
    (made,) = sandbox.stripe.invoices
    invoice = stripe("GET", f"/v1/invoices/{made.id}", version=ENDIVE).json
    assert (invoice["status"], invoice["auto_advance"]) == (status, False)
    assert invoice["automatically_finalizes_at"] is None
    sandbox.clock.advance(timedelta(seconds=1))
    assert shown(stripe, view)["pause_collection"] is None
    sandbox.clock.move_to(datetime(2027, 1, 1, 2, tzinfo=UTC))
    assert [each.status for each in sandbox.stripe.invoices] == [status, "paid"]


def test_paused_collection_can_be_resumed_at_once(sandbox: Sandbox, stripe: StripeWire) -> None:
    view = subscribe(sandbox)
    change(stripe, view, **{"pause_collection[behavior]": "void"})
    assert change(stripe, view, pause_collection="")["pause_collection"] is None
    use(sandbox, view, 5, NOW)
    sandbox.clock.move_to(PERIOD_END + timedelta(hours=1))
    assert [each.status for each in sandbox.stripe.invoices] == ["open"]
