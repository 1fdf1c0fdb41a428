"""The embedded Stripe keeps the rules of billing meters: which events it takes, which count, and what they bill."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any

import pytest
from stripe import InvalidRequestError, StripeClient

from meter_sync.sandbox import RateLimits, Sandbox
from meter_sync.sandbox.stripe.protocol.rate_limits import METER_EVENTS, RateLimiter

from .conftest import NOW
from .wire import Reply, StripeWire

EVENTS = "/v1/billing/meter_events"
ADJUSTMENTS = "/v1/billing/meter_event_adjustments"
ERRORS = "/v2/core/events"
ERROR_REPORT = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND = "v1.billing.meter.no_meter_found"

PERIOD_START = datetime(2026, 11, 1, tzinfo=UTC)
PERIOD_END = datetime(2026, 12, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def unix(instant: datetime) -> int:
    return int(instant.timestamp())


@dataclass(frozen=True)
class Metered:
    """A customer with one item on a price of a billing meter."""

    stripe: StripeWire
    event_name: str
    meter: str
    customer: str
    subscription: str

    def send(self, value: object, at: datetime = NOW, **fields: Any) -> Reply:
        """Send an event of this customer; `fields` are added to it or replace what is sent."""
        usual = {
            "event_name": self.event_name,
            "payload[stripe_customer_id]": self.customer,
            "payload[value]": value,
            "timestamp": unix(at),
        }
        return self.stripe("POST", EVENTS, {**usual, **fields})

    def cancel(self, identifier: str, **fields: Any) -> Reply:
        usual = {"event_name": self.event_name, "type": "cancel", "cancel[identifier]": identifier}
        return self.stripe("POST", ADJUSTMENTS, {**usual, **fields})

    def summaries(self, start: datetime = PERIOD_START, end: datetime = PERIOD_END, **fields: Any) -> Reply:
        usual = {"customer": self.customer, "start_time": unix(start), "end_time": unix(end)}
        return self.stripe("GET", f"/v1/billing/meters/{self.meter}/event_summaries", {**usual, **fields})

    def summary(self, start: datetime = PERIOD_START, end: datetime = PERIOD_END) -> float:
        """Return what the events of a span add up to, as Stripe's summary says."""
        (shown,) = self.summaries(start, end).json["data"]
        return float(shown["aggregated_value"])

    def upcoming(self) -> int:
        """Return what the open period would bill if it ended now."""
        shown = self.stripe("GET", "/v1/invoices/upcoming", {"subscription": self.subscription}).json
        (line,) = shown["lines"]["data"]
        return int(line["quantity"])

    def invoices(self) -> list[tuple[str, int]]:
        """Return the status of each invoice with the quantity that it bills, oldest first."""
        listed = self.stripe("GET", "/v1/invoices", {"subscription": self.subscription}).json["data"]
        return [(each["status"], each["lines"]["data"][0]["quantity"]) for each in reversed(listed)]

    def billed(self) -> list[int]:
        return [quantity for _, quantity in self.invoices()]


Meter = Callable[..., Metered]


@pytest.fixture
def metered(sandbox: Sandbox, stripe: StripeWire) -> Meter:
    """Add a meter, and a customer on a price of it whose period is the month from `since`."""

    def add(event_name: str = "api_requests", since: datetime = PERIOD_START, **meter: Any) -> Metered:
        world = sandbox.stripe
        identifier, customer = world.add_meter(event_name, **meter), world.add_customer()
        price = world.add_price(meter=identifier, unit_amount_decimal="1")
        view = world.add_subscription(customer, [price], period_start=since)
        return Metered(stripe, event_name, identifier, customer, view.id)

    return add


def errors(stripe: StripeWire, **filters: object) -> list[Any]:
    """Return the error events of one page, newest first."""
    reply = stripe("GET", ERRORS, filters)
    assert reply.status == 200, reply.text
    shown: list[Any] = reply.json["data"]
    return shown


def codes(event: Any) -> dict[str, int]:
    """Return how often each error is counted by an error event."""
    return {each["code"]: each["error_count"] for each in event["data"]["reason"]["error_types"]}


def samples(event: Any) -> dict[str, list[str]]:
    """Return the identifiers that an error event names for each error."""
    return {
        each["code"]: [sample["request"]["identifier"] for sample in each["sample_errors"]]
        for each in event["data"]["reason"]["error_types"]
    }


# -- meters --------------------------------------------------------------------------------------


def test_a_meter_is_listed_by_its_status(sandbox: Sandbox, stripe: StripeWire) -> None:
    kept, archived = sandbox.stripe.add_meter("kept"), sandbox.stripe.add_meter("archived")
    assert stripe("POST", f"/v1/billing/meters/{archived}/deactivate").json["status"] == "inactive"

    def listed(**filters: str) -> list[str]:
        return [each["id"] for each in stripe("GET", "/v1/billing/meters", filters).json["data"]]

    assert listed() == [archived, kept]
    assert (listed(status="active"), listed(status="inactive")) == ([kept], [archived])


def test_two_active_meters_cannot_have_one_event_name(stripe: StripeWire) -> None:
    meter = {"display_name": "Calls", "event_name": "calls", "default_aggregation[formula]": "sum"}
    first = stripe("POST", "/v1/billing/meters", meter)
    assert (first.status, stripe("POST", "/v1/billing/meters", meter).status) == (200, 400)
    stripe("POST", f"/v1/billing/meters/{first.json['id']}/deactivate")
    assert stripe("POST", "/v1/billing/meters", meter).status == 200


def test_a_meter_is_not_reactivated_beside_an_active_one_with_its_event_name(stripe: StripeWire) -> None:
    meter = {"display_name": "Calls", "event_name": "calls", "default_aggregation[formula]": "sum"}
    first = stripe("POST", "/v1/billing/meters", meter).json["id"]
    stripe("POST", f"/v1/billing/meters/{first}/deactivate")
    second = stripe("POST", "/v1/billing/meters", meter).json["id"]
    assert stripe("POST", f"/v1/billing/meters/{first}/reactivate").status == 400
    assert stripe("GET", f"/v1/billing/meters/{first}").json["status"] == "inactive"
    stripe("POST", f"/v1/billing/meters/{second}/deactivate")
    assert stripe("POST", f"/v1/billing/meters/{first}/reactivate").json["status"] == "active"


def test_a_meter_says_when_it_was_last_changed(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    path = f"/v1/billing/meters/{usage.meter}"
    found = [usage.stripe("GET", path).json]
    for change in ("deactivate", "reactivate"):
        sandbox.clock.advance(HOUR)
        found.append(usage.stripe("POST", f"{path}/{change}").json)
    assert [shown["updated"] for shown in found] == [unix(NOW + hours * HOUR) for hours in range(3)]
    assert {shown["created"] for shown in found} == {unix(NOW)}
    # It is active already: nothing changes.
    sandbox.clock.advance(HOUR)
    assert usage.stripe("POST", f"{path}/reactivate").json == found[-1]


def test_no_new_price_is_put_on_an_archived_meter(sandbox: Sandbox, stripe: StripeWire, metered: Meter) -> None:
    usage = metered()
    stripe("POST", f"/v1/billing/meters/{usage.meter}/deactivate")
    price = {
        "currency": "usd",
        "product": sandbox.stripe.add_product(),
        "unit_amount": 1,
        "recurring[interval]": "month",
        "recurring[usage_type]": "metered",
        "recurring[meter]": usage.meter,
    }
    refused = stripe("POST", "/v1/prices", price)
    assert (refused.status, refused.error["param"]) == (400, "recurring[meter]")


def test_the_sdk_makes_meters_sends_and_cancels_events_and_reads_what_came_of_them(sandbox: Sandbox) -> None:
    client = StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url})
    customer = sandbox.stripe.add_customer()
    meter = client.v1.billing.meters.create(
        {
            "display_name": "Tokens",
            "event_name": "tokens",
            "default_aggregation": {"formula": "sum"},
            "event_time_window": "hour",
            "customer_mapping": {"event_payload_key": "account", "type": "by_id"},
            "value_settings": {"event_payload_key": "amount"},
        }
    )
    for identifier, owner in (("first", customer), ("second", customer), ("lost", "cus_none")):
        client.v1.billing.meter_events.create(
            {
                "event_name": meter.event_name,
                "payload": {"account": owner, "amount": str(len(identifier))},
                "timestamp": unix(NOW),
                "identifier": identifier,
            }
        )
    client.v1.billing.meter_event_adjustments.create(
        {"event_name": "tokens", "type": "cancel", "cancel": {"identifier": "second"}}
    )
    listed = client.v1.billing.meters.event_summaries.list(
        meter.id, {"customer": customer, "start_time": unix(NOW), "end_time": unix(NOW + HOUR)}
    )
    assert [each.aggregated_value for each in listed.data] == [5]
    found = client.v2.core.events.list({"types": [ERROR_REPORT], "created": {"gte": NOW.isoformat()}})
    (report,) = found.auto_paging_iter()
    assert samples(report.to_dict()) == {"meter_event_customer_not_found": ["lost"]}
    with pytest.raises(InvalidRequestError, match="already exists with identifier first"):
        client.v1.billing.meter_events.create(
            {"event_name": "tokens", "payload": {"account": customer, "amount": "1"}, "identifier": "first"}
        )


# -- which events are taken ----------------------------------------------------------------------


@pytest.mark.parametrize("offset", [-35 * DAY, 5 * MINUTE])
def test_an_event_is_taken_up_to_35_days_late_and_5_minutes_early(metered: Meter, offset: timedelta) -> None:
    usage = metered()
    taken = usage.send(7, NOW + offset)
    assert (taken.status, taken.json["timestamp"]) == (200, unix(NOW + offset))
    assert usage.summary(NOW + offset, NOW + offset + MINUTE) == 7


@pytest.mark.parametrize("offset", [-35 * DAY - SECOND, 5 * MINUTE + SECOND])
def test_an_event_that_is_later_or_earlier_than_that_is_refused(metered: Meter, offset: timedelta) -> None:
    usage = metered()
    refused = usage.send(7, NOW + offset, identifier="odd")
    assert (refused.status, refused.error["param"]) == (400, "timestamp")
    # It left nothing behind.
    assert usage.send(7, identifier="odd").status == 200


def test_an_event_without_a_timestamp_counts_when_it_is_received(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    sandbox.clock.move_to(PERIOD_END + MINUTE)
    fields = {"event_name": usage.event_name, "payload[stripe_customer_id]": usage.customer, "payload[value]": 7}
    assert usage.stripe("POST", EVENTS, fields).json["timestamp"] == unix(PERIOD_END + MINUTE)
    assert (usage.billed(), usage.upcoming()) == ([0], 7)


def test_an_identifier_is_unique_for_24_hours_and_counts_again_afterwards(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    assert usage.send(5, identifier="once").status == 200
    sandbox.clock.advance(DAY - SECOND)
    repeated = usage.send(5, identifier="once")
    assert (repeated.status, repeated.error["param"]) == (400, "identifier")
    assert repeated.error["message"] == "An event already exists with identifier once."
    assert usage.upcoming() == 5
    sandbox.clock.advance(SECOND)
    assert usage.send(5, identifier="once").status == 200
    assert usage.upcoming() == 10


def test_an_event_without_an_identifier_is_given_one_of_its_own(metered: Meter) -> None:
    usage = metered()
    first, second = (usage.send(5).json["identifier"] for _ in range(2))
    assert first != second
    assert usage.upcoming() == 10


def test_an_identifier_has_at_most_100_characters(metered: Meter) -> None:
    usage = metered()
    assert usage.send(5, identifier="x" * 100).status == 200
    refused = usage.send(5, identifier="x" * 101)
    assert (refused.status, refused.error["param"]) == (400, "identifier")


def test_a_repeated_idempotency_key_is_answered_from_memory_and_counts_once(metered: Meter) -> None:
    usage = metered()
    event = {
        "event_name": usage.event_name,
        "payload[stripe_customer_id]": usage.customer,
        "payload[value]": 5,
        "identifier": "once",
    }
    first, again, other = (
        usage.stripe("POST", EVENTS, event, idempotency_key=key) for key in ("key", "key", "another")
    )
    assert [reply.status for reply in (first, again, other)] == [200, 200, 400]
    assert again.json == first.json
    assert usage.upcoming() == 5


@pytest.mark.parametrize("missing", ["event_name", "payload"])
def test_an_event_names_its_meter_and_carries_a_payload(metered: Meter, missing: str) -> None:
    usage = metered()
    event = {
        "event_name": usage.event_name,
        "payload[stripe_customer_id]": usage.customer,
        "payload[value]": 5,
    }
    kept = {name: value for name, value in event.items() if not name.startswith(missing)}
    refused = usage.stripe("POST", EVENTS, kept)
    assert (refused.status, refused.error["param"]) == (400, missing)


@pytest.mark.parametrize("value", ["123456789012345", "-1234567890.12345", "000123456789012345"])
def test_a_value_of_15_digits_is_taken(metered: Meter, value: str) -> None:
    usage = metered()
    assert usage.send(value).status == 200
    assert usage.summary() == float(value)


@pytest.mark.parametrize("value", ["1234567890123456", "-1234567890.123456"])
def test_a_value_of_16_digits_is_refused_at_once(metered: Meter, value: str) -> None:
    usage = metered()
    refused = usage.send(value)
    assert (refused.status, refused.error["code"]) == (400, "meter_event_value_too_many_digits")
    assert errors(usage.stripe) == []


def test_a_meter_reads_its_own_payload_keys_and_no_others(metered: Meter) -> None:
    usage = metered(customer_key="account", value_key="amount")
    stranger = usage.stripe("POST", "/v1/customers").json["id"]
    sent = {"payload[account]": usage.customer, "payload[amount]": 7, "payload[stripe_customer_id]": stranger}
    assert usage.send(100, **sent).status == 200
    assert (usage.upcoming(), usage.summary()) == (7, 7)

    usage.send(100, identifier="usual keys")
    (event,) = errors(usage.stripe)
    assert samples(event) == {"meter_event_no_customer_defined": ["usual keys"]}
    assert usage.upcoming() == 7


# -- what they add up to -------------------------------------------------------------------------


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


@pytest.mark.parametrize(("window", "start", "length"), [("hour", NOW - 2 * HOUR, HOUR), ("day", NOW - 60 * HOUR, DAY)])
def test_of_each_utc_hour_or_day_the_event_received_last_counts(
    metered: Meter, window: str, start: datetime, length: timedelta
) -> None:
    usage = metered(window=window)
    usage.send(9, start + length - SECOND)
    usage.send(4, start)
    usage.send(10, start + length)
    assert (usage.upcoming(), usage.summary()) == (14, 14)


def test_a_window_is_lowered_and_emptied_by_a_later_event(metered: Meter) -> None:
    usage = metered(window="hour")
    found = []
    for value in (9, 4, 0):
        usage.send(value, NOW - HOUR)
        found.append(usage.upcoming())
    assert found == [9, 4, 0]


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


@pytest.mark.parametrize("window", ["hour", "day"])
@pytest.mark.parametrize(("formula", "billed"), [("sum", 11), ("count", 2), ("last", 4)])
def test_of_windows_that_the_formula_aggregates_the_events_received_last(
    metered: Meter, window: str, formula: str, billed: int
) -> None:
    usage = metered(window=window, formula=formula)
    for value, at in ((9, NOW - 2 * DAY), (7, NOW - 2 * DAY), (4, NOW)):
        usage.send(value, at)
    assert (usage.upcoming(), usage.summary()) == (billed, billed)


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


# -- periods and invoices ------------------------------------------------------------------------

KINDS = [{}, {"formula": "last"}, {"formula": "count"}, {"window": "hour"}, {"window": "day"}]


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


@pytest.mark.parametrize("window", ["hour", "day"])
def test_a_window_that_straddles_the_end_of_a_period_is_billed_whole_in_the_later_one(
    sandbox: Sandbox, metered: Meter, window: str
) -> None:
    usage = metered(window=window, since=PERIOD_START + 20 * MINUTE)
    sandbox.clock.move_to(PERIOD_END + 10 * MINUTE)
    usage.send(5, PERIOD_END - HOUR)
    usage.send(7, PERIOD_END + 10 * MINUTE)
    # The period ends at 00:20, in the middle of the second window.
    assert usage.upcoming() == 5
    sandbox.clock.advance(10 * MINUTE)
    assert (usage.invoices(), usage.upcoming()) == ([("draft", 5)], 7)
    usage.send(8, PERIOD_END + 15 * MINUTE)
    sandbox.clock.move_to(datetime(2027, 1, 2, tzinfo=UTC))
    assert usage.billed() == [5, 8]


@pytest.mark.parametrize("window", ["hour", "day"])
def test_a_straddling_window_is_not_billed_at_all_where_no_later_period_comes(
    sandbox: Sandbox, metered: Meter, window: str
) -> None:
    usage = metered(window=window, since=PERIOD_START + 20 * MINUTE)
    sandbox.clock.move_to(PERIOD_END + 10 * MINUTE)
    usage.send(5, PERIOD_END - HOUR)
    usage.send(7, PERIOD_END + 10 * MINUTE)
    sandbox.clock.advance(10 * MINUTE)
    assert usage.stripe("DELETE", f"/v1/subscriptions/{usage.subscription}").json["status"] == "canceled"
    sandbox.clock.move_to(datetime(2027, 2, 2, tzinfo=UTC))
    assert usage.billed() == [5]


# -- adjustments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("meter", "left"),
    [({}, 5), ({"formula": "last"}, 5), ({"formula": "count"}, 1), ({"window": "hour"}, 5), ({"window": "day"}, 5)],
    ids=str,
)
def test_a_cancelled_event_counts_nowhere(metered: Meter, meter: dict[str, str], left: int) -> None:
    usage = metered(**meter)
    usage.send(5)
    usage.send(7, NOW + SECOND, identifier="wrong")
    cancelled = usage.cancel("wrong")
    assert (cancelled.status, cancelled.json["cancel"]) == (200, {"identifier": "wrong"})
    assert (usage.upcoming(), usage.summary()) == (left, left)


def test_an_event_is_cancelled_within_24_hours_of_its_receipt_whatever_its_timestamp(
    sandbox: Sandbox, metered: Meter
) -> None:
    usage = metered()
    usage.send(5, NOW - 3 * DAY, identifier="first")
    usage.send(7, NOW - 3 * DAY, identifier="second")
    sandbox.clock.advance(DAY - SECOND)
    assert usage.cancel("first").status == 200
    sandbox.clock.advance(SECOND)
    refused = usage.cancel("second")
    assert (refused.status, refused.error["param"]) == (400, "cancel[identifier]")
    assert usage.upcoming() == 7


def test_an_event_is_cancelled_once(metered: Meter) -> None:
    usage = metered()
    usage.send(5, identifier="wrong")
    assert usage.cancel("wrong").status == 200
    again = usage.cancel("wrong")
    assert (again.status, again.error["param"]) == (400, "cancel[identifier]")


def test_an_event_is_cancelled_by_its_own_name_and_identifier(metered: Meter) -> None:
    usage, other = metered(), metered("other")
    usage.send(5, identifier="right")
    refused = (usage.cancel("unknown"), other.cancel("right"), usage.cancel("right", type="range"))
    assert [reply.status for reply in refused] == [400, 400, 400]
    assert usage.upcoming() == 5


def test_a_cancellation_changes_a_draft_and_no_final_invoice(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    sandbox.clock.move_to(PERIOD_END - HOUR)
    for value, identifier in ((1, "kept"), (2, "early"), (4, "late")):
        usage.send(value, identifier=identifier)
    sandbox.clock.move_to(PERIOD_END + HOUR - SECOND)
    assert usage.cancel("early").status == 200
    assert usage.invoices() == [("draft", 5)]
    sandbox.clock.advance(SECOND)
    assert usage.cancel("late").status == 200
    assert usage.invoices() == [("open", 5)]


# -- what is rejected later ----------------------------------------------------------------------

UNKNOWN: dict[str, Any] = {"payload[stripe_customer_id]": "cus_none"}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (UNKNOWN, "meter_event_customer_not_found"),
        ({"payload[value]": "many"}, "meter_event_invalid_value"),
        ({"payload[value]": ""}, "meter_event_invalid_value"),
        ({"payload[value]": "1e3"}, "meter_event_invalid_value"),
        ({"payload[value]": "1,5"}, "meter_event_invalid_value"),
    ],
)
def test_an_event_with_a_wrong_payload_is_taken_and_reported_later(
    metered: Meter, fields: dict[str, Any], code: str
) -> None:
    usage = metered()
    assert usage.send(5, identifier="wrong", **fields).status == 200
    (event,) = errors(usage.stripe)
    assert (event["type"], event["related_object"]["id"]) == (ERROR_REPORT, usage.meter)
    assert (codes(event), samples(event)) == ({code: 1}, {code: ["wrong"]})
    assert (usage.upcoming(), usage.summary()) == (0, 0)


def test_an_event_of_a_deleted_customer_is_taken_and_reported_later(metered: Meter) -> None:
    usage = metered()
    usage.stripe("DELETE", f"/v1/customers/{usage.customer}")
    assert usage.send(5).status == 200
    (event,) = errors(usage.stripe)
    assert codes(event) == {"meter_event_customer_not_found": 1}


def test_an_event_for_an_archived_meter_is_taken_and_reported_later_and_never_counts(metered: Meter) -> None:
    usage = metered()
    usage.stripe("POST", f"/v1/billing/meters/{usage.meter}/deactivate")
    assert usage.send(5).status == 200
    (event,) = errors(usage.stripe)
    assert (event["type"], codes(event)) == (ERROR_REPORT, {"archived_meter": 1})
    usage.stripe("POST", f"/v1/billing/meters/{usage.meter}/reactivate")
    assert usage.upcoming() == 0
    usage.send(7)
    assert usage.upcoming() == 7


def test_an_event_that_no_meter_is_for_is_taken_and_reported_later(metered: Meter) -> None:
    usage = metered()
    assert usage.send(5, event_name="misspelt", identifier="lost").status == 200
    (event,) = errors(usage.stripe)
    assert event["type"] == NO_METER_FOUND
    assert "related_object" not in event
    assert samples(event) == {"no_meter": ["lost"]}


def test_an_event_can_be_rejected_for_whatever_reason_of_stripes(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    sandbox.stripe.reject_meter_events_as = "meter_event_customer_not_found"
    assert usage.send(5).status == 200
    sandbox.stripe.reject_meter_events_as = None
    assert usage.send(7).status == 200
    (event,) = errors(usage.stripe)
    assert codes(event) == {"meter_event_customer_not_found": 1}
    assert usage.upcoming() == 7


@pytest.mark.parametrize("code", ["timestamp_too_far_in_past", "missing_dimension_payload_keys", "of_the_future"])
def test_an_error_event_can_name_every_code(sandbox: Sandbox, metered: Meter, code: str) -> None:
    usage = metered()
    sandbox.stripe.reject_meter_events_as = code
    usage.send(5, identifier="wrong")
    (event,) = errors(usage.stripe)
    assert samples(event) == {code: ["wrong"]}
    (cause,) = event["data"]["reason"]["error_types"]
    assert cause["sample_errors"][0]["error_message"]


def test_an_error_event_comes_after_processing_and_counts_everything_but_names_only_samples(
    sandbox: Sandbox, metered: Meter
) -> None:
    usage = metered()
    sandbox.stripe.meter_processing_seconds = 300
    for number in range(5):
        usage.send(1, identifier=f"unknown {number}", **UNKNOWN)
    for number in range(2):
        usage.send("many", identifier=f"invalid {number}")
    sandbox.clock.advance(timedelta(seconds=299))
    assert errors(usage.stripe) == []
    sandbox.clock.advance(SECOND)
    (event,) = errors(usage.stripe)
    assert event["data"]["reason"]["error_count"] == 7
    assert codes(event) == {"meter_event_customer_not_found": 5, "meter_event_invalid_value": 2}
    assert samples(event) == {
        "meter_event_customer_not_found": ["unknown 0", "unknown 1", "unknown 2"],
        "meter_event_invalid_value": ["invalid 0", "invalid 1"],
    }
    start, end = (datetime.fromisoformat(event["data"][f"validation_{name}"]) for name in ("start", "end"))
    assert start <= NOW < end
    # Once is enough.
    sandbox.clock.advance(HOUR)
    assert len(errors(usage.stripe)) == 1


def test_every_meter_has_an_error_event_of_its_own(sandbox: Sandbox, metered: Meter) -> None:
    first, second = metered("first"), metered("second")
    sandbox.stripe.meter_processing_seconds = 60
    for usage in (first, second):
        usage.send(1, **UNKNOWN)
    first.send(1, event_name="third")
    sandbox.clock.advance(MINUTE)
    found = {event.get("related_object", {}).get("id"): codes(event) for event in errors(first.stripe)}
    assert found == {
        first.meter: {"meter_event_customer_not_found": 1},
        second.meter: {"meter_event_customer_not_found": 1},
        None: {"no_meter": 1},
    }


def reported(sandbox: Sandbox, usage: Metered, count: int) -> list[str]:
    """Let so many error events be made, a minute apart from NOW on; return their ids, newest first."""
    made = []
    for _ in range(count):
        usage.send(1, **UNKNOWN)
        made.append(errors(usage.stripe)[0]["id"])
        sandbox.clock.advance(MINUTE)
    return list(reversed(made))


def pages_of_errors(usage: Metered, **filters: object) -> list[list[str]]:
    """Follow the pages of two error events each; return the ids on each page."""
    page = usage.stripe("GET", ERRORS, {**filters, "limit": 2}).json
    pages = [page]
    while page["next_page_url"] is not None:
        page = usage.stripe("GET", page["next_page_url"]).json
        pages.append(page)
    return [[event["id"] for event in each["data"]] for each in pages]


def test_error_events_are_listed_newest_first_from_and_until_any_instant(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    newest, middle, oldest = reported(sandbox, usage, 3)

    def listed(**bounds: datetime) -> list[str]:
        filters = {f"created[{name}]": instant.isoformat() for name, instant in bounds.items()}
        return [event["id"] for event in errors(usage.stripe, **filters)]

    assert listed() == [newest, middle, oldest]
    assert listed(gt=NOW + MINUTE) == [newest]
    assert listed(gte=NOW + MINUTE) == [newest, middle]
    assert listed(lt=NOW + MINUTE) == [oldest]
    assert listed(lte=NOW + MINUTE) == [middle, oldest]
    assert listed(gt=NOW, lt=NOW + 2 * MINUTE) == [middle]


def test_error_events_are_listed_in_any_time_zone_but_not_without_one(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    newest, _ = reported(sandbox, usage, 2)
    assert [event["id"] for event in errors(usage.stripe, **{"created[gt]": "2026-11-10T13:00:30+01:00"})] == [newest]
    for instant in ("2026-11-10T12:00:30", "2026-11-10", "yesterday", ""):
        refused = usage.stripe("GET", ERRORS, {"created[gt]": instant})
        assert (refused.status, refused.error["param"]) == (400, "created[gt]")


def test_error_events_are_listed_for_30_days_and_read_by_their_ids_afterwards(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    newest, oldest = reported(sandbox, usage, 2)
    sandbox.clock.move_to(NOW + 30 * DAY)
    assert [event["id"] for event in errors(usage.stripe)] == [newest, oldest]
    sandbox.clock.advance(SECOND)
    assert [event["id"] for event in errors(usage.stripe)] == [newest]
    assert [event["id"] for event in errors(usage.stripe, **{"created[gte]": NOW.isoformat()})] == [newest]
    assert usage.stripe("GET", f"{ERRORS}/{oldest}").status == 200


def test_error_events_are_listed_by_the_meter_that_they_are_about(metered: Meter) -> None:
    first, second = metered("first"), metered("second")
    for usage in (first, second):
        usage.send(1, **UNKNOWN)
    first.send(1, event_name="misspelt")
    for usage in (first, second):
        (event,) = errors(usage.stripe, object_id=usage.meter)
        assert event["related_object"]["id"] == usage.meter
    assert errors(first.stripe, object_id="mtr_none") == []


@pytest.mark.parametrize("page", ["x", "-1", "1.5", ""])
def test_a_page_of_error_events_that_makes_no_sense_is_refused(stripe: StripeWire, page: str) -> None:
    refused = stripe("GET", ERRORS, {"page": page})
    assert (refused.status, refused.error["param"]) == (400, "page")


def test_error_events_are_read_on_from_when_the_newest_one_says_that_it_was_made(
    sandbox: Sandbox, metered: Meter
) -> None:
    usage = metered()
    newest, _ = reported(sandbox, usage, 2)
    shown = errors(usage.stripe)[0]
    assert shown["id"] == newest
    assert errors(usage.stripe, **{"created[gt]": shown["created"]}) == []
    (later,) = reported(sandbox, usage, 1)
    assert [event["id"] for event in errors(usage.stripe, **{"created[gt]": shown["created"]})] == [later]


def test_error_events_are_listed_by_their_type(metered: Meter) -> None:
    usage = metered()
    usage.send(1, **UNKNOWN)
    usage.send(1, event_name="misspelt")
    for kind in (ERROR_REPORT, NO_METER_FOUND):
        assert [event["type"] for event in errors(usage.stripe, **{"types[0]": kind})] == [kind]
    both = errors(usage.stripe, **{"types[0]": ERROR_REPORT, "types[1]": NO_METER_FOUND})
    assert [event["type"] for event in both] == [NO_METER_FOUND, ERROR_REPORT]


def test_the_pages_of_error_events_lead_to_every_one_once(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    made = reported(sandbox, usage, 5)
    usage.send(1, event_name="misspelt")
    assert pages_of_errors(usage, **{"types[0]": ERROR_REPORT}) == [made[:2], made[2:4], made[4:]]


def test_the_pages_of_error_events_keep_to_the_instants_and_the_meter_asked_for(
    sandbox: Sandbox, metered: Meter
) -> None:
    usage, other = metered(), metered("other")
    made = reported(sandbox, usage, 6)
    other.send(1, **UNKNOWN)
    plus_one = timezone(HOUR)
    bounds = {"gt": NOW, "lt": (NOW + 5 * MINUTE).astimezone(plus_one)}
    filters = {f"created[{name}]": instant.isoformat() for name, instant in bounds.items()}
    assert pages_of_errors(usage, **filters) == [made[1:3], made[3:5]]
    assert pages_of_errors(usage, object_id=usage.meter) == [made[:2], made[2:4], made[4:]]


def test_error_events_need_a_permission_of_their_own(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    (made,) = reported(sandbox, usage, 1)
    sandbox.stripe.keys["rk_test_without"] = frozenset({"billing_meters:write", "meter_events:write"})
    sandbox.stripe.keys["rk_test_reader"] = frozenset({"events:read"})
    for path in (ERRORS, f"{ERRORS}/{made}"):
        refused = usage.stripe("GET", path, key="rk_test_without")
        assert refused.status == 403
        assert "rak_event_read" in refused.error["message"]
        assert usage.stripe("GET", path, key="rk_test_reader").status == 200


def test_an_error_event_is_read_by_its_id(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    newest, _ = reported(sandbox, usage, 2)
    assert usage.stripe("GET", f"{ERRORS}/{newest}").json == errors(usage.stripe)[0]
    assert usage.stripe("GET", f"{ERRORS}/evt_none").status == 404


# -- summaries -----------------------------------------------------------------------------------


def test_a_summary_counts_from_its_start_until_just_before_its_end(metered: Meter) -> None:
    usage = metered()
    for value, at in ((1, NOW - HOUR - SECOND), (2, NOW - HOUR), (4, NOW - SECOND), (8, NOW)):
        usage.send(value, at)
    assert usage.summary(NOW - HOUR, NOW) == 6
    (shown,) = usage.summaries(NOW - HOUR, NOW).json["data"]
    assert (shown["start_time"], shown["end_time"], shown["meter"]) == (unix(NOW - HOUR), unix(NOW), usage.meter)


def test_a_summary_is_of_one_customer_and_one_meter(metered: Meter) -> None:
    usage, other = metered(), metered("other")
    usage.send(5)
    other.send(7)
    replace(usage, customer=other.customer).send(9)
    assert (usage.summary(), other.summary()) == (5, 7)


MIDNIGHT = NOW - 12 * HOUR


@pytest.mark.parametrize(
    ("grouping", "aligned", "off"),
    [(None, MIDNIGHT + MINUTE, SECOND), ("hour", MIDNIGHT + HOUR, MINUTE), ("day", MIDNIGHT, HOUR)],
)
def test_a_summary_is_aligned_to_minutes_or_to_the_utc_windows_that_it_is_grouped_by(
    metered: Meter, grouping: str | None, aligned: datetime, off: timedelta
) -> None:
    usage = metered()
    group = {"value_grouping_window": grouping} if grouping else {}
    assert usage.summaries(aligned, aligned + DAY, **group).status == 200
    for name, start, end in (("start_time", off, DAY), ("end_time", timedelta(0), DAY + off)):
        refused = usage.summaries(aligned + start, aligned + end, **group)
        assert (refused.status, refused.error["param"]) == (400, name)


@pytest.mark.parametrize("length", [timedelta(0), -DAY])
@pytest.mark.parametrize("group", [{}, {"value_grouping_window": "hour"}], ids=["whole", "hours"])
def test_a_summary_ends_after_it_starts(metered: Meter, length: timedelta, group: dict[str, Any]) -> None:
    refused = metered().summaries(MIDNIGHT, MIDNIGHT + length, **group)
    assert (refused.status, refused.error["param"]) == (400, "end_time")


@pytest.mark.parametrize("window", [None, "hour"])
def test_a_summary_by_the_hour_has_a_row_for_each_hour_with_events_newest_first(
    metered: Meter, window: str | None
) -> None:
    usage = metered(window=window)
    for value, hours in ((1, 5), (4, 1), (2, 3), (8, 0.5), (16, 0)):
        usage.send(value, NOW - hours * HOUR)
    rows = usage.summaries(NOW - 4 * HOUR, NOW, value_grouping_window="hour").json["data"]
    assert [(row["start_time"], row["end_time"], row["aggregated_value"]) for row in rows] == [
        (unix(NOW - HOUR), unix(NOW), 8 if window else 12),
        (unix(NOW - 3 * HOUR), unix(NOW - 2 * HOUR), 2),
    ]


def test_a_summary_by_the_day_adds_the_hours_of_each_utc_day(metered: Meter) -> None:
    usage = metered(window="hour")
    for value, at in ((1, MIDNIGHT - SECOND), (2, MIDNIGHT), (4, NOW)):
        usage.send(value, at)
    rows = usage.summaries(value_grouping_window="day").json["data"]
    found = [(row["start_time"], row["end_time"], row["aggregated_value"]) for row in rows]
    assert found == [
        (unix(MIDNIGHT), unix(MIDNIGHT + DAY), 6),
        (unix(MIDNIGHT - DAY), unix(MIDNIGHT), 1),
    ]


def test_the_pages_of_a_summary_lead_to_every_row_once(metered: Meter) -> None:
    usage = metered(window="hour")
    for hours in range(5):
        usage.send(hours, NOW - hours * HOUR)
    values: list[float] = []
    cursor: dict[str, Any] = {}
    more = True
    while more:
        page = usage.summaries(value_grouping_window="hour", limit=2, **cursor).json
        values += [row["aggregated_value"] for row in page["data"]]
        cursor = {"starting_after": page["data"][-1]["id"]}
        more = page["has_more"]
    assert values == [0, 1, 2, 3, 4]


def test_the_pages_of_a_summary_lead_back_as_well(metered: Meter) -> None:
    usage = metered(window="hour")
    for hours in range(5):
        usage.send(hours, NOW - hours * HOUR)
    grouped: dict[str, Any] = {"value_grouping_window": "hour"}
    rows = usage.summaries(**grouped).json["data"]
    page = usage.summaries(**grouped, limit=2, ending_before=rows[3]["id"]).json
    assert (page["data"], page["has_more"]) == (rows[1:3], True)
    page = usage.summaries(**grouped, limit=2, ending_before=rows[1]["id"]).json
    assert (page["data"], page["has_more"]) == (rows[:1], False)


def test_a_page_of_a_summary_has_ten_rows_unless_asked_otherwise(metered: Meter) -> None:
    usage = metered()
    for hours in range(11):
        usage.send(1, NOW - hours * HOUR)
    page = usage.summaries(value_grouping_window="hour").json
    assert (len(page["data"]), page["has_more"]) == (10, True)


def test_a_summary_lags_behind_what_is_billed(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered(window="hour")
    sandbox.stripe.summary_lag_seconds = 120
    usage.send(5)
    sandbox.clock.advance(timedelta(seconds=119))
    assert (usage.summary(), usage.upcoming()) == (0, 5)
    sandbox.clock.advance(SECOND)
    assert usage.summary() == 5
    # What replaces it is not there yet, so the window still shows what was there before.
    usage.send(7)
    assert (usage.summary(), usage.upcoming()) == (5, 7)
    sandbox.clock.advance(2 * MINUTE)
    assert usage.summary() == 7


@pytest.mark.parametrize(("window", "shown"), [(None, 12), ("hour", 7), ("day", 7)])
def test_a_summary_lags_behind_a_cancellation_as_well(
    sandbox: Sandbox, metered: Meter, window: str | None, shown: int
) -> None:
    usage = metered(window=window)
    usage.send(5)
    usage.send(7, identifier="wrong")
    sandbox.stripe.summary_lag_seconds = 120
    sandbox.clock.advance(HOUR)
    assert usage.cancel("wrong").status == 200
    sandbox.clock.advance(timedelta(seconds=119))
    assert (usage.summary(), usage.upcoming()) == (shown, 5)
    sandbox.clock.advance(SECOND)
    assert (usage.summary(), usage.upcoming()) == (5, 5)


def test_there_is_no_summary_of_what_does_not_exist(metered: Meter) -> None:
    usage = metered()
    unknown = usage.summaries(customer="cus_none")
    assert (unknown.status, unknown.error["param"]) == (400, "customer")
    for name in ("starting_after", "ending_before"):
        unknown_row: dict[str, Any] = {name: "mtrusg_none"}
        cursor = usage.summaries(**unknown_row)
        assert (cursor.status, cursor.error["param"]) == (400, name)
    nowhere = replace(usage, meter="mtr_none").summaries()
    assert (nowhere.status, nowhere.error["code"]) == (404, "resource_missing")


@pytest.mark.parametrize("missing", ["customer", "start_time", "end_time"])
def test_a_summary_needs_a_customer_a_start_and_an_end(metered: Meter, missing: str) -> None:
    nothing: dict[str, Any] = {missing: ""}
    refused = metered().summaries(**nothing)
    assert (refused.status, refused.error["param"]) == (400, missing)


def test_events_are_written_and_summaries_read_with_permissions_of_their_own(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    usage.send(1, identifier="once")
    reader, writer = "rk_test_reader", "rk_test_writer"
    sandbox.stripe.keys[reader] = frozenset({"meter_events:read"})
    sandbox.stripe.keys[writer] = frozenset({"meter_events:write"})
    path = f"/v1/billing/meters/{usage.meter}/event_summaries"
    times = {"customer": usage.customer, "start_time": unix(PERIOD_START), "end_time": unix(PERIOD_END)}
    assert [usage.stripe("GET", path, times, key=key).status for key in (reader, writer)] == [200, 200]
    cancel = {"event_name": usage.event_name, "type": "cancel", "cancel[identifier]": "once"}
    event = {"event_name": usage.event_name, "payload[stripe_customer_id]": usage.customer, "payload[value]": 1}
    for route, sent in ((EVENTS, event), (ADJUSTMENTS, cancel)):
        refused = usage.stripe("POST", route, sent, key=reader)
        assert refused.status == 403
        assert "rak_billing_meter_event_write" in refused.error["message"]
        assert usage.stripe("POST", route, sent, key=writer).status == 200
    refused = usage.stripe("GET", f"/v1/billing/meters/{usage.meter}", key=writer)
    assert refused.status == 403
    assert "rak_billing_meter_read" in refused.error["message"]


# -- rates ---------------------------------------------------------------------------------------


def test_meter_events_are_limited_by_a_rate_of_their_own(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    sandbox.rate_limits = RateLimits(meter_events_per_second=0)
    refused = usage.send(5, identifier="once")
    assert (refused.status, refused.error["code"]) == (429, "rate_limit")
    assert refused.headers["Stripe-Rate-Limited-Reason"] == "endpoint-rate"
    assert usage.stripe("GET", "/v1/account").status == 200
    # What the limiter refuses leaves nothing behind.
    sandbox.rate_limits = None
    assert usage.upcoming() == 0
    assert usage.send(5, identifier="once").status == 200


def test_the_other_limits_do_not_hold_meter_events_back_nor_do_these_use_them_up(
    sandbox: Sandbox, metered: Meter
) -> None:
    usage = metered()
    sandbox.rate_limits = RateLimits(overall_per_second=0, endpoint_per_second=0, meter_events_per_second=3)
    assert usage.stripe("GET", "/v1/account").status == 429
    assert [usage.send(1).status for _ in range(3)] == [200, 200, 200]
    sandbox.rate_limits = RateLimits(overall_per_second=1, endpoint_per_second=1, meter_events_per_second=3)
    assert usage.stripe("GET", "/v1/account").status == 200


def test_adjustments_and_summaries_are_limited_as_every_other_endpoint(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    usage.send(1, identifier="once")
    sandbox.rate_limits = RateLimits(endpoint_per_second=0)
    assert [usage.cancel("once").status, usage.summaries().status] == [429, 429]


def test_no_more_meter_events_pass_in_a_second_than_their_rate() -> None:
    limiter, limits = RateLimiter(), RateLimits(meter_events_per_second=2)
    found = [limiter.reason_to_refuse(limits, METER_EVENTS) for _ in range(3)]
    assert found == [None, None, "endpoint-rate"]


# -- one call at a time ---------------------------------------------------------------------------


def at_once(*senders: Callable[[], Reply]) -> list[Reply]:
    """Send at once; return the answers in the order of their status."""
    with ThreadPoolExecutor(len(senders)) as pool:
        replies = [each.result() for each in [pool.submit(sender) for sender in senders]]
    return sorted(replies, key=lambda reply: reply.status)


@pytest.fixture
def slow(sandbox: Sandbox) -> None:
    """Let the events that are sent at once be under way at once."""
    sandbox.latency.stripe_write = 0.5


@pytest.mark.usefixtures("slow")
def test_two_events_of_one_customer_on_one_meter_are_not_taken_at_once(metered: Meter) -> None:
    usage = metered(customer_key="account")

    def send(number: int) -> Reply:
        event = {
            "event_name": usage.event_name,
            "payload[account]": usage.customer,
            "payload[value]": 5,
            "identifier": f"event {number}",
        }
        return usage.stripe("POST", EVENTS, event, idempotency_key=f"key {number}")

    taken, refused = at_once(lambda: send(1), lambda: send(2))
    assert (taken.status, refused.status, refused.error["code"]) == (200, 429, "lock_timeout")
    assert "Stripe-Rate-Limited-Reason" not in refused.headers
    assert usage.upcoming() == 5
    # It left nothing behind: sent again by itself it is taken, under its identifier and its idempotency key.
    assert [send(number).status for number in (1, 2)] == [200, 200]
    assert usage.upcoming() == 10


@pytest.mark.usefixtures("slow")
def test_events_of_other_customers_and_on_other_meters_are_taken_at_once(metered: Meter) -> None:
    usage, other = metered(), metered("other")
    strangers = replace(usage, customer=other.customer)
    misspelt = replace(usage, event_name="misspelt")
    senders = (usage, strangers, replace(other, customer=usage.customer), other, misspelt, misspelt)
    assert [reply.status for reply in at_once(*(partial(each.send, 5) for each in senders))] == [200] * 6
    assert (usage.summary(), strangers.summary(), other.summary()) == (5, 5, 5)


@pytest.mark.usefixtures("slow")
def test_a_refused_event_is_under_way_as_well_and_no_longer_than_that(metered: Meter) -> None:
    usage = metered()
    late = NOW - 36 * DAY
    assert [reply.status for reply in at_once(lambda: usage.send(5, late), lambda: usage.send(5, late))] == [400, 429]
    assert usage.send(5).status == 200


@pytest.mark.usefixtures("slow")
def test_events_may_be_taken_at_once_where_it_is_switched_off(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered()
    sandbox.stripe.one_event_at_a_time = False
    assert [reply.status for reply in at_once(lambda: usage.send(5), lambda: usage.send(7))] == [200, 200]
    assert usage.upcoming() == 12
