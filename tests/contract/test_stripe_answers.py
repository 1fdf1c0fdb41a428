"""The embedded Stripe answers in the shapes that Stripe publishes.

The document is of API version 2023-08-16. It is held against answers of 2025-02-24.acacia, the last
version with usage records, `aggregate_usage` and the period on the subscription; what was added
between the two is listed in `documents.ADDED_TO_STRIPE`. Apart from that, properties that the
document does not know are refused as well as missing and mistyped ones. Later versions are held
against the SDK in `test_current_version`.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from openapi_core.exceptions import OpenAPIError

from meter_sync.sandbox import Fault, Sandbox

from .documents import Document
from .messages import ACACIA, Request, Response, send, stripe_request
from .traffic import PERIOD_START

OF_THE_DOCUMENT = "2023-08-16"
THRESHOLDS = {"amount_gte": 1000, "reset_billing_cycle_anchor": False}


class Stripe:
    """Sends requests to the embedded Stripe and holds them and the answers against the document."""

    def __init__(self, sandbox: Sandbox, contract: Document) -> None:
        self.sandbox = sandbox
        self.contract = contract

    def __call__(self, method: str, path: str, *, version: str = ACACIA, **params: Any) -> Any:
        """Return the answer of a documented request after checking both."""
        request = stripe_request(method, path, params, version)
        self.contract.check_request(request)
        response = send("stripe", self.sandbox, request)
        self.contract.check_answer(request, response)
        assert response.status_code == 200, response.data
        return json.loads(response.data)

    def refused(self, request: Request, status: int, key: str | None = None) -> Any:
        """Return the error that answers a request after checking its shape."""
        response = send("stripe", self.sandbox, request, key=key)
        assert response.status_code == status, response.data
        self.contract.check_answer(request, response)
        return json.loads(response.data)["error"]


@pytest.fixture
def stripe(sandbox: Sandbox, stripe_contract: Document) -> Stripe:
    return Stripe(sandbox, stripe_contract)


def subscribed(sandbox: Sandbox, **options: Any) -> tuple[str, str]:
    """Return a new subscription to a metered price, and its item."""
    customer = sandbox.stripe.add_customer(metadata={"key": "acme"}, email="billing@acme.example")
    price = sandbox.stripe.add_price()
    view = sandbox.stripe.add_subscription(
        customer, [price], period_start=PERIOD_START, metadata={"plan": "pro"}, **options
    )
    return view.id, view.items[0]


def test_planned_changes_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    subscription, item = subscribed(sandbox)
    price = sandbox.stripe.add_price()
    schedule = sandbox.stripe.plan_change(subscription, PERIOD_START + timedelta(days=20), [price])
    sandbox.stripe.hold_update(subscription, {item: price})
    expanded = {"expand[0]": "schedule"}
    shown = stripe("GET", f"/v1/subscriptions/{subscription}", **expanded)
    assert [phase["items"][0]["price"] for phase in shown["schedule"]["phases"]][1] == price
    assert stripe("GET", "/v1/subscriptions", **{"expand[0]": "data.schedule"})["data"] == [shown]
    stripe.contract.check_object("subscription_schedule", shown["schedule"])
    sandbox.stripe.release_schedule(schedule)
    assert stripe("GET", f"/v1/subscriptions/{subscription}", **expanded)["schedule"] is None


@pytest.mark.parametrize("action", ["set", "increment"])
def test_usage_records_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe, action: str) -> None:
    _, item = subscribed(sandbox)
    answer = stripe(
        "POST",
        f"/v1/subscription_items/{item}/usage_records",
        quantity=7,
        timestamp=int(PERIOD_START.timestamp()) + 1,
        action=action,
    )
    assert (answer["quantity"], answer["subscription_item"]) == (7, item)


def test_a_usage_record_now_is_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    _, item = subscribed(sandbox)
    path = f"/v1/subscription_items/{item}/usage_records"
    assert stripe("POST", path, quantity=7, timestamp="now")["timestamp"] == sandbox.clock.timestamp()


def test_usage_record_summaries_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    """Of the open period, without an invoice, and of a closed one, with its invoice."""
    _, item = subscribed(sandbox)
    sandbox.stripe.create_usage_record(item, 7)
    sandbox.clock.advance(timedelta(days=30))
    answer = stripe("GET", f"/v1/subscription_items/{item}/usage_record_summaries", limit=2)
    assert [each["total_usage"] for each in answer["data"]] == [0, 7]
    assert [each["invoice"] is None for each in answer["data"]] == [True, False]


def test_the_account_of_the_key_is_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    assert stripe("GET", "/v1/account")["id"] == sandbox.stripe.account


def test_connected_accounts_are_listed_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    connected = sandbox.connect_account({"plan": "pro"})
    listed = json.loads(send("stripe", sandbox, stripe_request("GET", "/v1/accounts", {}, ACACIA)).data)
    assert [account["id"] for account in listed["data"]] == [connected.account]
    stripe.contract.check_object("account", listed["data"][0])
    one = stripe_request("GET", f"/v1/accounts/{connected.account}", {}, ACACIA)
    assert json.loads(send("stripe", sandbox, one).data) == listed["data"][0]


@pytest.mark.parametrize("aggregate", ["sum", "last_during_period", "last_ever", "max"])
def test_metered_prices_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe, aggregate: Any) -> None:
    price = sandbox.stripe.add_price(
        aggregate_usage=aggregate,
        transform_quantity={"divide_by": 1000, "round": "up"},
        lookup_key="tokens",
        metadata={"om_meter_id": "tokens"},
    )
    for answer in (
        stripe("GET", f"/v1/prices/{price}"),
        stripe("GET", "/v1/prices", **{"recurring[usage_type]": "metered"})["data"][0],
    ):
        assert answer["recurring"]["aggregate_usage"] == aggregate


def test_prices_of_a_billing_meter_and_licensed_ones_are_answered_in_stripes_shape(
    sandbox: Sandbox, stripe: Stripe
) -> None:
    """Billing meters are younger than the document: of `meter` only the name and type are checked."""
    sandbox.stripe.add_price(meter=sandbox.stripe.add_meter(id="mtr_1"))
    sandbox.stripe.add_price(usage_type="licensed", unit_amount_decimal="1500", active=False)
    shown = stripe("GET", "/v1/prices", limit=2)["data"]
    assert [each["recurring"]["meter"] for each in shown] == [None, "mtr_1"]


def test_a_created_and_a_changed_price_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    created = stripe(
        "POST",
        "/v1/prices",
        **{
            "currency": "usd",
            "product": sandbox.stripe.add_product(),
            "unit_amount_decimal": "0.02",
            "recurring[interval]": "month",
            "recurring[usage_type]": "metered",
            "recurring[aggregate_usage]": "max",
            "metadata[om_meter_id]": "tokens",
        },
    )
    changed = stripe("POST", f"/v1/prices/{created['id']}", active="false", nickname="old")
    assert (changed["active"], changed["metadata"]) == (False, {"om_meter_id": "tokens"})


def test_customers_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    created = stripe("POST", "/v1/customers", name="Acme", **{"metadata[key]": "acme"})
    assert stripe("GET", f"/v1/customers/{created['id']}") == created
    assert stripe("GET", "/v1/customers")["data"] == [created]
    assert stripe("DELETE", f"/v1/customers/{created['id']}")["deleted"] is True
    assert stripe("GET", f"/v1/customers/{created['id']}")["deleted"] is True


def test_products_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    """In the document's own version: `features`, which it requires, got another name in 2024-04-10.

    The document at hand is cut: it has the list of products and their shape, but not a read.
    """
    created = stripe("POST", "/v1/products", version=OF_THE_DOCUMENT, name="Tokens")
    path = f"/v1/products/{created['id']}"
    assert stripe("GET", path, version=OF_THE_DOCUMENT) == created


@pytest.mark.parametrize("status", ["active", "past_due", "unpaid", "paused", "canceled"])
def test_subscriptions_of_every_status_are_answered_in_stripes_shape(
    sandbox: Sandbox, stripe: Stripe, status: str
) -> None:
    subscription, _ = subscribed(sandbox, billing_thresholds=THRESHOLDS)
    sandbox.stripe.set_status(subscription, status)
    for answer in (
        stripe("GET", f"/v1/subscriptions/{subscription}"),
        stripe("GET", "/v1/subscriptions", status="all")["data"][0],
    ):
        assert answer["status"] == status
        assert answer["current_period_start"] == int(PERIOD_START.timestamp())


def test_a_trial_is_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    subscription, _ = subscribed(sandbox, trial_end=PERIOD_START + timedelta(days=14))
    assert stripe("GET", f"/v1/subscriptions/{subscription}")["status"] == "trialing"


@pytest.mark.parametrize("deleted", [False, True])
def test_an_expanded_customer_is_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe, deleted: bool) -> None:
    subscription, _ = subscribed(sandbox)
    if deleted:
        owner = stripe("GET", f"/v1/subscriptions/{subscription}")["customer"]
        sandbox.stripe.delete_customer(owner, keep_subscriptions=True)
    for answer in (
        stripe("GET", f"/v1/subscriptions/{subscription}", **{"expand[0]": "customer"}),
        stripe("GET", "/v1/subscriptions", **{"expand[0]": "data.customer"})["data"][0],
    ):
        assert answer["customer"].get("deleted", False) is deleted


def test_a_created_and_a_canceled_subscription_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    created = stripe(
        "POST",
        "/v1/subscriptions",
        **{
            "customer": sandbox.stripe.add_customer(),
            "items[0][price]": sandbox.stripe.add_price(),
            "items[0][metadata][om_meter_id]": "tokens",
            "metadata[plan]": "pro",
        },
    )
    assert stripe("DELETE", f"/v1/subscriptions/{created['id']}")["status"] == "canceled"


def test_subscription_items_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    subscription, item = subscribed(sandbox, item_metadata={"om_meter_id": "tokens"})
    shown = stripe("GET", f"/v1/subscription_items/{item}")
    assert stripe("GET", "/v1/subscription_items", subscription=subscription)["data"] == [shown]
    added = stripe(
        "POST",
        "/v1/subscription_items",
        subscription=subscription,
        price=sandbox.stripe.add_price(usage_type="licensed"),
        quantity=3,
    )
    path = f"/v1/subscription_items/{added['id']}"
    assert stripe("POST", path, **{"metadata[seat]": "blue"})["metadata"] == {"seat": "blue"}
    assert stripe("DELETE", path)["deleted"] is True


def test_invoices_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    """As a draft, and open after an hour."""
    subscription, item = subscribed(sandbox)
    sandbox.stripe.create_usage_record(item, 700)
    sandbox.clock.advance(PERIOD_START + timedelta(days=30) - sandbox.clock.now())
    (draft,) = stripe("GET", "/v1/invoices", subscription=subscription)["data"]
    sandbox.clock.advance(timedelta(hours=2))
    final = stripe("GET", f"/v1/invoices/{draft['id']}")
    assert [draft["status"], final["status"]] == ["draft", "open"]
    assert final["total"] == 14


def test_the_upcoming_invoice_is_answered_in_stripes_shape(
    sandbox: Sandbox, stripe: Stripe, stripe_contract: Document
) -> None:
    """Only the answer: the document at hand is cut and lacks the path, but not the shape."""
    subscription, item = subscribed(sandbox)
    sandbox.stripe.create_usage_record(item, 700)
    request = stripe_request("GET", "/v1/invoices/upcoming", {"subscription": subscription})
    response = send("stripe", sandbox, request)
    stripe_contract.check_answer(request, response)
    assert json.loads(response.data)["total"] == 14


@pytest.mark.parametrize(
    ("method", "path", "params", "status"),
    [
        ("GET", "/v1/prices/price_none", {}, 404),
        ("GET", "/v1/subscriptions", {"price": "price_none"}, 400),
        ("GET", "/v1/prices", {"limit": "many"}, 400),
        ("POST", "/v1/subscription_items/si_none/usage_records", {"quantity": 1}, 404),
        ("POST", "/v1/subscription_items/si_none/usage_records", {}, 400),
    ],
)
def test_refusals_are_answered_in_stripes_shape(
    stripe: Stripe, method: str, path: str, params: dict[str, Any], status: int
) -> None:
    error = stripe.refused(stripe_request(method, path, params), status)
    assert error["type"] == "invalid_request_error"


def test_a_refused_timestamp_is_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    _, item = subscribed(sandbox)
    params = {"quantity": 1, "timestamp": int(PERIOD_START.timestamp()) - 86_400}
    request = stripe_request("POST", f"/v1/subscription_items/{item}/usage_records", params)
    assert stripe.refused(request, 400)["param"] == "timestamp"


def test_refused_keys_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    sandbox.stripe.keys["rk_test_narrow"] = frozenset({"prices:read"})
    request = stripe_request("GET", "/v1/subscriptions")
    stripe.refused(request, 401, key="sk_test_other")
    stripe.refused(request, 403, key="rk_test_narrow")


def test_a_reused_idempotency_key_is_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe) -> None:
    _, item = subscribed(sandbox)
    path = f"/v1/subscription_items/{item}/usage_records"
    first, second = (stripe_request("POST", path, {"quantity": n}) for n in (1, 2))
    for request in (first, second):
        request.headers = {**request.headers, "idempotency-key": "once"}
    assert send("stripe", sandbox, first).status_code == 200
    assert stripe.refused(second, 400)["type"] == "idempotency_error"


@pytest.mark.parametrize("status", [409, 429, 500, 503])
def test_failures_are_answered_in_stripes_shape(sandbox: Sandbox, stripe: Stripe, status: int) -> None:
    sandbox.faults.add(Fault(server="stripe", status=status))
    stripe.refused(stripe_request("GET", "/v1/prices"), status)


def drop(name: str) -> Callable[[Any], None]:
    return lambda shown: shown.pop(name)


def put(name: str, value: Any) -> Callable[[Any], None]:
    return lambda shown: shown.update({name: value})


@pytest.mark.parametrize(
    "change",
    [
        *(drop(name) for name in ("id", "object", "quantity", "timestamp", "subscription_item")),
        put("quantity", 1.5),
        put("quantity", "1"),
        put("quantity", None),
        put("object", "usage"),
        put("timestamp", "2026-11-01"),
        put("total", 1),
    ],
)
def test_a_usage_record_in_another_shape_is_refused(
    sandbox: Sandbox, stripe_contract: Document, change: Callable[[Any], None]
) -> None:
    """These checks can fail: a right answer passes, and does not once it is changed."""
    _, item = subscribed(sandbox)
    request = stripe_request("POST", f"/v1/subscription_items/{item}/usage_records", {"quantity": 1})
    right = send("stripe", sandbox, request)
    stripe_contract.check_answer(request, right)
    with pytest.raises(OpenAPIError):
        stripe_contract.check_answer(request, changed(right, change))


@pytest.mark.parametrize(
    "change",
    [
        lambda shown: shown.pop("has_more"),
        lambda shown: shown["data"][0].pop("current_period_end"),
        lambda shown: shown["data"][0].update(status="alive"),
        lambda shown: shown["data"][0].update(customer=None),
        lambda shown: shown["data"][0].update(metadata={"seats": 3}),
        lambda shown: shown["data"][0]["items"]["data"][0].update(current_period_end=1),
        lambda shown: shown["data"][0]["items"]["data"][0]["price"]["recurring"].update(aggregate_usage="total"),
    ],
)
def test_a_listing_in_another_shape_is_refused(
    sandbox: Sandbox, stripe_contract: Document, change: Callable[[Any], None]
) -> None:
    subscribed(sandbox)
    request = stripe_request("GET", "/v1/subscriptions")
    right = send("stripe", sandbox, request)
    stripe_contract.check_answer(request, right)
    with pytest.raises(OpenAPIError):
        stripe_contract.check_answer(request, changed(right, change))


def changed(response: Response, change: Callable[[Any], None]) -> Response:
    """Return an answer whose JSON was changed."""
    shown = copy.deepcopy(json.loads(response.data))
    change(shown)
    return replace(response, data=json.dumps(shown).encode())
