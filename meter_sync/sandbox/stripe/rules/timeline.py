"""What happens by itself as the clock moves, in the order in which it falls due."""

import heapq
from collections.abc import Callable, Mapping

from meter_sync.sandbox.stripe.rules import events, invoices, pending_updates, period_turns, schedules
from meter_sync.sandbox.stripe.state.objects import Due, Happening
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def settle(state: StripeState, now: int) -> None:
    """Let everything happen that was due by now, in Unix seconds, each thing at its own instant.

    What is about the customers of a test clock happens by that one's time.
    """
    state.now = state.real_now = now
    _happen(state, state.due)
    for clock in state.test_clocks:
        with state.in_time_of(clock.id):
            _happen(state, clock.due)


def _happen(state: StripeState, waiting: list[Due]) -> None:
    while waiting and waiting[0].at <= state.now:
        due = heapq.heappop(waiting)
        state.settled_until = max(state.settled_until, due.at)
        _HAPPENINGS[due.what](state, due)
    state.settled_until = max(state.settled_until, state.now)


def _turn(state: StripeState, due: Due) -> None:
    period_turns.turn(state, state.subscriptions[due.id], due.at)


def _draft(state: StripeState, due: Due) -> None:
    """Tell of a draft that was not made at once."""
    invoice = state.invoices.get(due.id)
    if invoice is not None:
        events.of_invoice(state, events.INVOICE_CREATED, invoice, due.at)


def _finalize(state: StripeState, due: Due) -> None:
    invoice = state.invoices.get(due.id)
    if invoice is not None:  # nobody has deleted it
        invoices.finalize(state, invoice, due.at)


def _give_notice(state: StripeState, due: Due) -> None:
    """Tell of a subscription's next invoice, once for each."""
    subscription = state.subscriptions[due.id]
    ends = [item.period.end for item in state.items_of(subscription)]
    quiet = subscription.ended or subscription.status == "paused" or not ends
    if quiet or state.seconds_before_upcoming is None:
        return
    end = due.at + state.seconds_before_upcoming
    if min(ends) == end and state.noticed.get(subscription.id) != end:
        state.noticed[subscription.id] = end
        invoice = invoices.upcoming(state, subscription)
        events.of_invoice(state, events.INVOICE_UPCOMING, invoice, due.at)


def _collect(state: StripeState, due: Due) -> None:
    """Resume the collection of payment, if it is still to be resumed at this instant."""
    subscription = state.subscriptions[due.id]
    pause = subscription.pause_collection
    if pause is not None and pause.resumes_at == due.at and not subscription.ended:
        with events.changing_at(state, subscription, due.at):
            subscription.pause_collection = None


def _begin_or_end_phase(state: StripeState, due: Due) -> None:
    schedules.turn(state, state.schedules[due.id], due.at)


def _expire(state: StripeState, due: Due) -> None:
    pending_updates.expire(state, due.id, due.at)


_HAPPENINGS: Mapping[Happening, Callable[[StripeState, Due], None]] = {
    "period": _turn,
    "draft": _draft,
    "final": _finalize,
    "upcoming": _give_notice,
    "collection": _collect,
    "phase": _begin_or_end_phase,
    "expiry": _expire,
}
