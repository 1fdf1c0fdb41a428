"""The embedded Stripe keeps the rules of billing meters: of active ones, each has an event name of its own."""

import pytest
from stripe import InvalidRequestError, StripeClient

from meter_sync.sandbox import Sandbox

from .instants import HOUR, NOW, unix
from .metering import ERROR_REPORT, Meter, samples
from .wire import StripeWire


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
