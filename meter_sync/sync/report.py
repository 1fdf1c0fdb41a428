"""The report step: writing what the plan says, item by item, each failure its own."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import structlog

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.results import failed, gave_way, interrupted, result
from meter_sync.core.planning.sends import SetWindows, WindowQuantity
from meter_sync.core.planning.stages import Acknowledged, Checked, Intended, Result, Write
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.ledger.store import RowUnwritten
from meter_sync.net.tasks import together
from meter_sync.stripe_api.connection import StripeNotTried, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.meter_event_stream import MeterEventStream
from meter_sync.sync.batches import packed, send_batches, stream_for, takes
from meter_sync.sync.claims import ClaimLost
from meter_sync.sync.job import Job
from meter_sync.sync.progress import Progress
from meter_sync.sync.refused import with_refused
from meter_sync.sync.request import RunReport
from meter_sync.sync.workers import each
from meter_sync.sync.write import ItemWriter, UnknownAddition, writer_of

log = structlog.get_logger()

PLANNED_WRITE = 0
"""The number under which the ledger keeps a run's planned writes; a correction of one follows it."""
RESUMED_WRITE = 10
"""That of finishing what an earlier run had begun."""

_CLAIMED_AT_ONCE = 100
_PACKS_AT_ONCE = 2
"""While one is sent, the other is intended and recorded."""
_RECORDED_AT_ONCE = 500
_RECORDED_EVERY_SECONDS = 1.0


async def report(job: Job, checked: Sequence[Checked | Result], beside: Sequence[Write] = ()) -> RunReport:
    """Report and record what passed the check; a dry run returns what that would be.

    `beside` are other writes of the run at this time, which are reported apart.
    """
    if job.writer is None:
        return RunReport([result(one) for one in checked])
    reporter = Reporter(writer_of(job), job.progress, stream=stream_for(job, [*written(checked), *beside]))
    results = with_refused(job.ledger, await reporter.report(checked))
    job.ledger.rejections.record_shown([one.item.key for one in results if one.reason is Reason.REJECTED])
    log.info("report", **Counter(one.outcome.value for one in results))
    return RunReport(results, reporter.error, gave_way=reporter.gave_way, refused=frozenset(reporter.refused))


def written(checked: Sequence[Checked | Result]) -> list[Checked]:
    """Return what is to be written of what was checked."""
    return [one for one in checked if not isinstance(one, Result)]


@dataclass(slots=True)
class _News:
    """What has happened and is not recorded yet."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    unsent: list[Write] = field(default_factory=list)
    unknown: list[Write] = field(default_factory=list)
    partly: list[tuple[Write, int | None, tuple[WindowQuantity, ...]]] = field(default_factory=list)
    """Writes by hours or days that were not carried out in full, what stands of each, and what never arrived."""
    over: list[Write] = field(default_factory=list)


class Reporter:
    """Writes the plan of one run to Stripe and records each acknowledgement."""

    def __init__(
        self,
        writer: ItemWriter,
        progress: Progress,
        number: int = PLANNED_WRITE,
        stream: MeterEventStream | None = None,
    ) -> None:
        """Let a stream take what it can of the plan, if there is one."""
        self._writer = writer
        self._stream = stream
        self._ledger = writer.ledger
        self._clock = writer.clock
        self._progress = progress
        self._number = number
        self._results: dict[str, Result] = {}
        self._news = _News()
        self._recorded_at = writer.clock()
        self.refused: set[str] = set()
        """The items whose write Stripe refused."""
        self.gave_way = False
        """Whether an item was left to another writer."""
        self.error: MeterSyncError | None = None
        """What ended the reporting before its time: a key that was revoked, a full disk."""

    async def report(self, checked: Sequence[Checked | Result]) -> list[Result]:
        """Write all that is planned, the period that ends soonest first, and return what became of each item.

        Whatever interrupts a run hits those that have time.
        """
        done = [one for one in checked if isinstance(one, Result)]
        planned = sorted((one for one in checked if not isinstance(one, Result)), key=lambda one: one.item.period.end)
        self._progress.begin("report", len(planned))
        self.gave_way = any(one.gave_way for one in done)
        self._ledger.writes.record_looks(self._writer.run, _found_empty(done), self._clock())
        await self._report_all(planned)
        self._record()
        return [self._results.get(one.item.id) or result(one) for one in checked]

    async def _report_all(self, planned: Sequence[Checked]) -> None:
        """Write one by one and, beside that, many at once what the stream takes."""
        if self._stream is None:
            await self._report_singly(self._claimed(planned), len(planned))
            return
        many, others = [one for one in planned if takes(one)], [one for one in planned if not takes(one)]
        singly = self._report_singly(self._claimed(others), len(others))
        await together([self._report_many(self._stream, many), singly])

    async def _report_singly(self, claimed: Iterator[Intended], at_most: int) -> None:
        await each(claimed, self._report_one, at_most)

    async def _report_many(self, stream: MeterEventStream, planned: Sequence[Checked]) -> None:
        """Let the stream take what it can before each item has its turn; the rest goes singly once it is not usable."""

        async def report_pack(pack: Sequence[Intended]) -> None:
            if not self.error:
                await send_batches(stream, self._writer, pack)
            await self._report_singly(iter(pack), len(pack))

        claimed = self._claimed(planned)
        await stream.open()
        await each(packed(stream, claimed), report_pack, _PACKS_AT_ONCE)
        await self._report_singly(claimed, len(planned))

    def _claimed(self, planned: Sequence[Checked]) -> Iterator[Intended]:
        """Yield the writes that are this run's to make, a few at a time, so that no claim outlives its writing by much.

        What is intended is committed before it is yielded, so that an interrupted run leaves no write that the ledger
        does not know of. An item that another writer has, or has written since it was planned for, is left to it:
        what that one reports is newer.
        """
        waiting = iter(planned)
        while some := list(islice(waiting, _CLAIMED_AT_ONCE)):
            try:
                at = self._clock()
                granted = self._ledger.writes.claim(self._writer.run, some, at, self._number)
            except MeterSyncError as error:
                self.error = self.error or error
                self._results |= {one.item.id: _failed(one, error.message, error) for one in [*some, *waiting]}
                return
            ours = {one.write.item.id for one in granted}
            self._writer.claims.begin(ours, at)
            yield from granted
            for one in some:
                if one.item.id not in ours:
                    self._results[one.item.id] = self._not_granted(one)
                    self._progress.advance()

    def _not_granted(self, one: Checked) -> Result:
        refused = self._ledger.refused.get(one.item.key)
        if refused:
            return failed(one.found, Reason.LEDGER_ERROR, f"{refused.why}; nothing was written for it")
        if damaged := self._ledger.damaged.get(one.item.id):
            return failed(one.found, Reason.LEDGER_ERROR, damaged)
        self.gave_way = True
        return gave_way(one.found)

    async def _report_one(self, intended: Intended) -> None:
        self._results[intended.write.item.id] = await self._outcome(intended)
        self._news.over.append(intended.write)
        self._writer.claims.end(intended.write.item.id)
        self._progress.advance()

    async def _outcome(self, intended: Intended) -> Result:
        write, writer = intended.write, self._writer
        writer.keep_streamed(write)
        if self.error and not writer.is_taken(write):
            return self._not_sent(write, f"not tried: {self.error.message}", self.error)
        try:
            outcome, acknowledged = await writer.write(intended)
        except Interrupted:
            self._leave(write, in_doubt=False)
            return interrupted(write.found)
        except ClaimLost:  # what is in the ledger of it is the other run's by now
            self.gave_way = True
            return gave_way(write.found)
        except UnknownAddition as surprise:
            self._news.unknown.append(write)
            return _failed(write, surprise.message)
        except StripeRefused as refusal:
            self.refused.add(write.item.id)
            what = "one of its hours or days" if isinstance(write.sends, SetWindows) else "the quantity"
            return self._not_sent(write, f"Stripe refused {what}: {refusal.message}")
        except StripeNotTried as failure:
            return self._not_sent(write, f"not tried: {failure.message}")
        except StripeUnavailable as failure:
            self._leave(write, in_doubt=True)
            return _failed(
                write,
                f"Stripe did not answer: {failure.message}; whether the quantity arrived is unknown, the next run sets "
                "it again",
            )
        except RowUnwritten as error:  # what was begun is resumed by the next run
            return failed(write.found, Reason.LEDGER_ERROR, error.message)
        except MeterSyncError as error:
            self.error = self.error or error
            return _failed(write, error.message, error)
        self._acknowledge(acknowledged)
        return outcome

    def _not_sent(self, write: Write, message: str, why: MeterSyncError | None = None) -> Result:
        self._leave(write, in_doubt=False)
        return _failed(write, message, why)

    def _leave(self, write: Write, *, in_doubt: bool) -> None:
        """Keep what became of a write that was not carried out in full; `in_doubt` is the one that was on its way."""
        writer = self._writer
        if isinstance(write.sends, SetWindows):
            missing = writer.missing(write.item, write.sends)
            unsent = missing[1:] if in_doubt else missing
            unsent = tuple(one for one in unsent if not writer.may_be_there(write, one.start))
            in_doubt = in_doubt or len(unsent) < len(missing)
            if write.sends.windows and write.total_before is None:
                # Where nothing new was taken, what stands is not known from this.
                any_taken = len(missing) < len(write.sends.sent)
                standing = (
                    write.quantity - sum(one.value - (one.standing or 0) for one in missing) if any_taken else None
                )
                self._news.partly.append((write, standing, unsent))
        if not (in_doubt or writer.may_be_there(write, write.anchor)):
            self._news.unsent.append(write)

    def _acknowledge(self, done: Acknowledged) -> None:
        """Keep an acknowledgement, to be recorded with its neighbours.

        What a crash forgets is set again to the same quantity: that costs a request and no money.
        """
        self._news.acknowledged.append(done)
        due = (self._clock() - self._recorded_at).total_seconds() >= _RECORDED_EVERY_SECONDS
        if due or len(self._news.acknowledged) + len(self._writer.taken) >= _RECORDED_AT_ONCE:
            self._record()

    def _record(self) -> None:
        """Record what has been acknowledged, and take back what was never sent.

        The first write of a look stays intended: it may have been sent by an earlier run, and has to be finished.
        """
        news, self._news = self._news, _News()
        taken, book = list(self._writer.taken), self._ledger.writes
        self._recorded_at = self._clock()
        try:
            book.acknowledge_windows(self._writer.run, taken)
            del self._writer.taken[: len(taken)]
            book.acknowledge(self._writer.run, news.acknowledged)
            for write, standing, unsent in news.partly:
                book.record_partly(write, standing, unsent)
            book.withdraw([write for write in news.unsent if write.total_before is None])
            book.release(self._writer.run, news.over)
            book.forget(write.item.key for write in news.unknown)
        except MeterSyncError as error:
            self.error = self.error or error


def _found_empty(done: Sequence[Result]) -> list[SubscriptionItem]:
    """Return the items for which nothing stands in Stripe and nothing is to: they need no second look."""
    return [
        one.item
        for one in done
        if one.outcome is Outcome.UNCHANGED and not one.gave_way and one.found.quantity == one.found.standing == 0
    ]


def _failed(write: Write, message: str, why: MeterSyncError | None = None) -> Result:
    """Return that an item failed: by the ledger, such as one whose disk is full, or by Stripe."""
    is_of_the_ledger = why is not None and why.code.startswith("ledger")
    return failed(write.found, Reason.LEDGER_ERROR if is_of_the_ledger else Reason.STRIPE_ERROR, message)
