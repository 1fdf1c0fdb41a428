"""The first look: reading from Stripe what the ledger does not know, before anything is checked or written."""

from collections.abc import Collection, Sequence

from meter_sync.core.actions import Action, Fail, Line, Set, Skip, UnfinishedLook
from meter_sync.core.look import looked
from meter_sync.core.outcomes import Reason
from meter_sync.errors import Interrupted
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.usage_records import open_period_total
from meter_sync.sync.progress import Progress
from meter_sync.sync.workers import each
from meter_sync.waiting import Stop


async def look(
    actions: Sequence[Action],
    stripe: StripeReader,
    allowed: Collection[Reason],
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
            resumed = planned.look.total_before if isinstance(planned.look, UnfinishedLook) else None
            total = await open_period_total(stripe, item) if resumed is None else resumed
            after[item.id] = looked(planned, total, allowed)
        except Interrupted:
            after[item.id] = interrupted(planned.line)
        except (StripeRefused, StripeUnavailable) as error:
            said = f"Stripe's total could not be read: {error.message}; nothing was written"
            after[item.id] = Fail(planned.line, Reason.STRIPE_ERROR, said)
        progress.advance()

    await each(unknown, look_at)
    return [after.get(action.line.item.id, action) for action in actions]


def soonest_first(planned: Sequence[Set]) -> list[Set]:
    """Return the writes by the end of their period: whatever interrupts a run hits those that have time."""
    return sorted(planned, key=lambda write: write.line.item.period.end)


def interrupted(line: Line) -> Skip:
    """Return what becomes of an item that a signal came before."""
    message = "the run ended before this item; the next run reports it"
    return Skip(line, Reason.INTERRUPTED, message)
