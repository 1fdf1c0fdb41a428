"""Subscription schedules: how one is made of a running subscription, and what its phases do as they begin and end.

Sources: Stripe's documentation of subscription schedules and API reference, Subscription schedules. Schedules that
begin a subscription are not modelled. Assumed, since the documentation leaves it open: an item on a price that a phase
does not have is replaced by one on a price that it has, both at the phase's start, or with
`StripeState.phases_change_prices` moves to it; usage records go with an item that a phase does not have; the last
period before `end_behavior=cancel` is billed as before any `cancel_at`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise

from meter_sync.sandbox.instants import unix_seconds
from meter_sync.sandbox.stripe.protocol.errors import Refusal
from meter_sync.sandbox.stripe.rules import events, period_turns, subscription_items, subscriptions
from meter_sync.sandbox.stripe.state.objects import Subscription
from meter_sync.sandbox.stripe.state.schedules import EndBehavior, Phase, PhaseItem, Schedule, ScheduleStatus
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def add_schedule(state: StripeState, subscription_id: str) -> str:
    """Make a schedule of a subscription, and return its id: its phase is the subscription as it is in this period."""
    subscription = state.subscriptions.find(subscription_id, param="from_subscription", status=400)
    if subscription.ended or subscription.schedule:
        raise Refusal("You cannot migrate a subscription that is canceled or already attached to a schedule.")
    items = state.items_of(subscription)
    phase = Phase(
        min((item.period.start for item in items), default=state.now),
        min((item.period.end for item in items), default=state.now),
        tuple(PhaseItem(item.price, item.quantity) for item in items),
    )
    id = state.new_id("sub_sched")
    schedule = Schedule(id, state.now, subscription.customer, subscription.id, [phase], phase.start)
    state.schedules.add(schedule, f"customer:{subscription.customer}")
    with events.changing(state, subscription.id):
        subscription.schedule = schedule.id
    state.schedule(phase.end, "phase", schedule.id)
    return schedule.id


def set_phases(
    state: StripeState, schedule_id: str, phases: Sequence[Phase], end_behavior: EndBehavior = "release"
) -> None:
    """Give a schedule other phases; the one that is now has to go on."""
    schedule = _active(state, schedule_id)
    ordered = all(before.end == after.start for before, after in pairwise(phases))
    if not phases or not ordered or any(phase.end <= phase.start for phase in phases):
        raise Refusal("The phases of a schedule must follow each other without gaps.", param="phases")
    for price in {item.price for phase in phases for item in phase.items}:
        state.prices.find(price, param="phases", status=400)
    now = schedule.phase_at(state.now)
    if now is None or now.start not in {phase.start for phase in phases}:
        raise Refusal("You can not modify the start date of the current phase.", param="phases")
    schedule.phases, schedule.end_behavior = list(phases), end_behavior
    for phase in phases:
        state.schedule(phase.end, "phase", schedule.id)


def plan_change(
    state: StripeState,
    subscription_id: str,
    at: datetime,
    prices: Iterable[str],
    *,
    restarts_periods: bool = False,
) -> str:
    """Let a subscription have these prices, and no other ones, from an instant on; return the schedule that does it."""
    schedule_id = add_schedule(state, subscription_id)
    now, instant = state.schedules[schedule_id].phases[0], unix_seconds(at)
    items = tuple(PhaseItem(price) for price in prices)
    changed = Phase(instant, max(now.end, instant + 1), items, restarts_periods)
    set_phases(state, schedule_id, [Phase(now.start, instant, now.items), changed])
    return schedule_id


def release(state: StripeState, schedule_id: str) -> None:
    """Stop a schedule; its subscription goes on as it is."""
    _end(state, _active(state, schedule_id), "released")


def cancel(state: StripeState, schedule_id: str) -> None:
    """Stop a schedule and cancel its subscription now (API reference, Cancel a schedule)."""
    schedule = _active(state, schedule_id)
    _end(state, schedule, "canceled")
    subscriptions.cancel(state, schedule.subscription)


def turn(state: StripeState, schedule: Schedule, at: int) -> None:
    """Carry out what a schedule has at this instant, at which one of its phases ends, or was to end."""
    subscription = state.subscriptions[schedule.subscription]
    if schedule.status != "active":
        return
    begun = next((phase for phase in schedule.phases if phase.start == at > schedule.begun), None)
    with state.at(at):
        if begun is not None:
            schedule.begun = at
            _begin(state, subscription, begun)
        elif schedule.phases[-1].end == at:
            _end(state, schedule, "completed" if schedule.end_behavior == "cancel" else "released")
            if schedule.end_behavior == "cancel":
                period_turns.end(state, subscription, at, "subscription_cycle")


def _begin(state: StripeState, subscription: Subscription, phase: Phase) -> None:
    """Let a subscription have what a phase has."""
    has = {item.price: item.id for item in state.items_of(subscription)}
    wanted = {item.price: item.quantity for item in phase.items}
    gone = [id for price, id in has.items() if price not in wanted]
    new = [price for price in wanted if price not in has]
    with events.changing(state, subscription.id):
        if phase.restarts_periods:
            subscriptions.restart_periods(state, subscription.id)
        while state.phases_change_prices and gone and new:
            subscription_items.change_price(state, gone.pop(0), new.pop(0))
        for price in new:
            subscription_items.add_item(state, subscription.id, price, quantity=wanted[price])
        for id in gone:
            subscription_items.delete_item(state, id, clear_usage=True)


def _active(state: StripeState, schedule_id: str) -> Schedule:
    schedule = state.schedules.find(schedule_id)
    if schedule.status != "active":
        raise Refusal(f"You cannot change a subscription schedule that is currently in the `{schedule.status}` status.")
    return schedule


def _end(state: StripeState, schedule: Schedule, status: ScheduleStatus) -> None:
    schedule.status, schedule.ended_at = status, state.now
    with events.changing(state, schedule.subscription) as subscription:
        subscription.schedule = None
