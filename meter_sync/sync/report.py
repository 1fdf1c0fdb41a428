"""The report step: writing what the plan says, item by item, each failure its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.stages import Action, Fail, GiveWay, Part, Result, Set, Unchanged, result
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.ledger import Acknowledgement
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable
from meter_sync.sync.look import interrupted, soonest_first
from meter_sync.sync.progress import Progress
from meter_sync.sync.workers import each
from meter_sync.sync.write import ItemWriter, UnknownAddition

PLANNED_STEP = 0
"""The step under which the ledger keeps a run's planned writes; a correction of one follows it."""
FINISHING_STEP = 10
"""That of finishing what an earlier run had begun."""

_CLAIMED_AT_ONCE = 100
_RECORDED_AT_ONCE = 500
_RECORDED_EVERY_SECONDS = 1.0
_HOPELESS_AFTER = 16
"""So many items in a row without any answer of Stripe, and the rest is not tried in this run."""


class Reporter:
    """Writes the plan of one run to Stripe and records each acknowledgement."""

    def __init__(self, writer: ItemWriter, progress: Progress, step: int = PLANNED_STEP) -> None:
        self._writer = writer
        self._ledger = writer.ledger
        self._clock = writer.clock
        self._progress = progress
        self._step = step
        self._results: dict[str, Result] = {}
        self._acknowledged: list[Acknowledgement] = []
        self._unsent: list[Set] = []
        self._unknown: list[Set] = []
        self._partly: list[Partly] = []
        self._over: list[Set] = []
        self._flushed_at = writer.clock()
        self._unanswered_in_a_row = 0
        self.refused: set[str] = set()
        """The items whose write Stripe refused."""
        self.gave_way = False
        """Whether an item was left to another writer."""
        self.error: MeterSyncError | None = None
        """What ended the reporting before its time: a key that was revoked, a full disk."""

    async def report(self, actions: Sequence[Action]) -> list[Result]:
        """Write all that is planned, the period that ends soonest first, and return what became of each item."""
        planned = soonest_first([action for action in actions if isinstance(action, Set)])
        self._progress.begin("report", len(planned))
        self.gave_way = any(isinstance(action, GiveWay) for action in actions)
        self._ledger.writes.record_looks(_found_empty(actions), self._clock())
        await each(self._claimed(planned), self._report_one, len(planned))
        self._flush()
        return [self._results.get(action.line.item.id) or result(action) for action in actions]

    def _claimed(self, planned: Sequence[Set]) -> Iterator[Set]:
        """Yield the writes that are this run's to make, a few at a time, so that no claim outlives its writing by much.

        What is intended is committed before it is yielded, so that an interrupted run leaves no write that the ledger
        does not know of. An item that another writer has, or has written since it was planned for, is left to it:
        what that one reports is newer.
        """
        waiting = iter(planned)
        while some := list(islice(waiting, _CLAIMED_AT_ONCE)):
            try:
                granted = self._ledger.writes.claim(self._writer.run, some, self._clock(), self._step)
            except MeterSyncError as error:
                self.error = self.error or error
                self._results |= {one.line.item.id: _failed(one, error.message) for one in [*some, *waiting]}
                return
            for one in some:
                if one.line.item.id in granted:
                    yield one
                else:
                    self.gave_way = True
                    self._results[one.line.item.id] = result(GiveWay(one.line))
                    self._progress.advance()

    async def _report_one(self, planned: Set) -> None:
        self._results[planned.line.item.id] = await self._outcome(planned)
        self._over.append(planned)
        self._progress.advance()

    async def _outcome(self, planned: Set) -> Result:
        hopeless = self._why_hopeless()
        if hopeless:
            return self._not_sent(planned, f"not tried: {hopeless}")
        try:
            outcome, acknowledgement = await self._writer.write(planned, self._step)
        except Interrupted:
            self._leave(planned, in_doubt=False)
            return result(interrupted(planned.line))
        except UnknownAddition as surprise:
            self._unknown.append(planned)
            return _failed(planned, surprise.message)
        except StripeRefused as refusal:
            self.refused.add(planned.line.item.id)
            return self._not_sent(planned, f"Stripe refused {_what(planned)}: {refusal.message}")
        except StripeUnavailable as failure:
            self._unanswered_in_a_row += not failure.rate_limited
            self._leave(planned, in_doubt=True)
            return _failed(planned, _unknown(failure))
        except MeterSyncError as error:
            self.error = self.error or error
            return _failed(planned, error.message)
        self._unanswered_in_a_row = 0
        self._acknowledge(acknowledgement)
        return outcome

    def _why_hopeless(self) -> str | None:
        """Return why nothing more is to be tried in this run, or None."""
        if self.error:
            return self.error.message
        if self._unanswered_in_a_row >= _HOPELESS_AFTER:
            return "Stripe did not answer for several items before this one"
        return None

    def _not_sent(self, planned: Set, message: str) -> Result:
        self._leave(planned, in_doubt=False)
        return _failed(planned, message)

    def _leave(self, planned: Set, *, in_doubt: bool) -> None:
        """Keep what became of a write that was not carried out in full; `in_doubt` is the one that was on its way."""
        if not in_doubt:
            self._unsent.append(planned)
        if planned.parts and planned.total_before is None:
            taken = self._writer.sent.get(planned.line.item.id, 0)
            self._partly.append(Partly(planned, planned.sends[taken:], any_taken=taken > 0, in_doubt=in_doubt))

    def _acknowledge(self, done: Acknowledgement) -> None:
        """Keep an acknowledgement, to be recorded with its neighbours.

        What a crash forgets is set again to the same quantity: that costs a request and no money.
        """
        self._acknowledged.append(done)
        due = (self._clock() - self._flushed_at).total_seconds() >= _RECORDED_EVERY_SECONDS
        if due or len(self._acknowledged) + len(self._writer.taken) >= _RECORDED_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Record what has been acknowledged, and take back what was never sent.

        The first write of a look stays intended: it may have been sent by an earlier run, and has to be finished.
        """
        acknowledged, self._acknowledged = self._acknowledged, []
        unsent, self._unsent = self._unsent, []
        unknown, self._unknown = self._unknown, []
        partly, self._partly = self._partly, []
        over, self._over = self._over, []
        taken = list(self._writer.taken)
        self._flushed_at = self._clock()
        try:
            self._ledger.writes.acknowledge_parts(taken)
            del self._writer.taken[: len(taken)]
            self._ledger.writes.acknowledge(self._writer.run, acknowledged)
            for one in partly:
                self._ledger.writes.record_partly(one.planned, one.standing, one.unsent)
            self._ledger.writes.withdraw([planned for planned in unsent if planned.total_before is None])
            self._ledger.writes.release(self._writer.run, over)
            self._ledger.writes.forget((one.line.item.id, one.line.item.period.start) for one in unknown)
        except MeterSyncError as error:
            self.error = self.error or error


@dataclass(frozen=True, slots=True)
class Partly:
    """A write by hours or days that was not carried out in full."""

    planned: Set
    missing: tuple[Part, ...]
    """What Stripe has not acknowledged, in order."""
    any_taken: bool
    in_doubt: bool
    """Whether the first of the missing ones may have arrived."""

    @property
    def unsent(self) -> tuple[Part, ...]:
        """What certainly never arrived."""
        return self.missing[1:] if self.in_doubt else self.missing

    @property
    def standing(self) -> int | None:
        """What Stripe holds of the period as far as it is known, or None where nothing new was taken."""
        if not self.any_taken:
            return None
        return self.planned.quantity - sum(part.value - (part.held or 0) for part in self.missing)


def _found_empty(actions: Sequence[Action]) -> list[str]:
    """Return the items for which Stripe holds nothing and nothing is to be held: they need no second look."""
    return [
        action.line.item.id
        for action in actions
        if isinstance(action, Unchanged) and action.line.quantity == action.line.previous == 0
    ]


def _what(planned: Set) -> str:
    """Return what was to be written, in words."""
    return "one of its hours or days" if planned.parts is not None else "the quantity"


def _unknown(failure: StripeUnavailable) -> str:
    return (
        f"Stripe did not answer: {failure.message}; whether the quantity arrived is unknown, the next run sets it again"
    )


def _failed(planned: Set, message: str) -> Result:
    return result(Fail(planned.line, Reason.STRIPE_ERROR, message))
