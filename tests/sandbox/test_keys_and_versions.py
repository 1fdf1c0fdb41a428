"""Keys, versions and parameters of the embedded Stripe."""

import base64
from datetime import UTC, datetime

import pytest
from stripe import StripeClient

from meter_sync.sandbox import Sandbox

from .conftest import Subscribe
from .instants import PERIOD_START
from .wire import ACACIA, StripeWire

BASIL = "2025-03-31.basil"
START = int(PERIOD_START.timestamp())
END = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp())


def test_a_missing_and_an_unknown_key_are_told_apart(sandbox: Sandbox, stripe: StripeWire) -> None:
    missing = stripe("GET", "/v1/prices", headers={"Authorization": ""})
    unknown = stripe("GET", "/v1/prices", key="sk_test_someone_else")
    assert (missing.status, unknown.status) == (401, 401)
    assert missing.error["message"].startswith("You did not provide an API key.")
    assert unknown.error["message"] == "Invalid API Key provided: sk_test_********else"
    assert unknown.error["type"] == "invalid_request_error"


def test_a_key_also_comes_as_the_user_of_basic_authentication(sandbox: Sandbox, stripe: StripeWire) -> None:
    credentials = base64.b64encode(f"{sandbox.stripe_key}:".encode()).decode()
    reply = stripe("GET", "/v1/prices", headers={"Authorization": f"Basic {credentials}"})
    assert reply.status == 200


def test_a_restricted_key_may_do_only_what_it_was_given(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.keys["rk_test_reader"] = frozenset({"prices:write"})
    assert stripe("GET", "/v1/prices", key="rk_test_reader").status == 200
    refused = stripe("GET", "/v1/subscriptions", key="rk_test_reader")
    assert refused.status == 403
    assert "rak_subscription_read" in refused.error["message"]


def test_expanding_a_customer_needs_the_right_to_read_customers(sandbox: Sandbox, stripe: StripeWire) -> None:
    sandbox.stripe.keys["rk_test_reader"] = frozenset({"subscriptions:read"})
    plain = stripe("GET", "/v1/subscriptions", key="rk_test_reader")
    expanded = stripe("GET", "/v1/subscriptions", {"expand[]": "data.customer"}, key="rk_test_reader")
    assert (plain.status, expanded.status) == (200, 403)
    assert "rak_customer_read" in expanded.error["message"]


def test_periods_are_on_the_subscription_before_basil_and_on_the_item_from_then_on(
    stripe: StripeWire, subscribe: Subscribe
) -> None:
    view = subscribe()
    path = f"/v1/subscriptions/{view.id}"
    old = stripe("GET", path).json
    new = stripe("GET", path, version=BASIL).json
    assert (old["current_period_start"], old["current_period_end"]) == (START, END)
    assert "current_period_end" not in old["items"]["data"][0]
    assert "current_period_end" not in new
    item = new["items"]["data"][0]
    assert (item["current_period_start"], item["current_period_end"]) == (START, END)


def test_aggregate_usage_is_readable_before_basil_only_and_the_meter_always(
    sandbox: Sandbox, stripe: StripeWire
) -> None:
    legacy = sandbox.stripe.add_price(aggregate_usage="max")
    metered = sandbox.stripe.add_price(meter=sandbox.stripe.add_meter(id="mtr_1"))
    old = {price["id"]: price["recurring"] for price in stripe("GET", "/v1/prices").json["data"]}
    newest = stripe("GET", "/v1/prices", version=None).json["data"]
    new = {price["id"]: price["recurring"] for price in newest}
    assert old[legacy]["aggregate_usage"] == "max"
    assert old[legacy]["meter"] is None
    assert "aggregate_usage" not in new[legacy]
    assert old[metered]["meter"] == new[metered]["meter"] == "mtr_1"


@pytest.mark.parametrize("route", ["POST usage_records", "GET usage_record_summaries"])
def test_usage_records_do_not_exist_from_basil_on(stripe: StripeWire, subscribe: Subscribe, route: str) -> None:
    method, name = route.split()
    path = f"/v1/subscription_items/{subscribe().items[0]}/{name}"
    reply = stripe(method, path, {"quantity": 1}, version=BASIL)
    assert reply.status == 404
    assert reply.error["message"].startswith(f"Unrecognized request URL ({method}: {path}).")


@pytest.mark.parametrize("version", ["newest", "2025-02-24", "2025-02-24.basil", "2027-01-01.fresco", "2026-10-28"])
def test_an_unknown_version_is_refused(stripe: StripeWire, version: str) -> None:
    assert stripe("GET", "/v1/prices", version=version).status == 400


def test_every_answer_names_its_request_its_version_and_the_time(stripe: StripeWire) -> None:
    for reply in (stripe("GET", "/v1/prices"), stripe("GET", "/v1/nothing")):
        assert reply.headers["Request-Id"].startswith("req_")
        assert reply.headers["Stripe-Version"] == ACACIA
        assert reply.headers["Date"].endswith("GMT")
        assert reply.headers["Content-Type"].startswith("application/json")


def test_unknown_parameters_are_refused_by_name(stripe: StripeWire) -> None:
    reply = stripe("GET", "/v1/prices", {"recurring[usage]": "metered"})
    assert reply.status == 400
    assert reply.error["code"] == "parameter_unknown"
    assert reply.error["message"] == "Received unknown parameter: recurring[usage]"


def test_unknown_ids_are_404_in_the_path_and_400_in_a_parameter(stripe: StripeWire) -> None:
    in_path = stripe("GET", "/v1/prices/price_none")
    in_parameter = stripe("GET", "/v1/subscriptions", {"customer": "cus_none"})
    assert (in_path.status, in_parameter.status) == (404, 400)
    assert in_path.error["message"] == "No such price: 'price_none'"
    assert in_parameter.error["message"] == "No such customer: 'cus_none'"
    assert in_parameter.error["param"] == "customer"
    assert in_path.error["code"] == in_parameter.error["code"] == "resource_missing"


def test_what_is_created_over_http_is_read_back_by_the_sdk(sandbox: Sandbox) -> None:
    client = StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url}, stripe_version=ACACIA)
    customer = client.v1.customers.create({"metadata": {"external_key": "acme"}})
    product = client.v1.products.create({"name": "Tokens"})
    price = client.raw_request(
        "post",
        "/v1/prices",
        currency="usd",
        product=product.id,
        unit_amount_decimal="0.05",
        recurring={"interval": "month", "usage_type": "metered", "aggregate_usage": "last_ever"},
        transform_quantity={"divide_by": 1000, "round": "up"},
    ).data
    made = client.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": price["id"], "metadata": {"meter": "m"}}]}
    )
    listed = client.v1.subscriptions.list({"price": price["id"], "expand": ["data.customer"]})
    assert [each.id for each in listed.data] == [made.id]
    shown = listed.data[0].to_dict()
    assert shown["customer"]["metadata"] == {"external_key": "acme"}
    item = shown["items"]["data"][0]
    assert item["metadata"] == {"meter": "m"}
    assert item["price"]["recurring"]["aggregate_usage"] == "last_ever"
    assert item["price"]["transform_quantity"] == {"divide_by": 1000, "round": "up"}
    assert item["created"] == made.created + 1


def test_legacy_metered_prices_cannot_be_created_from_basil_on(sandbox: Sandbox, stripe: StripeWire) -> None:
    price = {
        "currency": "usd",
        "product": sandbox.stripe.add_product(),
        "unit_amount": 5,
        "recurring[interval]": "month",
        "recurring[usage_type]": "metered",
    }
    assert stripe("POST", "/v1/prices", price, version=BASIL).status == 400
    assert stripe("POST", "/v1/prices", price).status == 200
