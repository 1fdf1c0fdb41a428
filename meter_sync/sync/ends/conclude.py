"""Concluding periods that have ended: the last usage is reported while Stripe takes it, and what is left is named."""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from meter_sync.core.billing.intake import DRAFTS_LAST, Intake, intake_of
from meter_sync.core.billing.item import PeriodKey, SubscriptionItem, Target
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.prepare import prepare
from meter_sync.core.planning.results import skipped
from meter_sync.core.planning.stages import Findings, Listed, Result
from meter_sync.ledger.listed import Conclusion, Seen
from meter_sync.stripe_api.invoices import Invoiced, by_start
from meter_sync.sync.ends.permitted import readable_invoices
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Periods, Prepared
from meter_sync.sync.request import RunReport

_BEFORE_THE_END = timedelta(hours=1)
"""An invoice is not made before the end of its period; the hour is for clocks."""

CarryOut = Callable[[Prepared], Awaitable[RunReport]]
"""Resumes, queries, plans, checks and reports some items, of which each may appear once."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A period that has ended, and what Stripe does with usage of it."""

    seen: Seen
    listed: Listed
    is_invoiced: bool | None = None

    @property
    def item(self) -> SubscriptionItem:
        """The subscription item, in this period."""
        return self.seen.item


async def conclude_ended(job: Job, periods: Periods, carry_out: CarryOut) -> RunReport:
    """Report the rest of periods that have ended, record how far each has come, and return what became of them."""
    written = job.ledger.memory.reported([one.item for one in periods.ended])
    seen, nothing = list[Seen](), list[Conclusion]()
    for one in periods.ended:
        # A trial costs nothing; of what was never reported nothing is left, where another item bills the same.
        is_billed = one.item.key in written or not periods.going_on.bills_all_of(one.item, job.rules)
        if is_billed and not one.item.was_free:
            seen.append(one)
        else:
            nothing.append(Conclusion(*one.item.key, is_watched_no_more=True))
    _record(job, nothing)
    ended = await _ended(job, periods, seen, written)
    done = RunReport([one for one in ended if isinstance(one, Result)])
    for together in _once_each(one for one in ended if isinstance(one, Ended)):
        done = done.and_then(await _conclude(job, periods, together, carry_out))
        if done.error:
            break
    return done


async def _conclude(job: Job, periods: Periods, ended: Sequence[Ended], carry_out: CarryOut) -> RunReport:
    """Conclude one period of each item. Where Stripe refuses the report, say right away what is left."""
    reported = await carry_out(_prepared(job, periods, ended))
    closed = [
        replace(one, listed=replace(one.listed, intake=Intake.CLOSED))
        for one in ended
        if one.item.id in reported.refused and one.item.price.target is Target.USAGE_RECORD
    ]
    if closed and not reported.error:
        reported = reported.and_then(await carry_out(_prepared(job, periods, closed)))
    results = {one.item.id: one for one in reported.results}
    last = {one.item.id: one for one in (*ended, *closed)}
    found = [(one, results[id]) for id, one in last.items() if id in results]
    _record(job, [_concluded(job, one, result) for one, result in found])
    return replace(reported, results=[result for _, result in found])


def _prepared(job: Job, periods: Periods, ended: Sequence[Ended]) -> Prepared:
    memory = job.ledger.memory.of([one.item for one in ended])
    prepared = prepare([one.listed for one in ended], periods.metering, memory, job.run.as_of, job.policy.allowed)
    return Prepared([one for one in prepared if job.selection.admits(one.found)], memory)


def _once_each(ended: Iterable[Ended]) -> list[list[Ended]]:
    """Return the periods in turns in which each item appears once, its oldest period first."""
    turns, before = defaultdict[int, list[Ended]](list), Counter[str]()
    for one in ended:
        turns[before[one.item.id]].append(one)
        before[one.item.id] += 1
    return list(turns.values())


async def _ended(
    job: Job, periods: Periods, seen: Sequence[Seen], written: Collection[PeriodKey]
) -> list[Ended | Result]:
    """Say of each period what Stripe does with usage of it; one of which that is not known yet is left for later."""
    invoices = await _invoices(job, [one for one in seen if _depends_on_invoice(one)])
    lines = by_start(invoices or ())
    found: list[Ended | Result | None] = []
    for one in seen:
        goes_on = periods.going_on.has_meter_of(one.item)
        may_write = one.item.key in written or not periods.going_on.reports_meter_of(one.item)
        line = lines.get(one.item.key)
        is_unread = invoices is None
        found.append(_ending(job, one, line, is_unread=is_unread, goes_on=goes_on, may_write=may_write))
    return [one for one in found if one]


def _ending(
    job: Job, one: Seen, line: Invoiced | None, *, is_unread: bool, goes_on: bool, may_write: bool
) -> Ended | Result | None:
    item, as_of = one.item, job.run.as_of
    is_read_back = one.read_back_at is not None
    if line and line.is_draft is None:
        said = "its invoice is in a status that this version of meter-sync does not know: nothing was written"
        return skipped(Findings(item), Reason.UNKNOWN_TO_THIS_VERSION, f"{said}; update meter-sync")
    if line and line.price not in (None, item.price.id):
        return None if line.is_draft else Ended(one, Listed(item, Intake.CLOSED, line.quantity, is_read_back), True)
    if is_unread and one.is_invoiced and as_of - item.period.end < DRAFTS_LAST:
        return None  # it may still be a draft: the next run reads it again
    is_draft = line.is_draft if line else False if one.is_invoiced else None
    if is_draft is None and not item.is_followed and goes_on:
        # The customer's events are billed with another item on the meter, whose period goes on: where that one is
        # reported too, and this one never was, nobody could tell two sums apart.
        is_open = may_write and not _is_watched_no_more(job, item)
        return Ended(one, Listed(item, Intake.GRACE if is_open else Intake.CLOSED, is_read_back=True))
    intake = intake_of(item, is_draft, as_of, job.policy.lookback, is_refused=one.is_refused)
    if intake is Intake.UNBILLED and is_unread:
        intake = Intake.CLOSED
    if intake is None:
        return None
    return Ended(one, Listed(item, intake, is_read_back=is_read_back), None if is_draft is None else True)


def _depends_on_invoice(seen: Seen) -> bool:
    """Say whether the invoice of a period has to be looked for: to know if it is final, or which price it is by.

    The price may have moved after the item was listed last and before the period ended.
    """
    item = seen.item
    is_gone = not item.is_followed or item.subscription.status == "paused"
    may_become_final = item.price.target is Target.METER_EVENT or is_gone
    return (may_become_final or seen.is_invoiced is None) and not seen.is_refused


async def _invoices(job: Job, seen: Sequence[Seen]) -> list[Invoiced] | None:
    """Return the invoices that may bill these periods, or None where they cannot be read."""
    if not seen:
        return []
    since = min(one.item.period.end for one in seen) - _BEFORE_THE_END
    subscriptions = {one.item.subscription.id for one in seen}
    return await readable_invoices(job, since, subscriptions)


def _concluded(job: Job, one: Ended, result: Result) -> Conclusion:
    """Return what a result says about the end of a period."""
    takes_no_more = not one.listed.intake.is_open
    is_complete = result.outcome in (Outcome.REPORTED, Outcome.UNCHANGED) or result.reason is Reason.PERIOD_CLOSED
    is_news = result.lacking is not None and result.lacking != one.seen.remainder
    return Conclusion(
        *one.item.key,
        complete_until=job.run.as_of if is_complete else None,
        is_refused=takes_no_more,
        is_invoiced=one.is_invoiced,
        is_read_back=takes_no_more and result.lacking is not None,
        remainder=result.lacking if is_news else None,
        why=result.message,
        is_watched_no_more=_is_watched_no_more(job, one.item) and result.outcome is not Outcome.FAILED,
    )


def _is_watched_no_more(job: Job, item: SubscriptionItem) -> bool:
    return job.run.as_of - item.period.end > job.policy.lookback


def _record(job: Job, conclusions: Sequence[Conclusion]) -> None:
    if job.writer is not None:
        job.ledger.listed.conclude(conclusions, job.policy.now)
