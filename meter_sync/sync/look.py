"""The first look: reading from Stripe what the ledger does not know, before anything is checked or written."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from meter_sync.core.billing.item import Ending, Period
from meter_sync.core.billing.span import summary_before
from meter_sync.core.billing.way import Way, meter_on, part_of
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.first_sight import looked, looked_at_event_total
from meter_sync.core.planning.stages import Action, Fail, Hold, Line, Set, Skip, UnfinishedLook, span_of
from meter_sync.core.planning.totals import Policy, closed_at
from meter_sync.core.planning.windows import looked_at_windows
from meter_sync.core.text import utc
from meter_sync.errors import Interrupted
from meter_sync.net.stop import Stop
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.meter_events import event_total, window_totals
from meter_sync.sync.held import held_total
from meter_sync.sync.progress import Progress
from meter_sync.sync.workers import each

log = structlog.get_logger()


async def look(
    actions: Sequence[Action],
    stripe: StripeReader,
    policy: Policy,
    stop: Stop,
    progress: Progress,
) -> list[Action]:
    """Given the plan, return it after reading from Stripe what the ledger does not know.

    The period that ends soonest is looked at first; a look that fails is its item's own matter.
    """
    after: dict[str, Action] = {}
    unknown = soonest_first([action for action in actions if isinstance(action, Set) and action.look])
    progress.begin("look", len(unknown))

    async def look_at(planned: Set) -> None:
        item = planned.line.item
        try:
            stop.check()
            after[item.id] = await _look_for(planned)(planned, stripe, policy)
        except Interrupted:
            after[item.id] = interrupted(planned.line)
        except (StripeRefused, StripeUnavailable) as error:
            said = f"Stripe's total could not be read: {error.message}; nothing was written"
            after[item.id] = Fail(planned.line, Reason.STRIPE_ERROR, said)
        progress.advance()

    await each(unknown, look_at, len(unknown))
    return [after.get(action.line.item.id, action) for action in actions]


async def _look_at_records(planned: Set, stripe: StripeReader, policy: Policy) -> Action:
    resumed = planned.look.total_before if isinstance(planned.look, UnfinishedLook) else None
    total = await held_total(planned.line, stripe) if resumed is None else resumed
    return looked(planned, total, policy.allowed)


async def _look_at_event_total(planned: Set, stripe: StripeReader, policy: Policy) -> Action:
    held = await _held_by_what_was_before(planned, stripe, policy)
    if held:
        return held
    return looked_at_event_total(planned, await held_total(planned.line, stripe), policy)


async def _held_by_what_was_before(planned: Set, stripe: StripeReader, policy: Policy) -> Hold | None:
    """Hold an item that was added in mid-period, where Stripe has the customer's events from before on its meter.

    They are of an item whose place it took while no ledger knew, or of another program. Stripe bills them with this
    item, so what it should hold cannot be told.
    """
    item = planned.line.item
    before = summary_before(item)
    if before is None or Reason.FOREIGN_USAGE in policy.allowed:
        return None
    total = await event_total(stripe, meter_on(item).id, item.subscription.customer.id, before)
    if not total:
        return None
    return Hold(
        planned.line,
        Reason.FOREIGN_USAGE,
        f"Stripe holds {total} of its customer on the billing meter from before it was added at "
        f"{utc(item.created)}, of an item whose place it took or of another program, and bills that with "
        "this item; nothing was written: settle this period by hand, or report what was used since it was added with "
        "--allow foreign_usage",
    )


async def _look_at_windows(planned: Set, stripe: StripeReader, policy: Policy) -> Action:
    """Read what Stripe holds in each window, but first whether it holds anything: that is one request, not eight."""
    held = await _held_by_what_was_before(planned, stripe, policy)
    if held:
        return held
    item, customer = planned.line.item, planned.line.item.subscription.customer.id
    meter = meter_on(item)
    window = part_of(planned.line.way, item.price)
    span = span_of(planned.line)
    whole = Period(window.floor(span.start), window.floor(span.end - timedelta(seconds=1)) + window.length)
    found: dict[datetime, int] = {}
    if await event_total(stripe, meter.id, customer, whole):
        found = await window_totals(stripe, meter, customer, window, whole)
    return looked_at_windows(planned, found, policy)


async def _read_back(planned: Set, stripe: StripeReader, _policy: Policy) -> Action:
    """Read what Stripe holds of a period of which it takes no more; where it does not say, what it took stands."""
    item = planned.line.item
    try:
        held = await held_total(planned.line, stripe)
    except StripeRefused as refusal:
        log.warning("not_read_back", item=item.id, message=refusal.message)
        held = planned.quantity
    return replace(closed_at(planned, held), look=None)


def _look_for(planned: Set) -> Callable[[Set, StripeReader, Policy], Awaitable[Action]]:
    return _LOOKS[planned.method.way] if planned.line.ending is Ending.OPEN else _read_back


_LOOKS: dict[Way, Callable[[Set, StripeReader, Policy], Awaitable[Action]]] = {
    Way.RECORD: _look_at_records,
    Way.DAY_RECORDS: _look_at_records,
    Way.LAST: _look_at_event_total,
    Way.ADDITIONS: _look_at_event_total,
    Way.WINDOWS: _look_at_windows,
}


def soonest_first(planned: Sequence[Set]) -> list[Set]:
    """Return the writes by the end of their period: whatever interrupts a run hits those that have time."""
    return sorted(planned, key=lambda write: write.line.item.period.end)


def interrupted(line: Line) -> Skip:
    """Return what becomes of an item that a signal came before."""
    message = "the run ended before this item; the next run reports it"
    return Skip(line, Reason.INTERRUPTED, message)
