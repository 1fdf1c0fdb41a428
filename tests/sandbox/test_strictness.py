"""Both servers refuse what the real ones refuse, and so does the setting-up of a test: nothing wrong goes unnoticed."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox

from .instants import NOW
from .wire import OpenMeterWire, StripeWire

BASIL = "2026-10-28.endive"
FROM, TO = "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"


@pytest.mark.parametrize(
    "body",
    [
        {"slug": "Not A Slug", "aggregation": "SUM", "eventType": "e", "valueProperty": "$.v"},
        {"slug": "s", "aggregation": "MEDIAN", "eventType": "e", "valueProperty": "$.v"},
        {"slug": "s", "aggregation": "SUM", "valueProperty": "$.v"},
        {"slug": "s", "aggregation": "SUM", "eventType": "e"},
        {"slug": "s", "aggregation": "SUM", "eventType": "e", "valueProperty": "v"},
        ["not", "an", "object"],
    ],
)
def test_openmeter_refuses_a_meter_that_makes_no_sense(openmeter: OpenMeterWire, body: Any) -> None:
    reply = openmeter("POST", "/api/v1/meters", body)

    assert reply.status == 400
    assert reply.json["detail"]


@pytest.mark.parametrize(
    "fields",
    [
        {"windowSize": "WEEK"},
        {"windowTimeZone": "Mars/Olympus"},
        {"filterGroupBy": ["model"]},
        {"filterGroupBy": {"model": "large"}},
        {"subject": "cus_1"},
        {"subject": [1]},
        {"groupBy": ["nothing"]},
        {"advancedMeterGroupByFilters": {"model": {"$eq": "large"}}},
        {"misspelt": True},
    ],
)
def test_openmeter_refuses_a_question_that_it_cannot_answer(
    sandbox: Sandbox, openmeter: OpenMeterWire, fields: dict[str, Any]
) -> None:
    sandbox.openmeter.add_meter("tokens", group_by={"model": "$.model"})

    assert openmeter.query("tokens", FROM, TO, **fields).status == 400


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", {}),
        ("application/cloudevents-batch+json", {"id": "1"}),
        ("application/cloudevents+json", [{"id": "1"}]),
        ("application/cloudevents-batch+json", ["no event"]),
        ("application/json", {"id": "1", "source": "s", "specversion": "1.0", "type": "t"}),
    ],
)
def test_openmeter_refuses_what_is_no_event(openmeter: OpenMeterWire, content_type: str, body: Any) -> None:
    assert openmeter("POST", "/api/v1/events", body, content_type=content_type).status == 400


def test_openmeter_has_no_other_routes_and_methods(openmeter: OpenMeterWire) -> None:
    assert openmeter("GET", "/api/v1/nothing").status == 404
    assert openmeter("DELETE", "/api/v1/meters").status == 405
    assert openmeter("POST", "/api/v1/meters", {}, content_type="text/plain").status == 400


@pytest.mark.parametrize(
    "params",
    [
        {"metadata": "text"},
        {"metadata[a][b]": "deep"},
        {"name[first]": "hash"},
        {"[odd": "name"},
        {"metadata[a]": "1", "metadata[a][b]": "2"},
    ],
)
def test_stripe_refuses_a_form_that_it_cannot_read(stripe: StripeWire, params: dict[str, str]) -> None:
    reply = stripe("POST", "/v1/customers", params)

    assert reply.status == 400
    assert reply.error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "params",
    [
        {"unit_amount": "1", "unit_amount_decimal": "0.5"},
        {},
        {"unit_amount_decimal": "half"},
        {"unit_amount_decimal": "-1"},
        {"unit_amount": "1", "active": "maybe"},
        {"unit_amount": "1", "recurring[usage_type]": "licensed", "recurring[aggregate_usage]": "sum"},
        {"unit_amount": "1", "recurring[interval]": "fortnight"},
    ],
)
def test_stripe_refuses_a_price_that_makes_no_sense(
    sandbox: Sandbox, stripe: StripeWire, params: dict[str, str]
) -> None:
    usual = {"currency": "usd", "product": sandbox.stripe.add_product(), "recurring[interval]": "month"}

    assert stripe("POST", "/v1/prices", {**usual, **params}).status == 400


@pytest.mark.parametrize("params", [{"recurring[aggregate_usage]": "sum"}, {}])
def test_stripe_makes_no_legacy_price_in_a_current_version(
    sandbox: Sandbox, stripe: StripeWire, params: dict[str, str]
) -> None:
    legacy = {
        "currency": "usd",
        "product": sandbox.stripe.add_product(),
        "unit_amount": "1",
        "recurring[interval]": "month",
        "recurring[usage_type]": "metered",
    }

    assert stripe("POST", "/v1/prices", {**legacy, **params}, version=BASIL).status == 400


@pytest.mark.parametrize(
    "params",
    [
        {"items[0][quantity]": "3"},
        {"backdate_start_date": str(int(NOW.timestamp()) + 60)},
        {"trial_end": str(int(NOW.timestamp()) - 60)},
        {"trial_end": "soon"},
        {"items": ""},
        {"items[first][price]": "price_x"},
        {"items[0]": "price_x"},
    ],
)
def test_stripe_refuses_a_subscription_that_makes_no_sense(
    sandbox: Sandbox, stripe: StripeWire, params: dict[str, str]
) -> None:
    usual = {"customer": sandbox.stripe.add_customer(), "items[0][price]": sandbox.stripe.add_price()}

    assert stripe("POST", "/v1/subscriptions", {**usual, **params}).status == 400


def test_stripe_subscribes_no_deleted_customer_and_no_price_twice(sandbox: Sandbox, stripe: StripeWire) -> None:
    customer, price = sandbox.stripe.add_customer(), sandbox.stripe.add_price()
    subscription = sandbox.stripe.add_subscription(customer, [price])

    assert stripe("POST", "/v1/subscription_items", {"subscription": subscription.id, "price": price}).status == 400
    sandbox.stripe.delete_customer(customer)
    asked = {"customer": customer, "items[0][price]": price}
    assert stripe("POST", "/v1/subscriptions", asked).status == 400


def test_stripe_changes_nothing_of_a_subscription_that_has_ended(sandbox: Sandbox, stripe: StripeWire) -> None:
    subscription = sandbox.stripe.add_subscription(sandbox.stripe.add_customer(), [sandbox.stripe.add_price()])
    sandbox.stripe.cancel(subscription.id)
    sandbox.stripe.cancel(subscription.id)
    another = {"subscription": subscription.id, "price": sandbox.stripe.add_price()}

    assert stripe("POST", "/v1/subscription_items", another).status == 400
    assert stripe("DELETE", f"/v1/subscriptions/{subscription.id}").status in (400, 404)
    assert stripe("GET", "/v1/invoices/upcoming", {"subscription": subscription.id}).status in (400, 404)


def test_stripe_names_what_does_not_exist(stripe: StripeWire) -> None:
    assert stripe("GET", "/v1/invoices/in_nothing").status == 404
    assert stripe("GET", "/v1/invoices", {"customer": "cus_nothing"}).status == 400
    assert stripe("GET", "/v1/invoices/upcoming", {"subscription": "sub_nothing"}).status == 404


def test_stripe_pages_summaries_only_by_those_it_has(sandbox: Sandbox, stripe: StripeWire) -> None:
    subscription = sandbox.stripe.add_subscription(sandbox.stripe.add_customer(), [sandbox.stripe.add_price()])
    path = f"/v1/subscription_items/{subscription.items[0]}/usage_record_summaries"
    (newest,) = stripe("GET", path).json["data"]

    assert stripe("GET", path, {"starting_after": "sis_nothing"}).status == 400
    assert stripe("GET", path, {"starting_after": newest["id"]}).json["data"] == []
    assert stripe("GET", path, {"ending_before": newest["id"]}).json["data"] == []


def test_stripe_filters_subscriptions_by_their_period(sandbox: Sandbox, stripe: StripeWire) -> None:
    subscription = sandbox.stripe.add_subscription(
        sandbox.stripe.add_customer(), [sandbox.stripe.add_price()], period_start=datetime(2026, 11, 1, tzinfo=UTC)
    )
    start = int(datetime(2026, 11, 1, tzinfo=UTC).timestamp())

    def found(**bounds: object) -> list[str]:
        named = {name.replace("__", "[") + ("]" if "__" in name else ""): value for name, value in bounds.items()}
        return [row["id"] for row in stripe("GET", "/v1/subscriptions", named).json["data"]]

    assert found(current_period_start__gte=start) == [subscription.id]
    assert found(current_period_start__gt=start) == []
    assert found(created__lte=start) == [subscription.id]
    assert stripe("GET", "/v1/subscriptions", {"created[gt]": "yesterday"}).status == 400


def test_stripe_takes_no_endless_idempotency_key(stripe: StripeWire) -> None:
    assert stripe("POST", "/v1/customers", idempotency_key="k" * 256).status == 400


def test_the_metadata_of_a_price_is_changed(sandbox: Sandbox, stripe: StripeWire) -> None:
    price = sandbox.stripe.add_price(metadata={"om_meter_id": "m"}, lookup_key="old")

    changed = stripe("POST", f"/v1/prices/{price}", {"metadata[x]": "y", "lookup_key": "new", "active": "false"}).json
    assert (changed["metadata"], changed["lookup_key"], changed["active"]) == (
        {"om_meter_id": "m", "x": "y"},
        "new",
        False,
    )


def test_setting_up_refuses_what_makes_no_sense(sandbox: Sandbox) -> None:
    stripe, openmeter = sandbox.stripe, sandbox.openmeter
    naive = datetime(2026, 11, 1)  # noqa: DTZ001 (that it has no zone is the point)
    openmeter.add_meter("twice")
    wrong: list[Callable[[], object]] = [
        lambda: openmeter.add_meter("twice"),
        lambda: openmeter.add_meter("odd", aggregation="MEDIAN"),  # type: ignore[arg-type]
        lambda: openmeter.add_meter("path", value_property="value"),
        lambda: openmeter.add_event("twice", "cus_1", naive, value=1),
        lambda: stripe.add_price(transform_quantity={"divide_by": 10, "round": "sideways"}),
        lambda: stripe.add_customer(id=stripe.add_customer()),
        lambda: stripe.add_subscription(stripe.add_customer(), [stripe.add_price()], status="happy"),
        lambda: stripe.add_subscription(stripe.add_customer(), [stripe.add_price()], period_start=naive),
    ]
    for attempt in wrong:
        with pytest.raises(ValueError, match=r"\w"):
            attempt()


@pytest.mark.parametrize(("value", "sum_of_all"), [("12.5", 12.5), ("text", 0), (True, 0), (None, 0)])
def test_a_value_that_is_no_number_is_not_counted(
    sandbox: Sandbox, openmeter: OpenMeterWire, value: Any, sum_of_all: float
) -> None:
    sandbox.openmeter.add_meter("tokens")
    sandbox.openmeter.add_event("tokens", "cus_1", datetime(2026, 11, 1, 5, tzinfo=UTC), data={"value": value})

    rows = openmeter.query("tokens", FROM, TO).json["data"]

    assert sum(row["value"] for row in rows) == sum_of_all
