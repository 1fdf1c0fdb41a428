"""Concluding periods that have ended: the last usage is reported while Stripe takes it, and what is left is named."""

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from meter_sync.core.billing.intake import DRAFTS_LAST, Intake, intake_of, intake_of_cut
from meter_sync.core.billing.item import SubscriptionItem, Target
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning import period_closed
from meter_sync.core.planning.conclusion import Billed, NotKnown
from meter_sync.core.planning.prepare import prepare
from meter_sync.core.planning.results import held, skipped
from meter_sync.core.planning.stages import Findings, Listed, Result
from meter_sync.ledger.conclusions import Conclusion, News
from meter_sync.ledger.listed import Seen
from meter_sync.stripe_api.invoices import Invoiced, Invoices, by_start
from meter_sync.sync.ends.judge import Ended, as_far_as_known, concluded, is_asked_again, is_others, is_watched_no_more
from meter_sync.sync.ends.permitted import Unread, readable_billed_at_changes, readable_invoices
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Periods, Prepared
from meter_sync.sync.request import RunReport

_BEFORE_THE_END = timedelta(hours=1)
"""An invoice is not made before the end of its period; the hour is for clocks."""

_AROUND_THE_CHANGE = timedelta(minutes=1)
"""An invoice item of a change is made with it; clocks may differ a little."""

_WHY_UNREAD = {
    Unread.FORBIDDEN: "the key may not read invoices",
    Unread.NO_ANSWER: "Stripe did not say for days which invoices there are",
    Unread.NOT_UNDERSTOOD: "one of its invoices is not understood by this version of meter-sync",
}

CarryOut = Callable[[Prepared], Awaitable[RunReport]]
"""Resumes, queries, plans, checks and reports some items, of which each may appear once."""


async def conclude_ended(job: Job, periods: Periods, carry_out: CarryOut) -> RunReport:
    """Report the rest of periods that have ended, record how far each has come, and return what became of them."""
    in_vain = _named_at_last(job)
    # A trial costs nothing.
    billed = [one for one in periods.ended if not one.item.was_free]
    _record(job, [Conclusion(*one.item.key, closed_as=Billed()) for one in periods.ended if one.item.was_free])
    voiding = {one.item.subscription.id for one in periods.known if one.item.subscription.voids_invoices}
    ended = await _ended(job, billed, voiding)
    done = RunReport([*in_vain, *(one for one in ended if isinstance(one, Result))])
    concluding = [one for one in ended if isinstance(one, Ended)]
    if not concluding:
        return done
    known = {one.item.key: one for one in periods.known} | {one.item.key: one.listed for one in concluding}
    for together in _once_each(concluding):
        done = done.and_then(await _conclude(job, replace(periods, known=[*known.values()]), together, carry_out))
        if done.error:
            break
    return done


def _named_at_last(job: Job) -> list[Result]:
    """Name what waited of periods that are watched no more, where none of their items' periods takes it any more.

    The last one was a trial, is ignored by now, or counts in another unit.
    """
    if not job.run.everything:
        return []
    found = [
        (one, left, period_closed.message(Intake.CLOSED, left)) for one, left in job.ledger.listed.waiting_in_vain()
    ]
    _record(
        job,
        [Conclusion(*one.item.key, news=News(one.concluded or Billed(), why)) for one, _, why in found],
    )
    return [replace(held(Findings(one.item), Reason.PERIOD_CLOSED, why), lacking=left) for one, left, why in found]


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
    found = [(one, as_far_as_known(one, results[id])) for id, one in last.items() if id in results]
    _record(job, [concluded(job, one, result) for one, result in found])
    return replace(reported, results=[result for _, result in found if not is_others(result)])


def _prepared(job: Job, periods: Periods, ended: Sequence[Ended]) -> Prepared:
    book = job.ledger.memory
    memory = book.of([one.item for one in ended])
    scales = book.scales({one.item.id for one in ended})
    memory = replace(memory, reported=book.stretches([one.item for one in periods.known]), scales=scales)
    listed, as_of = [one.listed for one in ended], job.run.as_of
    prepared = prepare(listed, periods.known, periods.metering, memory, as_of, job.policy.allowed)
    taken_no_more = frozenset(one.item.id for one in ended if not one.listed.intake.is_open)
    admitted = [one for one in prepared if job.selection.admits(one.found)]
    return Prepared(admitted, memory, taken_no_more=taken_no_more)


def _once_each(ended: Iterable[Ended]) -> list[list[Ended]]:
    """Return the periods in turns in which each item appears once, its oldest period first."""
    turns, before = defaultdict[int, list[Ended]](list), Counter[str]()
    for one in ended:
        turns[before[one.item.id]].append(one)
        before[one.item.id] += 1
    return list(turns.values())


async def _ended(job: Job, seen: Sequence[Seen], voiding: Collection[str]) -> list[Ended | Result]:
    """Say of each period what Stripe does with usage of it; one of which that is not known yet is left for later."""
    voided, rest = _parted(seen)
    cut = [one for one in rest if one.item.is_cut]
    found: list[Ended | Result | None] = [*_voided(job, voided), *await _ended_by_change(job, cut)]
    others = [one for one in rest if not one.item.is_cut]
    depending = [one for one in others if _depends_on_invoice(one, voiding, is_over=is_watched_no_more(job, one))]
    invoices = await _invoices(job, depending)
    unread = {one.item.key: why for one in depending if (why := _why_unread(one, invoices))}
    lines = by_start(() if isinstance(invoices, Unread) else invoices.lines)
    for one in others:
        line = lines.get(one.item.invoice_key)
        if line and line.period.end < one.item.period.end and one.item.is_followed and one.item.cycle_start is None:
            # Another period followed that no run saw: the next one concludes both.
            if job.writer is not None:
                job.ledger.listed.record_unseen(one.item, line.period.end)
            continue
        if line and line.is_void:
            found += _voided(job, [one])
        else:
            found.append(_ending(job, one, line, unread.get(one.item.key)))
    return [one for one in found if one]


def _why_unread(one: Seen, invoices: Invoices | Unread) -> Unread | None:
    if isinstance(invoices, Unread):
        return invoices
    return Unread.NOT_UNDERSTOOD if one.item.subscription.id in invoices.not_understood else None


def _parted(seen: Iterable[Seen]) -> tuple[list[Seen], list[Seen]]:
    """Return the periods of which it is known that their invoice was voided, and the others."""
    parts = list[Seen](), list[Seen]()
    for one in seen:
        parts[one.voided_at is None].append(one)
    return parts


async def _ended_by_change(job: Job, cut: Sequence[Seen]) -> list[Ended]:
    """Say what is billed of items that left their price, or were removed, in mid-period: what invoice items bill.

    Where the key may not read these, that is not known of what Stripe had acknowledged by then.
    """
    found = []
    for one in cut:
        listed = replace(_listed(one, intake_of_cut(one.item)), is_read_back=True, is_invoiced=True)
        is_open = one.read_back_at is None or isinstance(one.concluded, NotKnown)
        billed = await _billed_at_change(job, one.item) if is_open and listed.intake is Intake.CLOSED else None
        if billed is Unread.NO_ANSWER and is_asked_again(job, one):
            continue
        if isinstance(billed, Unread):
            found.append(
                Ended(one, listed, True, f"an invoice item of its change bills it, since {_WHY_UNREAD[billed]}")
            )
        else:
            found.append(Ended(one, listed if billed is None else replace(listed, invoiced=billed), True))
    return found


async def _billed_at_change(job: Job, item: SubscriptionItem) -> int | Unread:
    """Return what invoice items bill of an item from before it changed, or why they were not read.

    All that were made within its period are: of several changes it may be cut at the last one.
    """
    customer, period = item.subscription.customer.id, item.period
    items = await readable_billed_at_changes(job, customer, period.start)
    if isinstance(items, Unread):
        return items
    until = period.end + _AROUND_THE_CHANGE
    return sum(one.quantity for one in items if one.item == item.id and period.start < one.at <= until)


def _voided(job: Job, voided: Sequence[Seen]) -> list[Ended]:
    """Return the periods whose invoice was voided: all that these held is named, or none of it."""
    if job.writer is not None:
        keys, book, now = [one.item.key for one in voided], job.ledger.listed, job.policy.now
        book.record_voided(keys, now)
        if job.policy.forgives_voided:
            book.forgive(keys, "its invoice was voided, which is forgiven", now)
    if job.policy.forgives_voided:
        return []
    at = job.policy.now
    return [
        Ended(replace(one, voided_at=one.voided_at or at), replace(_listed(one, Intake.VOIDED), is_invoiced=True), True)
        for one in voided
    ]


def _ending(job: Job, one: Seen, line: Invoiced | None, unread: Unread | None) -> Ended | Result | None:
    """Say what Stripe does with usage of a period, by the line of its invoice; None where that is not known yet."""
    item, as_of = one.item, job.run.as_of
    is_new_line = line is not None and one.is_invoiced is None
    is_read_back = one.read_back_at is not None and not is_new_line
    if line and line.is_draft is None:
        said = "its invoice is in a status that this version of meter-sync does not know: nothing was written"
        return skipped(Findings(item), Reason.UNKNOWN_TO_THIS_VERSION, f"{said}; update meter-sync")
    if line and item.is_read and line.price not in (None, item.price.id):
        moved = replace(_listed(one, Intake.CLOSED), is_read_back=is_read_back, is_invoiced=True)
        return None if line.is_draft else Ended(one, replace(moved, invoiced=line.quantity), True)
    if unread and one.is_invoiced and as_of - item.period.end < DRAFTS_LAST:
        return _asked_again(item, unread)  # it may still be a draft
    is_draft = line.is_draft if line else False if one.is_invoiced else None
    # What was concluded as long as there was no invoice is no answer of Stripe's.
    is_refused = one.is_refused and not (is_draft and is_new_line)
    intake = intake_of(item, is_draft, as_of, job.policy.lookback, is_refused=is_refused)
    if intake is None:
        return None
    is_forbidden = unread is Unread.FORBIDDEN
    if unread and not is_forbidden and not intake.is_open and is_asked_again(job, one):
        return _asked_again(item, unread)
    not_known = f"an invoice bills it, since {_WHY_UNREAD[unread]}" if unread else None
    is_unknown = intake is Intake.UNBILLED and not_known is not None
    listed = replace(
        _listed(one, Intake.CLOSED if is_unknown else intake),
        is_read_back=is_read_back,
        is_invoiced=is_draft is not None,
        line_quantity=line.quantity if line and line.says_quantity else None,
        is_final=is_draft is False,
        invoice=line.invoice if line else None,
    )
    return Ended(one, listed, True if listed.is_invoiced else None, not_known if is_unknown else None)


def _asked_again(item: SubscriptionItem, unread: Unread) -> Result | None:
    """Return what is said of a period whose invoice the next run asks for again: nothing, if it may be understood."""
    if unread is not Unread.NOT_UNDERSTOOD:
        return None
    said = "an invoice of its subscription is not understood by this version of meter-sync: nothing was concluded"
    return skipped(Findings(item), Reason.UNKNOWN_TO_THIS_VERSION, f"{said}; update meter-sync")


def _listed(one: Seen, intake: Intake) -> Listed:
    """Return a period that has ended, with what was found out of it before."""
    return Listed(one.item, intake, settled=None if intake.is_open else one.own, left=one.late_usage)


def _depends_on_invoice(seen: Seen, voiding: Collection[str], *, is_over: bool) -> bool:
    """Say whether the invoice of a period has to be looked for: to know if it is final, what it bills, by which price.

    `voiding` are the subscriptions whose invoices are voided at present; `is_over` says that it is watched no more.

    The price may have moved after the item was listed last and before the period ended.
    """
    item = seen.item
    is_gone = not item.is_followed or item.subscription.status == "paused"
    may_become_final = item.price.target is Target.METER_EVENT or is_gone
    is_open = (may_become_final and not seen.is_refused) or seen.is_invoiced is None
    is_to_be_told = (seen.is_refused or is_over) and seen.read_back_at is None
    return is_open or is_to_be_told or isinstance(seen.concluded, NotKnown) or item.subscription.id in voiding


async def _invoices(job: Job, seen: Sequence[Seen]) -> Invoices | Unread:
    """Return the invoices that may bill these periods, or why they were not read."""
    if not seen:
        return Invoices()
    since = min(one.item.period.end for one in seen) - _BEFORE_THE_END
    subscriptions = {one.item.subscription.id for one in seen}
    return await readable_invoices(job, since, subscriptions)


def _record(job: Job, conclusions: Sequence[Conclusion]) -> None:
    if job.writer is not None:
        job.ledger.listed.conclude(conclusions, job.policy.now)
