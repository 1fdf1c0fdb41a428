"""What meter events add up to, and in which period and invoice."""

from datetime import UTC, datetime

import pytest

from meter_sync.sandbox import Sandbox

from .instants import DAY, HOUR, MINUTE, NOW, PERIOD_END, PERIOD_START, SECOND, unix
from .metering import EVENTS, Meter, errors
from .wire import StripeWire

KINDS = [{}, {"formula": "last"}, {"formula": "count"}, {"window": "hour"}, {"window": "day"}]


def test_without_windows_every_event_is_added(metered: Meter) -> None:
    usage = metered()
    for value, at in ((3, NOW), (4, NOW), (-2, NOW - DAY), ("0.5", NOW), ("0.5", NOW - HOUR)):
        usage.send(value, at)
    assert (usage.upcoming(), usage.summary()) == (6, 6)


def test_decimals_add_up_exactly(metered: Meter) -> None:
    usage = metered()
    for value in ("0.7", "0.1", "0.2"):
        usage.send(value)
    # In binary fractions they would be less than 1.
    assert (usage.upcoming(), usage.summary()) == (1, 1)


def test_formula_last_bills_the_value_with_the_latest_timestamp_not_the_one_received_last(metered: Meter) -> None:
    usage = metered(formula="last")
    assert usage.upcoming() == 0
    for value, at in ((3, NOW - DAY), (9, NOW), (4, NOW - HOUR)):
        usage.send(value, at)
    assert (usage.upcoming(), usage.summary()) == (9, 9)


def test_formula_count_bills_one_for_each_event_whatever_its_value(metered: Meter) -> None:
    usage = metered(formula="count")
    for value in (100, 0, -7, "abc", ""):
        assert usage.send(value).status == 200
    assert (usage.upcoming(), usage.summary()) == (5, 5)


def test_formula_count_needs_no_value_and_counts_an_identifier_once(metered: Meter) -> None:
    usage = metered(formula="count")
    event = {"event_name": usage.event_name, "payload[stripe_customer_id]": usage.customer, "identifier": "once"}
    assert usage.stripe("POST", EVENTS, event).status == 200
    again = usage.stripe("POST", EVENTS, event)
    assert (again.status, again.error["param"]) == (400, "identifier")
    assert (usage.upcoming(), usage.summary()) == (1, 1)
    assert errors(usage.stripe) == []


@pytest.mark.parametrize("window", [None, "hour"])
def test_a_negative_total_bills_nothing(metered: Meter, window: str | None) -> None:
    usage = metered(window=window)
    usage.send(3, NOW - HOUR)
    usage.send(-5)
    assert (usage.upcoming(), usage.summary()) == (0, -2)
    usage.send(4, NOW - 2 * HOUR)
    assert usage.upcoming() == 2


def test_every_item_of_a_customer_on_a_meter_bills_all_of_its_usage(
    sandbox: Sandbox, stripe: StripeWire, metered: Meter
) -> None:
    usage = metered()
    world = sandbox.stripe
    prices = [world.add_price(meter=usage.meter) for _ in range(2)]
    both = world.add_subscription(usage.customer, prices, period_start=PERIOD_START)
    strangers = world.add_subscription(world.add_customer(), prices, period_start=PERIOD_START)
    usage.send(5)

    def quantities(subscription: str) -> list[int]:
        shown = stripe("GET", "/v1/invoices/upcoming", {"subscription": subscription}).json
        return [line["quantity"] for line in shown["lines"]["data"]]

    assert [quantities(each) for each in (usage.subscription, both.id, strangers.id)] == [[5], [5, 5], [0, 0]]


def test_an_item_that_moves_to_a_meter_takes_no_more_usage_records(
    sandbox: Sandbox, stripe: StripeWire, metered: Meter
) -> None:
    usage = metered()
    legacy = sandbox.stripe.add_subscription(
        usage.customer, [sandbox.stripe.add_price()], period_start=PERIOD_START
    ).items[0]
    assert stripe.record(legacy, 1, timestamp=unix(NOW)).status == 200
    price = sandbox.stripe.add_price(meter=usage.meter)
    assert stripe("POST", f"/v1/subscription_items/{legacy}", {"price": price}).status == 200
    for action in ("set", "increment"):
        refused = stripe.record(legacy, 1, timestamp=unix(NOW), action=action)
        assert refused.status == 400
        assert refused.error["message"].endswith(
            " is not on the legacy metered billing system. Call /v1/billing/meter_events instead."
        )


@pytest.mark.parametrize("meter", KINDS, ids=str)
def test_an_event_bills_the_period_of_its_timestamp_not_of_its_receipt(
    sandbox: Sandbox, metered: Meter, meter: dict[str, str]
) -> None:
    usage = metered(**meter)
    sandbox.clock.move_to(PERIOD_END + MINUTE)
    usage.send(1, PERIOD_END)
    assert (usage.billed(), usage.upcoming()) == ([0], 1)
    usage.send(1, PERIOD_END - SECOND)
    assert (usage.billed(), usage.upcoming()) == ([1], 1)


@pytest.mark.parametrize(("meter", "late"), [({}, 8), ({"window": "hour"}, 5), ({"formula": "last"}, 5)], ids=str)
def test_late_events_change_the_draft_until_it_is_finalized_and_nothing_afterwards(
    sandbox: Sandbox, metered: Meter, meter: dict[str, str], late: int
) -> None:
    usage = metered(**meter)
    usage.send(3)
    sandbox.clock.move_to(PERIOD_END)
    assert usage.invoices() == [("draft", 3)]
    sandbox.clock.advance(HOUR - SECOND)
    usage.send(5, NOW + SECOND)
    assert usage.invoices() == [("draft", late)]
    sandbox.clock.advance(SECOND)
    assert usage.send(9, NOW + 2 * SECOND).status == 200
    assert usage.invoices() == [("open", late)]
    # Nor does the draft of the next period let it in.
    sandbox.clock.move_to(datetime(2027, 1, 1, tzinfo=UTC) + MINUTE)
    assert usage.send(9, PERIOD_END - SECOND).status == 200
    assert usage.invoices() == [("open", late), ("draft", 0)]
