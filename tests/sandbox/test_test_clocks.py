"""Test clocks: a time of their own for the customers that were made with them."""

from datetime import datetime, timedelta

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.world import SubscriptionView

from .instants import NOW
from .wire import StripeWire

PATH = "/v1/test_helpers/test_clocks"
PAST, FUTURE = NOW - timedelta(days=400), NOW + timedelta(days=400)


def on_clock(sandbox: Sandbox, frozen_time: datetime, **price: str) -> tuple[str, str, SubscriptionView]:
    """Return a new test clock, its customer, and their subscription from the clock's time on."""
    world = sandbox.stripe
    clock = world.add_test_clock(frozen_time)
    customer = world.add_customer(test_clock=clock)
    return clock, customer, world.add_subscription(customer, [world.add_price(**price)])  # type: ignore[arg-type]


def test_a_test_clock_is_shown_with_its_time(sandbox: Sandbox, stripe: StripeWire) -> None:
    clock = sandbox.stripe.add_test_clock(PAST, name="a year ago")

    shown = stripe("GET", f"{PATH}/{clock}").json

    assert (shown["object"], shown["id"], shown["status"]) == ("test_helpers.test_clock", clock, "ready")
    assert (shown["frozen_time"], shown["created"]) == (int(PAST.timestamp()), int(NOW.timestamp()))
    assert (shown["livemode"], shown["name"]) == (False, "a year ago")
    assert stripe("GET", PATH).json["data"] == [shown]


def test_one_that_does_not_exist_is_refused(stripe: StripeWire) -> None:
    assert stripe("GET", f"{PATH}/clock_none").status == 404
    refused = stripe("POST", "/v1/customers", {"test_clock": "clock_none"})
    assert (refused.status, refused.error["param"]) == (400, "test_clock")


def test_there_are_none_in_live_mode(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.keys["sk_live_key"] = None

    assert stripe("GET", PATH, key="sk_live_key").status == 400


def test_one_is_made_and_moved_by_the_api_and_only_forward(stripe: StripeWire) -> None:
    at = int(PAST.timestamp())
    clock = stripe("POST", PATH, {"frozen_time": at}).json["id"]

    assert stripe("POST", f"{PATH}/{clock}/advance", {"frozen_time": at + 60}).json["frozen_time"] == at + 60
    assert stripe("POST", f"{PATH}/{clock}/advance", {"frozen_time": at + 60}).error["param"] == "frozen_time"


@pytest.mark.parametrize("frozen_time", [PAST, FUTURE], ids=["past", "future"])
def test_periods_begin_and_turn_by_the_clock_and_by_nothing_else(sandbox: Sandbox, frozen_time: datetime) -> None:
    world = sandbox.stripe
    clock, _, view = on_clock(sandbox, frozen_time)
    began = world.period(view.items[0])

    sandbox.clock.advance(timedelta(days=1000))
    untouched = world.period(view.items[0])
    world.advance_test_clock(clock, frozen_time + timedelta(days=32))

    assert began.start == int(frozen_time.timestamp())
    assert untouched == began
    assert world.period(view.items[0]).start == began.end
    assert [(one.created, one.status) for one in world.invoices] == [(began.end, "paid")]


@pytest.mark.parametrize("frozen_time", [PAST, FUTURE], ids=["past", "future"])
def test_usage_is_taken_at_the_clocks_time(sandbox: Sandbox, frozen_time: datetime) -> None:
    world = sandbox.stripe
    meter = world.add_meter("calls")
    clock, _, by_record = on_clock(sandbox, frozen_time)
    _, customer, by_event = on_clock(sandbox, frozen_time, meter=meter)
    world.advance_test_clock(clock, frozen_time + timedelta(days=2))
    at = int(frozen_time.timestamp()) + 60
    payload = {"stripe_customer_id": customer, "value": "4"}

    world.create_usage_record(by_record.items[0], 3, at)
    world.create_meter_event("calls", payload, at)

    assert [world.total(view.items[0]) for view in (by_record, by_event)] == [3, 4]
    with pytest.raises(Refusal):
        world.create_usage_record(by_record.items[0], 3, at + 3 * 86_400)
    with pytest.raises(Refusal, match=r"future|35 days"):
        world.create_meter_event("calls", payload, int(NOW.timestamp()))


def test_its_invoices_are_listed_only_for_a_customer_or_a_subscription(sandbox: Sandbox, stripe: StripeWire) -> None:
    clock, customer, view = on_clock(sandbox, PAST)
    sandbox.stripe.advance_test_clock(clock, PAST + timedelta(days=32))

    def listed(**filters: str) -> int:
        return len(stripe("GET", "/v1/invoices", filters).json["data"])

    assert listed() == 0
    assert listed(customer=customer) == listed(subscription=view.id) == 1


def test_its_customers_are_listed_only_when_asked_for(sandbox: Sandbox, stripe: StripeWire) -> None:
    clock, customer, _ = on_clock(sandbox, PAST)

    assert stripe("GET", "/v1/customers").json["data"] == []
    assert [one["id"] for one in stripe("GET", "/v1/customers", {"test_clock": clock}).json["data"]] == [customer]


def test_its_events_have_the_time_of_day(sandbox: Sandbox, stripe: StripeWire) -> None:
    _, _, view = on_clock(sandbox, FUTURE)
    sandbox.stripe.cancel(view.id)

    assert sandbox.stripe.state.subscriptions[view.id].ended_at == int(FUTURE.timestamp())
    assert {one["created"] for one in stripe("GET", "/v1/events").json["data"]} == {int(NOW.timestamp())}
