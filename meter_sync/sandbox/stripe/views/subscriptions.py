"""How Stripe shows subscriptions and their items, in each API version.

Shapes: API reference of 2025-01-27.acacia, and the object types of stripe-python 16 for later
versions.
"""

from collections.abc import Collection, Sequence
from dataclasses import replace

from meter_sync.sandbox.stripe.state.objects import Item, Period, Subscription, SubscriptionSnapshot
from meter_sync.sandbox.stripe.views.customers import show_customer
from meter_sync.sandbox.stripe.views.prices import show_price
from meter_sync.sandbox.stripe.views.schedules import show_schedule
from meter_sync.sandbox.stripe.views.view import Json, View

ITEMS_EMBEDDED = 10
"""How many items a subscription shows; the rest is in the list of subscription items."""


def show_item(view: View, item: Item) -> Json:
    """Show a subscription item, with its own period from 2025-03-31.basil on."""
    shown: Json = {
        "id": item.id,
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": item.created,
        "discounts": [],
        "metadata": item.metadata,
        "price": show_price(view, view.state.price_of(item)),
        "subscription": item.subscription,
        "tax_rates": [],
    }
    if item.quantity is not None:
        shown["quantity"] = item.quantity
    return shown if view.legacy else {**shown, **_current_period(item.period)}


def _current_period(period: Period) -> Json:
    return {"current_period_start": period.start, "current_period_end": period.end}


def show_snapshot(view: View, snapshot: SubscriptionSnapshot) -> Json:
    """Show a subscription as it was."""
    items = [snapshot.items[identifier] for identifier in snapshot.subscription.items]
    return show_subscription(view, snapshot.subscription, items)


def show_subscription(
    view: View, subscription: Subscription, items: Sequence[Item] | None = None, *, expanded: Collection[str] = ()
) -> Json:
    """Show a subscription with its newest items (default: as they are now), and `customer` or `schedule` expanded.

    Before 2025-03-31.basil, when its items had but one period, that is the subscription's.
    """
    if items is None:
        items = view.state.items_of(subscription)
    shown: Json = {
        "id": subscription.id,
        "object": "subscription",
        "application": None,
        "automatic_tax": {"enabled": False, "liability": None},
        "billing_cycle_anchor": subscription.anchor,
        "billing_thresholds": subscription.billing_thresholds,
        "cancel_at": subscription.cancel_at,
        "cancel_at_period_end": subscription.cancel_at_period_end,
        "canceled_at": subscription.canceled_at,
        "collection_method": "charge_automatically",
        "created": subscription.created,
        "currency": view.state.price_of(items[0]).currency if items else "usd",
        "customer": subscription.customer,
        "description": None,
        "discounts": [],
        "ended_at": subscription.ended_at,
        "items": _first_items(view, subscription, items),
        "latest_invoice": subscription.latest_invoice,
        "livemode": view.livemode,
        "metadata": subscription.metadata,
        "pending_update": _pending_update(view, subscription),
        "schedule": subscription.schedule,
        "start_date": subscription.start_date,
        "status": subscription.status,
        "test_clock": subscription.test_clock,
        **_trial_and_pause(subscription),
    }
    if not view.legacy:
        shown["billing_mode"] = {"flexible": None, "type": subscription.billing_mode}
    else:
        nothing = Period(subscription.start_date, subscription.start_date)
        shown.update(_current_period(items[0].period if items else nothing))
    if "customer" in expanded:
        shown["customer"] = show_customer(view, view.state.customers[subscription.customer])
    if "schedule" in expanded and subscription.schedule is not None:
        shown["schedule"] = show_schedule(view, view.state.schedules[subscription.schedule])
    return shown


def _pending_update(view: View, subscription: Subscription) -> Json | None:
    """Show what is pending: the items that it sets, each as it would be."""
    update = subscription.pending_update
    if update is None:
        return None
    items = [replace(view.state.items[id], price=price) for id, price in update.prices.items()]
    return {
        "billing_cycle_anchor": None,
        "expires_at": update.expires_at,
        "subscription_items": [show_item(view, item) for item in items],
        "trial_end": None,
        "trial_from_plan": None,
    }


def _first_items(view: View, subscription: Subscription, items: Sequence[Item]) -> Json:
    newest_first = list(reversed(items))
    return {
        "object": "list",
        "data": [show_item(view, each) for each in newest_first[:ITEMS_EMBEDDED]],
        "has_more": len(newest_first) > ITEMS_EMBEDDED,
        "total_count": len(newest_first),
        "url": f"/v1/subscription_items?subscription={subscription.id}",
    }


def _trial_and_pause(subscription: Subscription) -> Json:
    paused = subscription.pause_collection
    ending = "pause" if subscription.pauses_after_trial else "create_invoice"
    return {
        "pause_collection": paused and {"behavior": paused.behavior, "resumes_at": paused.resumes_at},
        "trial_end": subscription.trial_end,
        "trial_settings": {"end_behavior": {"missing_payment_method": ending}},
        "trial_start": subscription.trial_start,
    }
