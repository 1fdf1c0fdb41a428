"""The billing periods of a subscription turn at their ends, begin anew and end with it.

Sources: Stripe's documentation of subscriptions (billing cycle, trials, pausing, cancellation) and of
metered billing (usage is billed in arrears, with the invoice of the period's end). Where it leaves a
question open, the docstring says what is assumed here.
"""

from collections.abc import Sequence

from meter_sync.sandbox.stripe.rules import events, invoices
from meter_sync.sandbox.stripe.rules.billing_periods import period_at
from meter_sync.sandbox.stripe.state.objects import BillingReason, ClosedPeriod, Item, Period, Subscription
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

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
    with events.changing_at(state, subscription, at):
        close(state, subscription, ended, at, _CYCLE)
        roll(state, subscription, ended, at)
        if trial_is_over:
            subscription.status = "active"
    schedule(state, subscription)


def close(
    state: StripeState, subscription: Subscription, items: Sequence[Item], at: int, reason: BillingReason | None
) -> None:
    """End the open periods of these items, and draft their invoice unless they are billed nowhere."""
    billed = [(item, Period(item.period.start, min(item.period.end, at))) for item in items if item.period.start < at]
    free = subscription.status == "trialing"
    invoice = None
    if billed and reason is not None:
        drafted = invoices.draft(state, subscription, billed, at=at, free=free, billing_reason=reason)
        invoice = drafted.id
    for item, period in billed:
        item.closed.append(ClosedPeriod(period, invoice, item.price, free, item.billed_since))


def roll(
    state: StripeState, subscription: Subscription, items: Sequence[Item], at: int, until: int | None = None
) -> None:
    """Begin the next period of these items: until an instant, or as their price's interval has it."""
    for item in items:
        regular = period_at(subscription.anchor, state.price_of(item), at)
        item.period = regular if until is None else Period(at, until)


def end(state: StripeState, subscription: Subscription, at: int, reason: BillingReason | None) -> None:
    """Cancel a subscription at this instant; given no reason for an invoice, its open usage is billed nowhere.

    API reference, Cancel a subscription: `invoice_now` is false by default. With `cancel_at_period_end`
    or `cancel_at` the last period is billed like any other (assumed for a `cancel_at` in mid-period,
    where it ends there).
    """
    with events.changing_at(state, subscription, at):
        close(state, subscription, state.items_of(subscription), at, reason)
        subscription.status = "canceled"
        _end_what_is_planned(state, subscription, at)
        subscription.ended_at = at
        if subscription.canceled_at is None:
            subscription.canceled_at = at


def _end_what_is_planned(state: StripeState, subscription: Subscription, at: int) -> None:
    """Cancel the schedule of a subscription that is canceled, and discard its pending update."""
    if subscription.schedule is not None:
        schedule = state.schedules[subscription.schedule]
        schedule.status, schedule.ended_at = "canceled", at
    subscription.schedule = subscription.pending_update = None


def close_all(state: StripeState, subscription: Subscription) -> None:
    """Bill all open periods up to now; `begin` is to follow."""
    close(state, subscription, state.items_of(subscription), state.now, _UPDATE)


def begin(state: StripeState, subscription: Subscription, until: int | None = None) -> None:
    """Begin new periods now, with the billing cycle anchored here, or where the first period ends."""
    subscription.anchor = state.now if until is None else until
    roll(state, subscription, state.items_of(subscription), state.now, until)
    if subscription.cancel_at_period_end:
        subscription.cancel_at = last_end(state, subscription)
    schedule(state, subscription)


def last_end(state: StripeState, subscription: Subscription) -> int:
    """Return the end of the open period that ends last; now, for a subscription without items."""
    return max((item.period.end for item in state.items_of(subscription)), default=state.now)


def pause(state: StripeState, subscription: Subscription, at: int) -> None:
    """Pause a subscription, as happens at the end of a trial without a payment method."""
    with events.changing_at(state, subscription, at):
        subscription.status = "paused"
    events.of_subscription(state, events.PAUSED, subscription, at)
