"""The report step: writing what the plan says, item by item, each failure its own."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from meter_sync.core.actions import Action, Fail, Line, Result, Set, Skip, Unchanged, UnfinishedLook, result
from meter_sync.core.foreign import foreign_usage, topped_up
from meter_sync.core.look import looked
from meter_sync.core.outcomes import Reason
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.ledger import Acknowledgement, Ledger, RunRecord
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable, StripeWriter
from meter_sync.stripe_api.usage_records import open_period_total, set_quantity
from meter_sync.sync.adapters import Clock
from meter_sync.sync.progress import Progress
from meter_sync.sync.workers import each
from meter_sync.waiting import Stop

_RECORDED_AT_ONCE = 100
_RECORDED_EVERY_SECONDS = 1.0
_HOPELESS_AFTER = 16
"""So many items in a row without any answer of Stripe, and the rest is not tried in this run."""


async def look(
    actions: Sequence[Action],
    stripe: StripeReader,
    allowed: Collection[Reason],
    stop: Stop,
    progress: Progress,
) -> list[Action]:
    """Given the plan, return it after reading from Stripe what the ledger does not know."""
    after: dict[str, Action] = {}
    unknown = [action for action in actions if isinstance(action, Set) and action.look]
    progress.begin("look", len(unknown))

    async def look_at(planned: Set) -> None:
        item = planned.line.item.id
        try:
            stop.check()
            resumed = planned.look.total_before if isinstance(planned.look, UnfinishedLook) else None
            total = await open_period_total(stripe, item) if resumed is None else resumed
            after[item] = looked(planned, total, allowed)
        except Interrupted:
            after[item] = interrupted(planned.line)
        except (StripeRefused, StripeUnavailable) as error:
            after[item] = _failed(planned, f"Stripe's total could not be read: {error.message}; nothing was written")
        progress.advance()

    await each(unknown, look_at)
    return [after.get(action.line.item.id, action) for action in actions]


def interrupted(line: Line) -> Skip:
    """Return what becomes of an item that a signal came before."""
    message = "the run was interrupted before this item; the next run reports it"
    return Skip(line, Reason.INTERRUPTED, message)


class Reporter:
    """Writes the plan of one run to Stripe and records each acknowledgement."""

    def __init__(
        self,
        stripe: StripeWriter,
        ledger: Ledger,
        run: RunRecord,
        allowed: Collection[Reason],
        clock: Clock,
        stop: Stop,
        progress: Progress,
    ) -> None:
        self._stripe = stripe
        self._ledger = ledger
        self._run = run
        self._allowed = allowed
        self._clock = clock
        self._stop = stop
        self._progress = progress
        self._results: dict[str, Result] = {}
        self._unrecorded: list[Acknowledgement] = []
        self._recorded_at = clock()
        self._unanswered_in_a_row = 0
        self.error: MeterSyncError | None = None
        """What ended the reporting before its time: a key that was revoked, a full disk."""

    async def report(self, actions: Sequence[Action]) -> list[Result]:
        """Write all that is planned, the period that ends soonest first, and return what became of each item.

        Everything that is intended is committed before the first request, so that an interrupted run leaves no
        write that the ledger does not know of.
        """
        planned = sorted(
            (action for action in actions if isinstance(action, Set)),
            key=lambda action: action.line.item.period.end,
        )
        self._progress.begin("report", len(planned))
        self._ledger.intend(self._run, planned, self._clock())
        self._ledger.record_looks(_seen_empty(actions), self._clock())
        await each(planned, self._report_one)
        self._record()
        return [self._results.get(action.line.item.id) or result(action) for action in actions]

    async def _report_one(self, planned: Set) -> None:
        try:
            outcome = await self._written(planned)
        except Interrupted:
            outcome = result(interrupted(planned.line))
        except StripeRefused as refusal:
            outcome = result(_failed(planned, f"Stripe refused the quantity: {refusal.message}"))
        except StripeUnavailable as failure:
            self._unanswered_in_a_row += 1
            outcome = result(_failed(planned, _unknown(failure)))
        except MeterSyncError as error:
            self.error = self.error or error
            outcome = result(_failed(planned, error.message))
        self._results[planned.line.item.id] = outcome
        self._progress.advance()

    async def _written(self, planned: Set) -> Result:
        self._stop.check()
        if self.error:
            return result(_failed(planned, f"not tried: {self.error.message}"))
        if self._unanswered_in_a_row >= _HOPELESS_AFTER:
            return result(_failed(planned, "not tried: Stripe did not answer for several items before this one"))
        request_id = await self._set(planned)
        self._unanswered_in_a_row = 0
        if planned.total_before is not None:
            return await self._whose(planned, request_id)
        self._acknowledge(Acknowledgement(planned, self._clock(), request_id))
        return result(planned, reported=True)

    async def _set(self, planned: Set) -> str | None:
        return await set_quantity(self._stripe, planned.line.item.id, planned.anchor, planned.at_anchor)

    async def _whose(self, planned: Set, request_id: str | None) -> Result:
        """Finish a first look: after the anchor was set, what the total has beyond it is other records'."""
        total_after = await open_period_total(self._stripe, planned.line.item.id)
        foreign = total_after - planned.quantity
        if foreign == 0:
            self._acknowledge(Acknowledgement(planned, self._clock(), request_id))
            return result(planned, reported=True)
        rest = topped_up(planned, foreign, self._allowed)
        if rest is None:
            await self._leave(_as_it_was(planned, foreign), request_id)
            return result(foreign_usage(planned.line, planned.quantity, foreign))
        self._ledger.intend(self._run, [replace(rest, total_before=planned.total_before)], self._clock(), step=1)
        request_id = await self._set(rest)
        self._acknowledge(Acknowledgement(rest, self._clock(), request_id, step=1))
        return result(rest, reported=True)

    async def _leave(self, before: Set, request_id: str | None) -> None:
        """Set the anchor back to what it held before the look, and remember what other records hold."""
        self._ledger.intend(self._run, [before], self._clock(), step=1)
        if before.line.item.price.aggregate_usage == "sum":
            request_id = await self._set(before)
        self._acknowledge(Acknowledgement(before, self._clock(), request_id, step=1, foreign_held=True))
        self._ledger.forget_looks([before.line.item.id])

    def _acknowledge(self, done: Acknowledgement) -> None:
        """Keep an acknowledgement, to be recorded with its neighbours.

        What a crash forgets is set again to the same quantity: that costs a request and no money.
        """
        self._unrecorded.append(done)
        due = (self._clock() - self._recorded_at).total_seconds() >= _RECORDED_EVERY_SECONDS
        if due or len(self._unrecorded) >= _RECORDED_AT_ONCE:
            self._record()

    def _record(self) -> None:
        recorded, self._unrecorded = self._unrecorded, []
        self._recorded_at = self._clock()
        try:
            self._ledger.acknowledge(self._run, recorded)
        except MeterSyncError as error:
            self.error = self.error or error


def _as_it_was(planned: Set, foreign: int) -> Set:
    """Return the write that leaves Stripe's total where the look had found it.

    On a `sum` price the anchor held what the total had beyond the other records. On any other one the anchor's
    record is not what the total came from, so it stays.
    """
    if planned.line.item.price.aggregate_usage != "sum":
        return replace(planned, quantity=planned.quantity + foreign, foreign=foreign)
    held_at_anchor = max(0, (planned.total_before or 0) - foreign)
    return replace(planned, quantity=held_at_anchor + foreign, foreign=foreign)


def _seen_empty(actions: Sequence[Action]) -> list[str]:
    return [action.line.item.id for action in actions if isinstance(action, Unchanged)]


def _unknown(failure: StripeUnavailable) -> str:
    return (
        f"Stripe did not answer: {failure.message}; whether the quantity arrived is unknown, the next run sets it again"
    )


def _failed(planned: Set, message: str) -> Fail:
    return Fail(planned.line, Reason.STRIPE_ERROR, message)
