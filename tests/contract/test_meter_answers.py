"""The embedded Stripe answers about billing meters in the current API version as Stripe's SDK has it.

The document of 2023-08-16 has no billing meters, so the SDK is the reference: its methods make the requests, whose
parameters are checked as types are, and the annotations of its objects are held against the answers. Nothing is
tolerated here: unknown, mistyped and missing properties are all refused.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, get_args

import pytest
from stripe import StripeClient, StripeObject, billing
from stripe.events import V1BillingMeterErrorReportTriggeredEvent, V1BillingMeterNoMeterFoundEvent
from stripe.params.billing import MeterEventSummaryListParams
from stripe.v2 import ListObject
from stripe.v2.core import Event

from meter_sync.sandbox import Sandbox

from .messages import ENDIVE
from .sdk_types import faults
from .traffic import NOW

AT = int(NOW.timestamp())
MIDNIGHT = AT - AT % 86_400

ERROR_EVENTS: dict[str, Any] = {
    each.LOOKUP_TYPE: each for each in (V1BillingMeterErrorReportTriggeredEvent, V1BillingMeterNoMeterFoundEvent)
}
ERROR_CODE = V1BillingMeterErrorReportTriggeredEvent.V1BillingMeterErrorReportTriggeredEventData.Reason.ErrorType


@pytest.fixture
def client(sandbox: Sandbox) -> StripeClient:
    return StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url}, stripe_version=ENDIVE)


def raw(answer: StripeObject) -> Any:
    """Return the JSON of an answer as it came over the wire."""
    assert answer.last_response is not None
    return json.loads(answer.last_response.body)


def send(client: StripeClient, event_name: str, identifier: str, customer: str, value: str = "7") -> Any:
    payload = {"stripe_customer_id": customer, "value": value}
    return raw(
        client.v1.billing.meter_events.create(
            {"event_name": event_name, "identifier": identifier, "payload": payload, "timestamp": AT}
        )
    )


def unexpected(shown: Any, shape: Any, kind: str) -> list[str]:
    """Return what in an object does not fit the SDK's type."""
    return sorted(faults(shown, shape, kind))


def unexpected_in_page(shown: Any, shape: Any, kind: str) -> list[str]:
    """Return what in a page of a list, which is not empty, does not fit."""
    assert shown.keys() == {"object", "data", "has_more", "url"}
    assert (shown["object"], type(shown["has_more"]), type(shown["url"])) == ("list", bool, str)
    assert shown["data"]
    return [fault for each in shown["data"] for fault in unexpected(each, shape, kind)]


@pytest.mark.parametrize("formula", ["sum", "count", "last"])
@pytest.mark.parametrize("window", ["hour", "day"])
def test_meters_are_answered_in_the_sdks_shape(
    client: StripeClient, formula: Literal["sum", "count", "last"], window: Literal["hour", "day"]
) -> None:
    meters = client.v1.billing.meters
    made = meters.create(
        {
            "display_name": "Tokens",
            "event_name": "tokens",
            "default_aggregation": {"formula": formula},
            "event_time_window": window,
            "customer_mapping": {"event_payload_key": "account", "type": "by_id"},
            "value_settings": {"event_payload_key": "amount"},
        }
    )
    shown = raw(made)
    assert unexpected(shown, billing.Meter, "meter") == []
    assert (shown["default_aggregation"], shown["event_time_window"]) == ({"formula": formula}, window)
    assert shown["customer_mapping"] == {"event_payload_key": "account", "type": "by_id"}
    assert shown["value_settings"] == {"event_payload_key": "amount"}
    assert raw(meters.retrieve(made.id)) == shown
    assert unexpected_in_page(raw(meters.list({"status": "active", "limit": 3})), billing.Meter, "meter") == []


def test_meters_without_windows_are_answered_in_the_sdks_shape_archived_and_active(client: StripeClient) -> None:
    meters = client.v1.billing.meters
    made = meters.create({"display_name": "Tokens", "event_name": "tokens", "default_aggregation": {"formula": "sum"}})
    changes = (made, meters.deactivate(made.id), meters.reactivate(made.id))
    for shown, status in zip(map(raw, changes), ("active", "inactive", "active"), strict=True):
        assert unexpected(shown, billing.Meter, "meter") == []
        assert (shown["status"], shown["event_time_window"]) == (status, None)
        assert (shown["status_transitions"]["deactivated_at"] is None) == (status == "active")


@pytest.mark.parametrize("customer", ["cus_known", "cus_unknown"])
def test_meter_events_are_answered_in_the_sdks_shape_also_where_they_will_be_rejected(
    sandbox: Sandbox, client: StripeClient, customer: str
) -> None:
    sandbox.stripe.add_meter("tokens")
    sandbox.stripe.add_customer("cus_known")
    shown = send(client, "tokens", "once", customer, "0.5")
    assert unexpected(shown, billing.MeterEvent, "event") == []
    assert shown["payload"] == {"stripe_customer_id": customer, "value": "0.5"}
    assert (shown["identifier"], shown["timestamp"]) == ("once", AT)


def test_a_meter_event_of_which_only_the_payload_was_sent_is_answered_in_the_sdks_shape(
    sandbox: Sandbox, client: StripeClient
) -> None:
    sandbox.stripe.add_meter("tokens")
    shown = raw(client.v1.billing.meter_events.create({"event_name": "tokens", "payload": {"value": "7"}}))
    assert unexpected(shown, billing.MeterEvent, "event") == []
    assert shown["timestamp"] == shown["created"] == AT


def test_adjustments_are_answered_in_the_sdks_shape(sandbox: Sandbox, client: StripeClient) -> None:
    sandbox.stripe.add_meter("tokens")
    send(client, "tokens", "once", sandbox.stripe.add_customer())
    shown = raw(
        client.v1.billing.meter_event_adjustments.create(
            {"event_name": "tokens", "type": "cancel", "cancel": {"identifier": "once"}}
        )
    )
    assert unexpected(shown, billing.MeterEventAdjustment, "adjustment") == []
    # The SDK also lets other words pass: Stripe may add some.
    assert shown["status"] in ("complete", "pending")


def test_event_summaries_are_answered_in_the_sdks_shape(sandbox: Sandbox, client: StripeClient) -> None:
    meter, customer = sandbox.stripe.add_meter("tokens"), sandbox.stripe.add_customer()
    send(client, "tokens", "once", customer, "0.5")
    summaries = client.v1.billing.meters.event_summaries
    whole: MeterEventSummaryListParams = {
        "customer": customer,
        "start_time": MIDNIGHT,
        "end_time": MIDNIGHT + 86_400,
        "limit": 3,
    }
    by_hour: MeterEventSummaryListParams = {**whole, "value_grouping_window": "hour"}
    by_day: MeterEventSummaryListParams = {**whole, "value_grouping_window": "day"}
    for asked in (whole, by_hour, by_day):
        shown = raw(summaries.list(meter, asked))
        assert unexpected_in_page(shown, billing.MeterEventSummary, "summary") == []
        assert [row["aggregated_value"] for row in shown["data"]] == [0.5]


def error_events(sandbox: Sandbox, client: StripeClient) -> ListObject[Event]:
    """Return the page of error events after one rejection of every kind, the newest of them for want of a meter."""
    world = sandbox.stripe
    customer = world.add_customer()
    for name in ("tokens", "archived"):
        world.add_meter(name, id=f"mtr_{name}")
    world.deactivate_meter("mtr_archived")
    client.v1.billing.meter_events.create({"event_name": "tokens", "payload": {"value": "7"}})
    send(client, "tokens", "unknown", "cus_unknown")
    send(client, "tokens", "invalid", customer, "many")
    send(client, "archived", "archived", customer)
    send(client, "misspelt", "lost", customer)
    since = (NOW - timedelta(days=1)).isoformat()
    return client.v2.core.events.list({"types": list(ERROR_EVENTS), "created": {"gte": since}, "limit": 100})


def test_error_events_are_answered_in_the_sdks_shape(sandbox: Sandbox, client: StripeClient) -> None:
    listed = error_events(sandbox, client)
    shown = raw(listed)
    assert shown.keys() == {"data", "next_page_url", "previous_page_url"}
    assert [event["type"].rpartition(".")[2] for event in shown["data"]] == [
        "no_meter_found",
        *["error_report_triggered"] * 4,
    ]
    for event, parsed in zip(shown["data"], listed.data, strict=True):
        assert type(parsed) is ERROR_EVENTS[event["type"]]
        assert unexpected(event, type(parsed), "event") == []
        assert raw(client.v2.core.events.retrieve(event["id"])) == event


def test_error_events_name_only_errors_that_the_sdk_names(sandbox: Sandbox, client: StripeClient) -> None:
    """The type alone would let any other word pass: Stripe may add some."""
    named, _ = get_args(ERROR_CODE.__annotations__["code"])
    shown = raw(error_events(sandbox, client))
    found = {each["code"] for event in shown["data"] for each in event["data"]["reason"]["error_types"]}
    assert len(found) == 5
    assert found <= set(get_args(named))


def test_an_error_event_leads_the_sdk_to_its_meter(sandbox: Sandbox, client: StripeClient) -> None:
    report = error_events(sandbox, client).data[-1]
    assert isinstance(report, V1BillingMeterErrorReportTriggeredEvent)
    assert report.fetch_related_object().event_name == "tokens"


def test_the_sdk_pages_through_error_events(sandbox: Sandbox, client: StripeClient) -> None:
    everything = error_events(sandbox, client)
    assert (raw(everything)["next_page_url"], raw(everything)["previous_page_url"]) == (None, None)
    paged = client.v2.core.events.list({"limit": 2})
    assert isinstance(raw(paged)["next_page_url"], str)
    assert [each.id for each in paged.auto_paging_iter()] == [each.id for each in everything.data]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda event: event.pop("created"), "missing event.created"),
        (lambda event: event.pop("livemode"), "missing event.livemode"),
        (lambda event: event.pop("related_object"), "missing event.related_object"),
        (lambda event: event.update(created=AT), "event.created"),
        (lambda event: event.update(object="event"), "event.object"),
        (lambda event: event.update(type="v1.billing.meter.no_meter_found"), "event.type"),
        (lambda event: event.update(meter="mtr_1"), "unknown event.meter"),
        (lambda event: event["data"].pop("validation_start"), "missing event.data.validation_start"),
        (lambda event: event["data"]["reason"].update(error_count="1"), "event.data.reason.error_count"),
        (
            lambda event: event["data"]["reason"]["error_types"][0]["sample_errors"][0].pop("request"),
            "missing event.data.reason.error_types[].sample_errors[].request",
        ),
    ],
)
def test_an_error_event_in_another_shape_is_refused(
    sandbox: Sandbox, client: StripeClient, change: Callable[[Any], None], fault: str
) -> None:
    """These checks can fail: a right answer passes, and does not once it is changed."""
    shown = raw(error_events(sandbox, client))["data"][-1]
    change(shown)
    (found,) = unexpected(shown, V1BillingMeterErrorReportTriggeredEvent, "event")
    assert found.startswith(fault)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda event: event.pop("identifier"), "missing event.identifier"),
        (lambda event: event.update(payload={"value": 7}), "event.payload.value"),
        (lambda event: event.update(timestamp="now"), "event.timestamp"),
        (lambda event: event.update(id="evt_1"), "unknown event.id"),
    ],
)
def test_a_meter_event_in_another_shape_is_refused(
    sandbox: Sandbox, client: StripeClient, change: Callable[[Any], None], fault: str
) -> None:
    sandbox.stripe.add_meter("tokens")
    shown = send(client, "tokens", "once", sandbox.stripe.add_customer())
    change(shown)
    (found,) = unexpected(shown, billing.MeterEvent, "event")
    assert found.startswith(fault)
