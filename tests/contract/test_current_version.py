"""The embedded Stripe answers in the current API version as Stripe's SDK has it.

No document of 2026-10-28.endive is at hand, and that of 2023-08-16 has another shape: periods were
on the subscription, prices had `aggregate_usage`. The SDK is generated from the document of its
version, so the annotations of its objects stand in. Unknown and mistyped properties are refused;
missing ones as well, but for those listed here, which the sandbox does not model.
"""

import copy
import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import stripe
from stripe import billing, test_helpers
from stripe.events import V1BillingMeterErrorReportTriggeredEvent

from meter_sync.sandbox import Sandbox

from .messages import ENDIVE, send, stripe_request
from .sdk_types import faults
from .traffic import PERIOD_START, Exchange

NOT_MODELLED = {
    "invoice.amount_overpaid",
    "invoice.discounts",
    "invoice.issuer",
    "invoice.lines.data[].discounts",
    "invoice.lines.data[].subtotal",
    "item.plan",
    "product.marketing_features",
    "product.type",
    "subscription.billing_schedules",
    "subscription.invoice_settings",
    "subscription.items.data[].plan",
    "subscription.pending_update.subscription_items[].plan",
    "subscription.schedule.phases[].items[].plan",
}
"""What Stripe sends and the sandbox leaves out; nothing of it is read by this program."""

UNDOCUMENTED = {"invoice.lines.total_count", "subscription.items.total_count"}
"""Sent by Stripe with lists inside of objects, as the samples of the API reference show."""

TOLERATED = {f"missing {place}" for place in NOT_MODELLED} | {f"unknown {place}" for place in UNDOCUMENTED}


def unexpected(shown: Any, shape: Any, kind: str) -> list[str]:
    """Return what in an object does not fit the SDK's type."""
    return sorted(set(faults(shown, shape, kind)) - TOLERATED)


def unexpected_in_page(shown: Any, shape: Any, kind: str) -> list[str]:
    """Return what in a page of a list does not fit; the page has the four properties of a list."""
    assert shown.keys() == {"object", "data", "has_more", "url"}
    assert (shown["object"], type(shown["has_more"]), type(shown["url"])) == ("list", bool, str)
    return [fault for each in shown["data"] for fault in unexpected(each, shape, kind)]


def get(sandbox: Sandbox, path: str, **params: Any) -> Any:
    response = send("stripe", sandbox, stripe_request("GET", path, params, ENDIVE))
    assert response.status_code == 200, response.data
    return json.loads(response.data)


def subscribed(sandbox: Sandbox, **options: Any) -> tuple[str, str]:
    """Return a new subscription to a metered price, and its item."""
    price = sandbox.stripe.add_price(transform_quantity={"divide_by": 3, "round": "up"})
    view = sandbox.stripe.add_subscription(
        sandbox.stripe.add_customer(metadata={"key": "acme"}),
        [price],
        period_start=PERIOD_START,
        **options,
    )
    return view.id, view.items[0]


PAGES: dict[str, tuple[Any, str]] = {
    "/v1/billing/meters": (billing.Meter, "meter"),
    "/v1/billing/meters/ID/event_summaries": (billing.MeterEventSummary, "summary"),
    "/v1/events": (stripe.Event, "event"),
    "/v1/invoices": (stripe.Invoice, "invoice"),
    "/v1/invoices/ID/lines": (stripe.InvoiceLineItem, "invoice.lines.data[]"),
    "/v1/subscriptions": (stripe.Subscription, "subscription"),
    "/v1/subscription_items": (stripe.SubscriptionItem, "item"),
    "/v1/test_helpers/test_clocks": (test_helpers.TestClock, "clock"),
}
OBJECTS: dict[str, tuple[Any, str]] = {
    "/v1/account": (stripe.Account, "account"),
    "/v1/billing/meter_event_adjustments": (billing.MeterEventAdjustment, "adjustment"),
    "/v1/billing/meter_events": (billing.MeterEvent, "event"),
    "/v1/subscriptions/ID": (stripe.Subscription, "subscription"),
    "/v1/test_helpers/test_clocks/ID": (test_helpers.TestClock, "clock"),
}


def test_the_program_is_answered_in_the_current_shape(traffic: list[Exchange]) -> None:
    """On all that it asks for in the current version; each kind of page had something on it at least once.

    But for the events since the last run: that was by the real clock, and the sandbox's stands still before it.
    """
    filled = set()
    for each in traffic:
        if each.seen.headers.get("stripe-version") == ENDIVE:
            shown, path = json.loads(each.response.data), re.sub(r"\b(clock|in|mtr|sub)_\w+", "ID", each.seen.path)
            if path in OBJECTS:
                assert unexpected(shown, *OBJECTS[path]) == []
            elif path in PAGES:
                assert unexpected_in_page(shown, *PAGES[path]) == []
            else:
                assert path == "/v2/core/events"
                for event in shown["data"]:
                    assert unexpected(event, V1BillingMeterErrorReportTriggeredEvent, "event") == []
            if path in OBJECTS or shown["data"]:
                filled.add(path)
    assert filled | {"/v1/events"} == {*OBJECTS, *PAGES, "/v2/core/events"}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"billing_thresholds": {"amount_gte": 9, "reset_billing_cycle_anchor": False}},
        {"trial_end": PERIOD_START + timedelta(days=14)},
        {"status": "canceled"},
        {"metadata": {"plan": "pro"}, "item_metadata": {"om_meter_id": "tokens"}},
    ],
)
def test_subscriptions_are_answered_in_the_current_shape(sandbox: Sandbox, options: dict[str, Any]) -> None:
    subscription, item = subscribed(sandbox, **options)
    shown = get(sandbox, f"/v1/subscriptions/{subscription}", **{"expand[0]": "customer"})
    assert unexpected(shown, stripe.Subscription, "subscription") == []
    shown = get(sandbox, f"/v1/subscription_items/{item}")
    assert unexpected(shown, stripe.SubscriptionItem, "item") == []


@pytest.mark.parametrize("mode", ["classic", "flexible"])
def test_planned_changes_are_answered_in_the_current_shape(sandbox: Sandbox, mode: Any) -> None:
    subscription, item = subscribed(sandbox, billing_mode=mode)
    price = sandbox.stripe.add_price()
    sandbox.stripe.plan_change(subscription, PERIOD_START + timedelta(days=20), [price])
    sandbox.stripe.hold_update(subscription, {item: price})
    shown = get(sandbox, f"/v1/subscriptions/{subscription}", **{"expand[0]": "schedule"})
    assert shown["schedule"]["phases"][1]["items"][0]["price"] == price
    assert shown["pending_update"]["subscription_items"]
    assert unexpected(shown, stripe.Subscription, "subscription") == []
    sandbox.stripe.release_schedule(shown["schedule"]["id"])
    released = get(sandbox, f"/v1/subscription_schedules/{shown['schedule']['id']}")
    assert unexpected({**shown, "schedule": released}, stripe.Subscription, "subscription") == []


def test_test_clocks_are_answered_in_the_current_shape(sandbox: Sandbox) -> None:
    clock = sandbox.stripe.add_test_clock(PERIOD_START)
    assert unexpected(get(sandbox, f"/v1/test_helpers/test_clocks/{clock}"), test_helpers.TestClock, "clock") == []
    assert unexpected_in_page(get(sandbox, "/v1/test_helpers/test_clocks"), test_helpers.TestClock, "clock") == []


def test_periods_are_on_the_items_and_only_there(sandbox: Sandbox) -> None:
    subscription, item = subscribed(sandbox)
    shown = get(sandbox, f"/v1/subscriptions/{subscription}")
    assert not {"current_period_start", "current_period_end"} & shown.keys()
    (embedded,) = shown["items"]["data"]
    assert embedded["current_period_start"] == int(PERIOD_START.timestamp())
    assert embedded == get(sandbox, f"/v1/subscription_items/{item}")


@pytest.mark.parametrize("options", [{}, {"meter": "mtr_1"}, {"usage_type": "licensed"}])
def test_prices_are_answered_in_the_current_shape(sandbox: Sandbox, options: dict[str, Any]) -> None:
    sandbox.stripe.add_meter(id="mtr_1")
    price = sandbox.stripe.add_price(**options)
    assert unexpected(get(sandbox, f"/v1/prices/{price}"), stripe.Price, "price") == []
    assert unexpected_in_page(get(sandbox, "/v1/prices"), stripe.Price, "price") == []


def test_customers_products_and_invoices_are_answered_in_the_current_shape(
    sandbox: Sandbox,
) -> None:
    subscription, item = subscribed(sandbox)
    sandbox.stripe.create_usage_record(item, 70)
    customer = get(sandbox, f"/v1/subscriptions/{subscription}")["customer"]
    shown = get(sandbox, f"/v1/customers/{customer}")
    assert unexpected(shown, stripe.Customer, "customer") == []
    product = get(sandbox, f"/v1/subscription_items/{item}")["price"]["product"]
    assert unexpected(get(sandbox, f"/v1/products/{product}"), stripe.Product, "product") == []
    sandbox.clock.advance(timedelta(days=30))
    assert unexpected_in_page(get(sandbox, "/v1/invoices"), stripe.Invoice, "invoice") == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda shown: shown.pop("created"), "missing subscription.created"),
        (lambda shown: shown.update(created="2026"), "subscription.created"),
        (lambda shown: shown.update(created=True), "subscription.created"),
        (lambda shown: shown.update(customer=7), "subscription.customer"),
        (lambda shown: shown.update(metadata={"seats": 3}), "subscription.metadata.seats"),
        (lambda shown: shown.update(object="price"), "subscription.object"),
        (lambda shown: shown.update(current_period_end=1), "unknown subscription.current_period_end"),
        (
            lambda shown: shown["items"]["data"][0].pop("current_period_end"),
            "missing subscription.items.data[].current_period_end",
        ),
        (
            lambda shown: shown["items"]["data"][0]["price"]["recurring"].update(aggregate_usage="sum"),
            "unknown subscription.items.data[].price.recurring.aggregate_usage",
        ),
        (
            lambda shown: shown["items"]["data"][0]["price"].update(unit_amount_decimal=0.02),
            "subscription.items.data[].price.unit_amount_decimal",
        ),
    ],
)
def test_a_subscription_in_another_shape_is_refused(
    sandbox: Sandbox, change: Callable[[Any], None], fault: str
) -> None:
    """These checks can fail: a right answer passes, and does not once it is changed."""
    subscription, _ = subscribed(sandbox)
    shown = copy.deepcopy(get(sandbox, f"/v1/subscriptions/{subscription}"))
    change(shown)
    (found,) = unexpected(shown, stripe.Subscription, "subscription")
    assert found.startswith(fault)
