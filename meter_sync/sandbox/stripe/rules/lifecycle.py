"""The life of a subscription: its periods turn, start anew, pause and end.

Sources: Stripe's documentation of subscriptions (billing cycle, trials, pausing, cancellation) and of
metered billing (usage is billed in arrears, with the invoice of the period's end). Where it leaves a
question open, the docstring says what is assumed here.
"""

from collections.abc import Sequence

from meter_sync.sandbox.stripe.rules import events
from meter_sync.sandbox.stripe.rules import invoices as stripe_invoices
from meter_sync.sandbox.stripe.rules.billing_periods import Period, period_at
from meter_sync.sandbox.stripe.state.objects import (
    BillingReason,
    ClosedPeriod,
    Item,
    PauseCollection,
    Subscription,
)
from meter_sync.sandbox.stripe.state.state import StripeState

_CYCLE: BillingReason = "subscription_cycle"
_UPDATE: BillingReason = "subscription_update"


def schedule(state: StripeState, subscription: Subscription) -> None:
    """Note when the subscription's next period ends, and when its invoice is told of beforehand.

    It is not told of afterwards, where that instant is past already or before the period.
    """
    if subscription.ended:
        return
    periods = [item.period for item in state.items_of(subscription)]
    ends = [period.end for period in periods]
    if subscription.cancel_at is not None:
        ends.append(subscription.cancel_at)
    if ends:
        state.schedule(min(ends), "period", subscription.id)
    lead = state.seconds_before_upcoming
    if periods and lead is not None:
        first = min(periods, key=lambda period: period.end)
        notice = first.end - lead
        if notice > max(first.start, state.settled_until):
            state.schedule(notice, "upcoming", subscription.id)


def turn(state: StripeState, subscription: Subscription, at: int) -> None:
    """Bill the items whose period ends at this instant and roll them into the next; or end it all.

    A paused subscription drafts no invoices, and its periods stand still until it is resumed.
    """
    if subscription.ended:
        return
    paused = subscription.status == "paused"
    if subscription.cancel_at is not None and subscription.cancel_at <= at:
        end(state, subscription, at, None if paused else _CYCLE)
        return
    ended = [item for item in state.items_of(subscription) if item.period.end == at]
    if paused or not ended:
        return
    trial_is_over = subscription.status == "trialing" and subscription.trial_end == at
    if trial_is_over and subscription.pauses_after_trial:
        pause(state, subscription, at)
        return
    with events.changing(state, subscription, at):
        _close(state, subscription, ended, at, _CYCLE)
        _roll(state, subscription, ended, at)
        if trial_is_over:
            subscription.status = "active"
    schedule(state, subscription)


def _close(
    state: StripeState, subscription: Subscription, items: Sequence[Item], at: int, reason: BillingReason | None
) -> None:
    """End the open periods of these items, and draft their invoice unless they are billed nowhere."""
    billed = [(item, Period(item.period.start, min(item.period.end, at))) for item in items if item.period.start < at]
    free = subscription.status == "trialing"
    invoice = None
    if billed and reason is not None:
        drafted = stripe_invoices.draft(state, subscription, billed, at=at, free=free, billing_reason=reason)
        invoice = drafted.id
    for item, period in billed:
        item.closed.append(ClosedPeriod(period, invoice, item.price, free))


def _roll(
    state: StripeState, subscription: Subscription, items: Sequence[Item], at: int, until: int | None = None
) -> None:
    """Begin the next period of these items: until an instant, or as their price's interval has it."""
    for item in items:
        price = state.price_of(item)
        regular = period_at(subscription.anchor, price.interval, price.interval_count, at)
        item.period = regular if until is None else Period(at, until)


def end(state: StripeState, subscription: Subscription, at: int, reason: BillingReason | None) -> None:
    """Cancel a subscription at this instant; given no reason for an invoice, its open usage is billed nowhere.

    API reference, Cancel a subscription: `invoice_now` is false by default. With `cancel_at_period_end`
    or `cancel_at` the last period is billed like any other (assumed for a `cancel_at` in mid-period,
    where it ends there).
    """
    with events.changing(state, subscription, at):
        _close(state, subscription, state.items_of(subscription), at, reason)
        subscription.status = "canceled"
        subscription.ended_at = at
        if subscription.canceled_at is None:
            subscription.canceled_at = at


def end_later(state: StripeState, subscription: Subscription, now: int, cancel_at: int | None) -> None:
    """Let a subscription end at an instant; None keeps it."""
    with events.changing(state, subscription, now):
        subscription.cancel_at = cancel_at
        subscription.cancel_at_period_end = False
        subscription.canceled_at = None if cancel_at is None else now
    schedule(state, subscription)


def end_with_period(state: StripeState, subscription: Subscription, now: int) -> None:
    """Let a subscription end with its current period: with the last one, where its items differ (assumed)."""
    with events.changing(state, subscription, now):
        end_later(state, subscription, now, _last_end(state, subscription, now))
        subscription.cancel_at_period_end = True


def _last_end(state: StripeState, subscription: Subscription, now: int) -> int:
    return max((item.period.end for item in state.items_of(subscription)), default=now)


def close_all(state: StripeState, subscription: Subscription, now: int) -> None:
    """Bill all open periods up to now; `begin` is to follow."""
    _close(state, subscription, state.items_of(subscription), now, _UPDATE)


def begin(state: StripeState, subscription: Subscription, now: int, until: int | None = None) -> None:
    """Begin new periods now, with the billing cycle anchored here, or where the first period ends."""
    subscription.anchor = now if until is None else until
    _roll(state, subscription, state.items_of(subscription), now, until)
    if subscription.cancel_at_period_end:
        subscription.cancel_at = _last_end(state, subscription, now)
    schedule(state, subscription)


def restart(state: StripeState, subscription: Subscription, now: int) -> None:
    """Reset the billing cycle anchor to now: what is open is billed, and new periods begin."""
    with events.changing(state, subscription, now):
        close_all(state, subscription, now)
        begin(state, subscription, now)


def start_trial(state: StripeState, subscription: Subscription, now: int, trial_end: int) -> None:
    """Put a subscription on trial until an instant; of one that is on trial, move the end.

    Assumed: what was used before is billed at once, as with a reset of the billing cycle anchor.
    """
    with events.changing(state, subscription, now):
        if subscription.status == "trialing":
            subscription.anchor = trial_end
            for item in state.items_of(subscription):
                item.period = Period(item.period.start, trial_end)
            schedule(state, subscription)
        else:
            close_all(state, subscription, now)
            begin(state, subscription, now, trial_end)
            subscription.status = "trialing"
            subscription.trial_start = now
        subscription.trial_end = trial_end


def end_trial(state: StripeState, subscription: Subscription, now: int) -> None:
    """End a trial now; its usage costs nothing."""
    with events.changing(state, subscription, now):
        restart(state, subscription, now)
        subscription.status = "active"
        subscription.trial_end = now


def pause(state: StripeState, subscription: Subscription, at: int) -> None:
    """Pause a subscription, as happens at the end of a trial without a payment method."""
    with events.changing(state, subscription, at):
        subscription.status = "paused"
    events.of_subscription(state, events.PAUSED, subscription, at)


def resume(state: StripeState, subscription: Subscription, now: int, *, new_anchor: bool) -> None:
    """Resume a paused subscription, with a new billing cycle or with the one that it had.

    What was used in periods that ended before or while it was paused is billed nowhere.
    """
    with events.changing(state, subscription, now):
        items = state.items_of(subscription)
        if not new_anchor:
            items = [item for item in items if item.period.end <= now]
        _close(state, subscription, items, now, None)
        if new_anchor:
            begin(state, subscription, now)
        else:
            _roll(state, subscription, items, now)
            schedule(state, subscription)
        subscription.status = "active"
    events.of_subscription(state, events.RESUMED, subscription, now)


def pause_collection(state: StripeState, subscription: Subscription, now: int, pause: PauseCollection | None) -> None:
    """Stop or resume collecting payment; the periods go on turning."""
    with events.changing(state, subscription, now):
        subscription.pause_collection = pause
    if pause is not None and pause.resumes_at is not None:
        state.schedule(pause.resumes_at, "collection", subscription.id)
