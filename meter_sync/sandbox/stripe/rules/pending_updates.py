"""Pending updates: changes of a subscription that wait until an invoice is paid, or are discarded.

Source: Stripe's documentation, Pending updates reference: it expires 23 hours later, or with the period or the trial if
that is earlier. The invoice itself is not modelled: nothing is prorated here.
"""

from collections.abc import Mapping

from meter_sync.sandbox.stripe.rules import events, subscription_items
from meter_sync.sandbox.stripe.state.objects import PendingUpdate
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

_LASTS_SECONDS = 23 * 3600


def hold_update(state: StripeState, subscription_id: str, prices: Mapping[str, str]) -> None:
    """Let a change of items' prices, by the ids of the items, wait for a payment."""
    with events.changing(state, subscription_id) as subscription:
        for item, price in prices.items():
            state.item(item, param="items", status=400)
            state.prices.find(price, param="items", status=400)
        ends = [item.period.end for item in state.items_of(subscription)]
        trial = [subscription.trial_end] if subscription.status == "trialing" and subscription.trial_end else []
        expires = min(state.now + _LASTS_SECONDS, *ends, *trial)
        subscription.pending_update = PendingUpdate(expires, dict(prices))
    state.schedule(expires, "expiry", subscription.id)


def pay_for_update(state: StripeState, subscription_id: str) -> None:
    """Apply the update that is pending, now that its invoice is paid."""
    with events.changing(state, subscription_id) as subscription:
        update, subscription.pending_update = subscription.pending_update, None
        for item, price in (update.prices if update else {}).items():
            subscription_items.change_price(state, item, price)


def expire(state: StripeState, subscription_id: str, at: int) -> None:
    """Discard an update that is still pending at this instant, if it expires with it."""
    subscription = state.subscriptions[subscription_id]
    update = subscription.pending_update
    if update is not None and update.expires_at == at and not subscription.ended:
        with events.changing_at(state, subscription, at):
            subscription.pending_update = None
