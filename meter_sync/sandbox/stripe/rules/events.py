"""What the embedded Stripe tells of: events, each with the object as it was right after the change.

Sources: API reference, Events and Types of events; Stripe's documentation of subscription webhooks.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from meter_sync.sandbox.stripe.state.objects import Invoice, StripeEvent, Subscription, SubscriptionSnapshot
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

KEPT_SECONDS = 30 * 86_400
"""How long events can be read (API reference, Events)."""

CREATED = "customer.subscription.created"
UPDATED = "customer.subscription.updated"
DELETED = "customer.subscription.deleted"
PAUSED = "customer.subscription.paused"
RESUMED = "customer.subscription.resumed"
INVOICE_CREATED = "invoice.created"
INVOICE_FINALIZED = "invoice.finalized"
INVOICE_UPCOMING = "invoice.upcoming"
INVOICE_VOIDED = "invoice.voided"
INVOICE_DELETED = "invoice.deleted"


def of_subscription(
    state: StripeState, kind: str, subscription: Subscription, at: int, before: SubscriptionSnapshot | None = None
) -> None:
    """Record what happened to a subscription at an instant, in Unix seconds."""
    _record(state, kind, at, _snapshot(state, subscription), before)


def of_invoice(state: StripeState, kind: str, invoice: Invoice, at: int) -> None:
    """Record what happened to an invoice at an instant, in Unix seconds."""
    _record(state, kind, at, replace(invoice, lines=list(invoice.lines)))


@contextmanager
def changing(state: StripeState, subscription_id: str) -> Iterator[Subscription]:
    """Change a subscription now: all that changes within is told of by one event."""
    subscription = state.subscriptions.find(subscription_id, param="subscription", status=400)
    with changing_at(state, subscription, state.now):
        yield subscription


@contextmanager
def changing_at(state: StripeState, subscription: Subscription, at: int) -> Iterator[None]:
    """Record one update of a subscription for all that changes within, unless nothing does.

    A subscription that is canceled within is told of as deleted instead (types of events).
    """
    if subscription.id in state.changing:
        yield
        return
    before = _snapshot(state, subscription)
    state.changing.add(subscription.id)
    try:
        yield
    finally:
        state.changing.discard(subscription.id)
    if subscription.status == "canceled" and before.subscription.status != "canceled":
        of_subscription(state, DELETED, subscription, at)
    elif _snapshot(state, subscription) != before:
        of_subscription(state, UPDATED, subscription, at, before)


def _record(
    state: StripeState,
    kind: str,
    at: int,
    subject: SubscriptionSnapshot | Invoice,
    before: SubscriptionSnapshot | None = None,
) -> None:
    about = subject.subscription.id if isinstance(subject, SubscriptionSnapshot) else subject.subscription
    # Those of test clocks are stamped with the time of day (reported by users), whatever the clock says.
    created = at if state.clock_of(about) is None else state.real_now
    event = StripeEvent(state.new_id("evt"), created, kind, state.api_version, subject, before)
    state.events.add(event)
    state.news.append(event)


def _snapshot(state: StripeState, subscription: Subscription) -> SubscriptionSnapshot:
    """Return a copy that later changes leave alone: of lists, since metadata is replaced as a whole."""
    items = {item.id: copy.copy(item) for item in state.items_of(subscription)}
    return SubscriptionSnapshot(replace(subscription, items=list(subscription.items)), items)
