"""Meter events that were taken and do not count are reported later."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox

from .instants import HOUR, MINUTE, NOW, SECOND
from .metering import ERROR_REPORT, NO_METER_FOUND, UNKNOWN, Meter, codes, errors, samples


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
