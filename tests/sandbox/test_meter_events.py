"""Which meter events the embedded Stripe takes."""

from datetime import timedelta

import pytest

from meter_sync.sandbox import Sandbox

from .instants import DAY, MINUTE, NOW, PERIOD_END, PERIOD_START, SECOND, unix
from .metering import ADJUSTMENTS, EVENTS, Meter, errors, samples


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
