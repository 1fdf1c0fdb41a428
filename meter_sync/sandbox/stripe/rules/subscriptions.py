"""Subscriptions: how one begins, and what it is asked to do now: change, pause, resume and end.

Sources: Stripe's documentation of subscriptions (trials, pausing, cancellation). Each change is told of by one
event, with what the subscription was before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from meter_sync.sandbox.instants import unix_seconds
from meter_sync.sandbox.stripe.rules import events, period_turns
from meter_sync.sandbox.stripe.rules.billing_periods import period_at
from meter_sync.sandbox.stripe.rules.subscription_items import new_item
from meter_sync.sandbox.stripe.state.objects import (
    STATUSES,
    BillingMode,
    CollectionPause,
    Metadata,
    PauseCollection,
    Period,
    Subscription,
)
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

_ITEM_CREATED_DELAY_SECONDS = 1
"""The items of a new subscription are often created a second after it (reported by users)."""


@dataclass(frozen=True, slots=True)
class SubscriptionView:
    """The ids of a new subscription and its items, in the order of the prices given."""

    id: str
    items: list[str]


def add_subscription(
    state: StripeState,
    customer: str,
    prices: Sequence[str],
    *,
    id: str | None = None,
    period_start: datetime | None = None,
    period_end: datetime | None = None,
    anchor: datetime | None = None,
    created: datetime | None = None,
    status: str = "active",
    metadata: Metadata | None = None,
    item_metadata: Metadata | Sequence[Metadata] | None = None,
    billing_thresholds: Mapping[str, object] | None = None,
    trial_end: datetime | None = None,
    pauses_after_trial: bool = False,
    quantities: Sequence[int | None] | None = None,
    billing_mode: BillingMode = "classic",
) -> SubscriptionView:
    """Add a subscription with one item per price.

    Its first periods begin at `period_start` (default now) and end at `period_end`, at the end of the trial, or by the
    price's interval from `anchor` (default: their start). `created` (default the same) is later for a backdated one.
    """
    owner = state.customers.find(customer, param="customer", status=400)
    start = state.now if period_start is None else unix_seconds(period_start)
    trial = None if trial_end is None else unix_seconds(trial_end)
    end = trial if period_end is None else unix_seconds(period_end)
    subscription = Subscription(
        id=id or state.new_id("sub"),
        created=start if created is None else unix_seconds(created),
        customer=customer,
        status=_known_status(status if trial is None else "trialing"),
        metadata=dict(metadata or {}),
        anchor=unix_seconds(anchor) if anchor else start if end is None else end,
        start_date=start,
        billing_thresholds=dict(billing_thresholds) if billing_thresholds else None,
        trial_start=None if trial is None else start,
        trial_end=trial,
        pauses_after_trial=pauses_after_trial,
        canceled_at=state.now if status == "canceled" else None,
        ended_at=state.now if status == "canceled" else None,
        test_clock=owner.test_clock,
        billing_mode=billing_mode,
    )
    state.subscriptions.add(subscription, f"customer:{customer}")
    _add_items(state, subscription, prices, end, item_metadata, quantities)
    period_turns.schedule(state, subscription)
    events.of_subscription(state, events.CREATED, subscription, subscription.created)
    return SubscriptionView(subscription.id, list(subscription.items))


def _add_items(
    state: StripeState,
    subscription: Subscription,
    prices: Sequence[str],
    end: int | None,
    metadata: Metadata | Sequence[Metadata] | None,
    quantities: Sequence[int | None] | None,
) -> None:
    """Add the first items: their metadata are the same for all, or one for each."""
    start, anchor = subscription.start_date, subscription.anchor
    per_item = [metadata] * len(prices) if isinstance(metadata, Mapping) else metadata
    for place, each in enumerate(prices):
        price = state.prices.find(each, param="price", status=400)
        new_item(
            state,
            subscription,
            price,
            Period(start, period_at(anchor, price, start).end if end is None else end),
            created=subscription.created + _ITEM_CREATED_DELAY_SECONDS,
            metadata=per_item[place] if per_item else None,
            quantity=quantities[place] if quantities else None,
        )


def set_status(state: StripeState, subscription_id: str, status: str) -> None:
    """Give a subscription another status: `canceled` cancels it, `paused` and then `active` resumes it."""
    subscription = state.subscriptions.find(subscription_id)
    if status == "canceled":
        cancel(state, subscription_id)
    elif status == "paused":
        period_turns.pause(state, subscription, state.now)
    elif status == "active" and subscription.status == "paused":
        resume(state, subscription_id, new_anchor=False)
    else:
        with events.changing(state, subscription_id):
            subscription.status = _known_status(status)
        period_turns.schedule(state, subscription)


def _known_status(status: str) -> str:
    """Return a subscription status; raise ValueError if Stripe has none of that name."""
    if status not in STATUSES:
        raise ValueError(f"not a subscription status: {status!r}")
    return status


def set_subscription_metadata(state: StripeState, subscription_id: str, metadata: Metadata) -> None:
    """Replace a subscription's metadata."""
    with events.changing(state, subscription_id) as subscription:
        subscription.metadata = dict(metadata)


def restart_periods(state: StripeState, subscription_id: str) -> None:
    """Reset the billing cycle anchor to now: what is open is invoiced, and new periods begin."""
    with events.changing(state, subscription_id) as subscription:
        period_turns.close_all(state, subscription)
        period_turns.begin(state, subscription)


def start_trial(state: StripeState, subscription_id: str, trial_end: datetime) -> None:
    """Put a subscription on trial from now; of one that is on trial, move the end.

    Assumed: what was used before is billed at once, as with a reset of the billing cycle anchor.
    """
    end = unix_seconds(trial_end)
    with events.changing(state, subscription_id) as subscription:
        if subscription.status == "trialing":
            subscription.anchor = end
            for item in state.items_of(subscription):
                item.period = Period(item.period.start, end)
            period_turns.schedule(state, subscription)
        else:
            period_turns.close_all(state, subscription)
            period_turns.begin(state, subscription, end)
            subscription.status = "trialing"
            subscription.trial_start = state.now
        subscription.trial_end = end


def end_trial(state: StripeState, subscription_id: str) -> None:
    """End a subscription's trial now; its usage costs nothing."""
    with events.changing(state, subscription_id) as subscription:
        restart_periods(state, subscription_id)
        subscription.status = "active"
        subscription.trial_end = state.now


def pause_collection(
    state: StripeState, subscription_id: str, behavior: CollectionPause | None, resumes_at: datetime | None = None
) -> None:
    """Pause the collection of payment, until an instant or until it is resumed by None; the periods go on turning."""
    until = None if resumes_at is None else unix_seconds(resumes_at)
    with events.changing(state, subscription_id) as subscription:
        subscription.pause_collection = None if behavior is None else PauseCollection(behavior, until)
    if behavior is not None and until is not None:
        state.schedule(until, "collection", subscription.id)


def resume(state: StripeState, subscription_id: str, *, new_anchor: bool = True) -> None:
    """Resume a paused subscription, with a billing cycle that begins now or with its old one.

    What was used in periods that ended before or while it was paused is billed nowhere.
    """
    with events.changing(state, subscription_id) as subscription:
        items = state.items_of(subscription)
        if not new_anchor:
            items = [item for item in items if item.period.end <= state.now]
        period_turns.close(state, subscription, items, state.now, None)
        if new_anchor:
            period_turns.begin(state, subscription)
        else:
            period_turns.roll(state, subscription, items, state.now)
            period_turns.schedule(state, subscription)
        subscription.status = "active"
    events.of_subscription(state, events.RESUMED, subscription, state.now)


def cancel(state: StripeState, subscription_id: str, *, invoice_now: bool = False) -> None:
    """Cancel a subscription now; its open usage stays unbilled unless it is invoiced now."""
    subscription = state.subscriptions.find(subscription_id)
    if not subscription.ended:
        period_turns.end(state, subscription, state.now, "subscription_update" if invoice_now else None)


def cancel_at_period_end(state: StripeState, subscription_id: str) -> None:
    """Let a subscription end with its current period: with the last one, where its items differ (assumed)."""
    with events.changing(state, subscription_id) as subscription:
        _end_later(state, subscription, period_turns.last_end(state, subscription))
        subscription.cancel_at_period_end = True


def cancel_at(state: StripeState, subscription_id: str, instant: datetime | None) -> None:
    """Let a subscription end at an instant; None keeps it."""
    with events.changing(state, subscription_id) as subscription:
        _end_later(state, subscription, None if instant is None else unix_seconds(instant))


def _end_later(state: StripeState, subscription: Subscription, end: int | None) -> None:
    subscription.cancel_at = end
    subscription.cancel_at_period_end = False
    subscription.canceled_at = None if end is None else state.now
    period_turns.schedule(state, subscription)
