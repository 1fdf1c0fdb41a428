"""Updates that wait for a payment: shown, applied once it is made, or discarded."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.world import SubscriptionView

from .instants import HOUR, NOW, PERIOD_END, PERIOD_START, SECOND, unix
from .wire import StripeWire

ENDIVE = "2026-10-28.endive"


@pytest.fixture
def view(sandbox: Sandbox) -> SubscriptionView:
    stripe = sandbox.stripe
    for name in ("old", "new"):
        stripe.add_price(id=f"price_{name}")
    return stripe.add_subscription(stripe.add_customer(), ["price_old"], period_start=PERIOD_START)


def pending(stripe: StripeWire, view: SubscriptionView) -> Any:
    return stripe("GET", f"/v1/subscriptions/{view.id}", version=ENDIVE).json["pending_update"]


def price_of(sandbox: Sandbox, view: SubscriptionView) -> str:
    return sandbox.stripe.state.items[view.items[0]].price


def test_what_is_pending_is_shown_and_changes_nothing(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView
) -> None:
    assert pending(stripe, view) is None
    sandbox.stripe.hold_update(view.id, {view.items[0]: "price_new"})
    shown = pending(stripe, view)
    assert shown["expires_at"] == unix(NOW + 23 * HOUR)
    (item,) = shown["subscription_items"]
    assert (item["id"], item["price"]["id"], price_of(sandbox, view)) == (view.items[0], "price_new", "price_old")


def test_once_it_is_paid_it_is_applied_at_that_instant(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView
) -> None:
    sandbox.stripe.hold_update(view.id, {view.items[0]: "price_new"})
    sandbox.clock.advance(HOUR)
    sandbox.stripe.pay_for_update(view.id)
    assert (pending(stripe, view), price_of(sandbox, view)) == (None, "price_new")
    (told,) = stripe("GET", "/v1/events", {"created[gte]": str(unix(NOW + HOUR))}, version=ENDIVE).json["data"]
    assert {"items", "pending_update"} <= told["data"]["previous_attributes"].keys()
    sandbox.clock.advance(24 * HOUR)
    assert price_of(sandbox, view) == "price_new"


@pytest.mark.parametrize(
    ("made", "expires"),
    [(NOW, NOW + 23 * HOUR), (PERIOD_END - HOUR, PERIOD_END)],
    ids=["after 23 hours", "with the period"],
)
def test_else_it_is_discarded(
    sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView, made: datetime, expires: datetime
) -> None:
    sandbox.clock.move_to(made)
    sandbox.stripe.hold_update(view.id, {view.items[0]: "price_new"})
    sandbox.clock.move_to(expires - SECOND)
    assert pending(stripe, view)["expires_at"] == unix(expires)
    sandbox.clock.move_to(expires)
    assert pending(stripe, view) is None
    sandbox.stripe.pay_for_update(view.id)
    assert price_of(sandbox, view) == "price_old"


def test_a_later_one_takes_its_place(sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView) -> None:
    sandbox.stripe.hold_update(view.id, {view.items[0]: "price_new"})
    sandbox.clock.advance(HOUR)
    sandbox.stripe.hold_update(view.id, {view.items[0]: "price_new"})
    sandbox.clock.move_to(NOW + 23 * HOUR + timedelta(minutes=1))
    assert pending(stripe, view)["expires_at"] == unix(NOW + 24 * HOUR)


def test_it_ends_with_its_subscription(sandbox: Sandbox, stripe: StripeWire, view: SubscriptionView) -> None:
    sandbox.stripe.hold_update(view.id, {view.items[0]: "price_new"})
    sandbox.stripe.cancel(view.id)
    assert pending(stripe, view) is None
