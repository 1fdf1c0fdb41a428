"""Invoices, events and changed subscriptions are answered as Stripe's SDK has them, and its document before that."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import stripe

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.world import StripeWorld

from .documents import Document
from .messages import ACACIA
from .test_current_version import get, unexpected, unexpected_in_page
from .test_stripe_answers import Stripe
from .traffic import NOW, PERIOD_START

Change = Callable[[StripeWorld, str], None]

CHANGES: dict[str, Change] = {
    "canceled": lambda world, each: world.cancel(each, invoice_now=True),
    "ending with its period": lambda world, each: world.cancel_at_period_end(each),
    "ending at an instant": lambda world, each: world.cancel_at(each, NOW + timedelta(days=2)),
    "with a new cycle": lambda world, each: world.restart_periods(each),
    "on trial": lambda world, each: world.start_trial(each, NOW + timedelta(days=3)),
    "paused": lambda world, each: world.set_status(each, "paused"),
    "not collected": lambda world, each: world.pause_collection(each, "void", NOW + timedelta(days=40)),
}


def subscribed(sandbox: Sandbox, prices: int = 1) -> str:
    """Return a new subscription with usage in its open period."""
    world = sandbox.stripe
    made = [world.add_price() for _ in range(prices)]
    view = world.add_subscription(world.add_customer(), made, period_start=PERIOD_START)
    world.create_usage_record(view.items[0], 70)
    return view.id


@pytest.fixture
def before(sandbox: Sandbox, stripe_contract: Document) -> Stripe:
    """Requests in the last version of the document's shapes, held against it."""
    return Stripe(sandbox, stripe_contract)


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_subscription_is_shown_in_the_current_shape(sandbox: Sandbox, change: Change) -> None:
    subscription = subscribed(sandbox)
    change(sandbox.stripe, subscription)
    shown = get(sandbox, f"/v1/subscriptions/{subscription}")
    assert unexpected(shown, stripe.Subscription, "subscription") == []


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_a_subscription_is_shown_in_the_documents_shape(sandbox: Sandbox, before: Stripe, change: Change) -> None:
    subscription = subscribed(sandbox)
    change(sandbox.stripe, subscription)
    assert before("GET", f"/v1/subscriptions/{subscription}")["id"] == subscription


@pytest.mark.parametrize("hours", [0, 1])
@pytest.mark.parametrize("behavior", [None, "keep_as_draft", "mark_uncollectible", "void"])
def test_invoices_are_shown_in_the_current_shape(sandbox: Sandbox, behavior: Any, hours: int) -> None:
    subscription = subscribed(sandbox, prices=12)
    sandbox.stripe.pause_collection(subscription, behavior)
    sandbox.clock.advance(timedelta(days=21, hours=hours - 12))
    (made,) = sandbox.stripe.invoices
    assert unexpected(get(sandbox, f"/v1/invoices/{made.id}"), stripe.Invoice, "invoice") == []
    lines = get(sandbox, f"/v1/invoices/{made.id}/lines", limit=100)
    assert len(lines["data"]) == 12
    faults = unexpected_in_page(lines, stripe.InvoiceLineItem, "invoice.lines.data[]")
    assert faults == []


def test_invoices_are_shown_in_the_documents_shape(sandbox: Sandbox, before: Stripe) -> None:
    subscribed(sandbox, prices=12)
    sandbox.clock.advance(timedelta(days=21))
    filters: dict[str, Any] = {"created[gte]": int(NOW.timestamp()), "status": "open"}
    (invoice,) = before("GET", "/v1/invoices", **filters)["data"]
    assert before("GET", f"/v1/invoices/{invoice['id']}") == invoice


def everything_happens(sandbox: Sandbox) -> None:
    """Let events of each kind happen within the last 30 days."""
    for change in CHANGES.values():
        change(sandbox.stripe, subscribed(sandbox))
    sandbox.stripe.resume(subscribed_and_paused(sandbox))
    sandbox.clock.advance(timedelta(days=21))


def subscribed_and_paused(sandbox: Sandbox) -> str:
    subscription = subscribed(sandbox)
    sandbox.stripe.set_status(subscription, "paused")
    return subscription


def test_events_are_shown_in_the_current_shape(sandbox: Sandbox) -> None:
    everything_happens(sandbox)
    page = get(sandbox, "/v1/events", limit=100)
    # What an event is about has no type in the SDK; it is checked below.
    bare = [{**event, "data": {**event["data"], "object": {}, "previous_attributes": {}}} for event in page["data"]]
    assert unexpected_in_page({**page, "data": bare}, stripe.Event, "event") == []
    kinds = {event["type"] for event in page["data"]}
    assert {
        "customer.subscription.deleted",
        "customer.subscription.paused",
        "customer.subscription.resumed",
        "customer.subscription.updated",
        "invoice.created",
        "invoice.finalized",
        "invoice.upcoming",
        "invoice.voided",
    } <= kinds
    for event in page["data"]:
        data = event["data"]
        if event["type"].startswith("customer."):
            assert unexpected(data["object"], stripe.Subscription, "subscription") == []
        else:
            faults = unexpected(data["object"], stripe.Invoice, "invoice")
            assert faults == (["missing invoice.id"] if event["type"] == "invoice.upcoming" else [])
        assert ("previous_attributes" in data) == event["type"].endswith(".updated")
        assert data.get("previous_attributes", {}).keys() <= data["object"].keys()


def test_events_are_shown_in_the_documents_shape(sandbox: Sandbox, before: Stripe) -> None:
    sandbox.stripe.api_version = ACACIA
    everything_happens(sandbox)
    events = get(sandbox, "/v1/events", limit=100)["data"]
    assert len(events) > 20
    for event in events:
        shown = event["data"]["object"]
        assert event["api_version"] == ACACIA
        if event["type"] != "invoice.upcoming":
            before.contract.check_object(shown["object"], shown)
        before.contract.check_object("event", {**event, "data": {"object": {}}})


@pytest.mark.parametrize(
    "params",
    [
        {"cancel_at_period_end": "true"},
        {"cancel_at": int(NOW.timestamp()) + 60},
        {"billing_cycle_anchor": "now"},
        {"trial_end": int(NOW.timestamp()) + 60},
        {"trial_end": "now", "proration_behavior": "none"},
        {"pause_collection[behavior]": "void"},
        {"pause_collection": ""},
        {"metadata[plan]": "pro"},
    ],
)
def test_changes_of_a_subscription_are_asked_for_as_documented(
    sandbox: Sandbox, before: Stripe, params: dict[str, Any]
) -> None:
    subscription = subscribed(sandbox)
    assert before("POST", f"/v1/subscriptions/{subscription}", **params)["id"] == subscription


def test_the_sdk_reads_changes_and_lists_all_of_it(sandbox: Sandbox) -> None:
    subscription = subscribed(sandbox)
    client = stripe.StripeClient(sandbox.stripe_key, base_addresses={"api": sandbox.stripe_url})
    changed = client.v1.subscriptions.update(subscription, {"cancel_at_period_end": True, "metadata": {"why": "moved"}})
    assert changed.cancel_at_period_end is True
    paused = subscribed_and_paused(sandbox)
    assert client.v1.subscriptions.resume(paused).status == "active"
    sandbox.clock.advance(timedelta(days=21))
    assert client.v1.subscriptions.retrieve(subscription).status == "canceled"
    (invoice,) = client.v1.invoices.list({"subscription": subscription, "created": {"gte": 1}}).data
    assert client.v1.invoices.line_items.list(invoice.id).data[0].quantity == 70
    events = client.v1.events.list({"types": ["customer.subscription.updated", "customer.subscription.deleted"]})
    kinds = [event.type.rpartition(".")[2] for event in events.auto_paging_iter()]
    assert kinds == ["deleted", *["updated"] * 3]
