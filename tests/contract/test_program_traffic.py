"""What `meter-sync run` sends, and what it is answered, is what Stripe and OpenMeter publish.

The installed command runs against the sandbox. Every request it sends is held against the OpenAPI
document of its server: the path, the names and types of the parameters and of the body, and the
authentication. Stripe's document is of API version 2023-08-16: it has the shapes of 2025-02-24.acacia,
in which prices and usage records are asked for, for requests and answers. Of 2026-10-28.endive, in
which subscriptions are listed, it has the parameters but not the answers (their periods are on the
items): there the types of Stripe's SDK, which speaks that version, are the reference. So they are for
billing meters, which the document does not have.
"""

import re
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

import pytest
from openapi_core.exceptions import OpenAPIError
from stripe.params import (
    AccountRetrieveCurrentParams,
    EventListParams,
    InvoiceLineItemListParams,
    InvoiceListParams,
    SubscriptionItemListParams,
    SubscriptionListParams,
    SubscriptionRetrieveParams,
    test_helpers,
)
from stripe.params.billing import (
    MeterEventAdjustmentCreateParams,
    MeterEventCreateParams,
    MeterEventSummaryListParams,
    MeterListParams,
)
from stripe.params.v2.core._event_list_params import EventListParams as ThinEventListParams

from .documents import Document, Undocumented, bracketed
from .messages import ACACIA, ENDIVE, Request
from .sdk_types import check_parameters
from .traffic import Exchange

REFUSED = (OpenAPIError, Undocumented)

SEEN_IDS = re.compile(r"\b(clock|cus|in|price|si|sub)_1Sandbox\w+|\bprice_filtered|(?<=meters/)\w+|(?<=customers/)\w+")

SHAPES = {
    "GET /v1/account": AccountRetrieveCurrentParams,
    "GET /v1/billing/meters": MeterListParams,
    "GET /v1/billing/meters/ID/event_summaries": MeterEventSummaryListParams,
    "GET /v1/events": EventListParams,
    "GET /v1/invoices": InvoiceListParams,
    "GET /v1/invoices/ID/lines": InvoiceLineItemListParams,
    "GET /v1/subscriptions": SubscriptionListParams,
    "GET /v1/subscriptions/ID": SubscriptionRetrieveParams,
    "GET /v1/subscription_items": SubscriptionItemListParams,
    "GET /v1/test_helpers/test_clocks": test_helpers.TestClockListParams,
    "GET /v1/test_helpers/test_clocks/ID": test_helpers.TestClockRetrieveParams,
    "GET /v2/core/events": ThinEventListParams,
    "POST /v1/billing/meter_event_adjustments": MeterEventAdjustmentCreateParams,
    "POST /v1/billing/meter_events": MeterEventCreateParams,
}
"""The parameters of each kind of request in the current version, as the SDK has them."""

UNDOCUMENTED = re.compile(r"/v1/billing/|/v1/test_helpers/|/v2/|/v1/invoices/ID/lines")
"""What the folder's document of Stripe, which is cut to a few paths, does not have."""

KINDS_OF_REQUEST = {
    ("GET /v1/prices", ACACIA),
    ("GET /v1/prices/ID", ACACIA),
    ("GET /v1/subscription_items/ID/usage_record_summaries", ACACIA),
    ("POST /v1/subscription_items/ID/usage_records", ACACIA),
    *((kind, ENDIVE) for kind in SHAPES),
    ("GET /api/v1/customers", None),
    ("GET /api/v1/customers/ID/apps", None),
    ("GET /api/v1/meters", None),
    ("POST /api/v1/meters/ID/query", None),
}

IN_V3 = {
    "GET /api/v3/openmeter/customers",
    "GET /api/v3/openmeter/customers/ID/billing",
    "GET /api/v3/openmeter/meters",
    "POST /api/v3/openmeter/meters/ID/query",
}


def of_stripe(traffic: list[Exchange], version: str | None = None) -> list[Exchange]:
    """Return the exchanges with Stripe, of one API version if one is given; there are some."""
    found = [each for each in traffic if each.seen.server == "stripe" and version in (None, each.version)]
    assert found
    return found


def kind_of(exchange: Exchange) -> str:
    return f"{exchange.seen.method} {SEEN_IDS.sub('ID', exchange.seen.path)}"


def parameters(request: Request) -> dict[str, Any]:
    """Return the parameters of a request to Stripe, decoded but for the types of plain values."""
    return bracketed(parse_qsl(request.query or request.text))


def usage_record(traffic: list[Exchange]) -> Exchange:
    return next(each for each in traffic if each.seen.path.endswith("/usage_records"))


def listing(traffic: list[Exchange]) -> Exchange:
    return next(each for each in traffic if each.seen.path == "/v1/subscriptions")


def test_the_runs_send_every_kind_of_request_and_no_other(traffic: list[Exchange]) -> None:
    """Nothing below holds by having looked at nothing; a new kind of request is noticed here."""
    kinds = {(kind_of(each), each.seen.headers.get("stripe-version")) for each in traffic}
    names = {name for each in of_stripe(traffic) for name in parameters(each.request)}
    assert kinds == KINDS_OF_REQUEST
    assert {"customer", "expand", "price", "recurring", "starting_after", "subscription"} <= names
    assert {"created", "status", "test_clock", "types", "value_grouping_window"} <= names
    for name in ("filterCustomerId", "filterGroupBy", "subject", "windowSize"):
        assert any(f'"{name}"' in each.seen.body for each in traffic)


def test_every_request_to_stripe_is_in_stripes_document(traffic: list[Exchange], stripe_contract: Document) -> None:
    """In both versions: no parameter of these was renamed since 2023-08-16."""
    for each in of_stripe(traffic):
        if not UNDOCUMENTED.search(kind_of(each)):
            stripe_contract.check_request(each.request)


def test_usage_records_and_prices_are_answered_to_the_program_in_stripes_shape(
    traffic: list[Exchange], stripe_contract: Document
) -> None:
    for each in of_stripe(traffic, ACACIA):
        stripe_contract.check_answer(each.request, each.response)


def test_requests_have_the_parameters_of_the_current_version(traffic: list[Exchange]) -> None:
    """Against the SDK's parameter types, which are of the version that the requests name."""
    for each in of_stripe(traffic, ENDIVE):
        check_parameters(parameters(each.request), SHAPES[kind_of(each)])


def test_a_meter_event_is_what_the_guide_asks_for(traffic: list[Exchange]) -> None:
    """At most 100 characters of identifier, whole seconds, and a value as a string (guide to recording usage)."""
    sent = [parameters(each.request) for each in traffic if kind_of(each) == "POST /v1/billing/meter_events"]
    assert {"hours_0", "additions", "last"} <= {event["event_name"] for event in sent}
    for event in sent:
        assert event["payload"].keys() == {"stripe_customer_id", "value"}
        assert 0 < len(event["identifier"]) <= 100
        assert event["timestamp"].isdecimal()


def test_every_write_has_an_idempotency_key_of_its_own(traffic: list[Exchange]) -> None:
    """At most 255 characters (API reference, Idempotent requests); the document has no headers."""
    keys = [each.seen.headers["idempotency-key"] for each in of_stripe(traffic) if each.seen.method == "POST"]
    assert len(set(keys)) == len(keys)
    assert all(0 < len(key) <= 255 for key in keys)


def test_every_request_to_openmeter_and_its_answer_are_in_openmeters_document(
    traffic: list[Exchange], openmeter_contract: Document
) -> None:
    exchanges = [each for each in traffic if each.seen.server == "openmeter"]
    assert exchanges
    for each in exchanges:
        openmeter_contract.check_request(each.request)
        openmeter_contract.check_answer(each.request, each.response)


def test_what_is_asked_in_v3_and_its_answer_are_in_its_document(
    traffic_v3: list[Exchange], openmeter_v3_contract: Document
) -> None:
    exchanges = [each for each in traffic_v3 if each.seen.server == "openmeter"]
    assert {kind_of(each) for each in exchanges} == IN_V3
    for name in ("customer_id", "in", "granularity", "model", "subject", "group_by_dimensions"):
        assert any(f'"{name}"' in each.seen.body for each in exchanges)
    for each in exchanges:
        openmeter_v3_contract.check_request(each.request)
        openmeter_v3_contract.check_answer(each.request, each.response)


@pytest.mark.parametrize(
    "body",
    [
        "timestamp=1793491201&action=set",
        "quantity=1.5&timestamp=1793491201&action=set",
        "quantity=1&timestamp=yesterday&action=set",
        "quantity=1&timestamp=1793491201&action=replace",
        "quantity=1&timestamp=1793491201&action=set&price=price_1",
        "quantity[value]=1&timestamp=1793491201&action=set",
    ],
)
def test_a_usage_record_in_another_shape_is_refused(
    traffic: list[Exchange], stripe_contract: Document, body: str
) -> None:
    request = usage_record(traffic).request
    with pytest.raises(REFUSED):
        stripe_contract.check_request(replace(request, text=body))


@pytest.mark.parametrize(
    "query",
    ["limit=many", "status=alive", "prize=price_1", "expand=data.customer", "price[id]=price_1"],
)
def test_a_listing_in_another_shape_is_refused(traffic: list[Exchange], stripe_contract: Document, query: str) -> None:
    request = listing(traffic).request
    with pytest.raises(REFUSED):
        stripe_contract.check_request(replace(request, query=query))


@pytest.mark.parametrize(
    ("sent", "shape"),
    [
        ({"prize": "price_1"}, SubscriptionListParams),
        ({"limit": "many"}, SubscriptionListParams),
        ({"expand": "customer"}, SubscriptionListParams),
        ({"event_name": "tokens"}, MeterEventCreateParams),
        ({"event_name": "tokens", "payload": "7"}, MeterEventCreateParams),
        ({"event_name": "tokens", "payload": {"value": {"is": "7"}}}, MeterEventCreateParams),
        ({"event_name": "tokens", "payload": {"value": "7"}, "timestamp": "now"}, MeterEventCreateParams),
        ({"event_name": "tokens", "type": "range"}, MeterEventAdjustmentCreateParams),
        ({"event_name": "tokens", "type": "cancel", "cancel": {"id": "1"}}, MeterEventAdjustmentCreateParams),
        ({"customer": "cus_1", "start_time": "0"}, MeterEventSummaryListParams),
        ({"status": "active", "customer": "cus_1"}, MeterListParams),
        ({"created": {"since": "0"}}, InvoiceListParams),
        ({"created": {"gte": "yesterday"}}, InvoiceListParams),
        ({"types": "v1.billing.meter.no_meter_found"}, ThinEventListParams),
        ({"created": "2026-11-10T12:00:00Z"}, ThinEventListParams),
    ],
)
def test_parameters_unknown_to_the_sdk_are_refused(sent: dict[str, Any], shape: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        check_parameters(sent, shape)


@pytest.mark.parametrize("path", ["/v1/usage_records", "/v1/subscription_items/si_1/usage_record"])
def test_an_unknown_path_is_refused(traffic: list[Exchange], stripe_contract: Document, path: str) -> None:
    request = usage_record(traffic).request
    with pytest.raises(REFUSED):
        stripe_contract.check_request(replace(request, path=path))


def test_a_request_without_authorization_is_refused(traffic: list[Exchange], stripe_contract: Document) -> None:
    request = usage_record(traffic).request
    headers = {name: text for name, text in request.headers.items() if name != "authorization"}
    with pytest.raises(REFUSED):
        stripe_contract.check_request(replace(request, headers=headers))


@pytest.mark.parametrize(
    "body",
    [
        '{"from": "2026-11-01"}',
        '{"from": 1793491200}',
        '{"subject": "acme"}',
        '{"groupBy": "subject"}',
        '{"filterGroupBy": {"model": "large"}}',
        '{"windowSize": "WEEK"}',
        '{"subjects": ["acme"]}',
    ],
)
def test_a_query_in_another_shape_is_refused(traffic: list[Exchange], openmeter_contract: Document, body: str) -> None:
    request = next(each.request for each in traffic if each.seen.path.endswith("/query"))
    with pytest.raises(REFUSED):
        openmeter_contract.check_request(replace(request, text=body))
