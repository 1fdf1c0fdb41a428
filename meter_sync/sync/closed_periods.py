"""Comparing what invoices bill of periods that have ended with what OpenMeter says of them by now.

A period is judged by how the ledger remembers that it was reported: by that meter, filter, scale and subjects. Stripe
is asked for one list of invoices, and OpenMeter as few queries as for open periods.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from meter_sync.core.billing.intake import intake_as_known
from meter_sync.core.billing.item import PeriodKey
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.carrying import total_of as total_carried
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.prepare import Metering, prepare
from meter_sync.core.planning.results import skipped
from meter_sync.core.planning.stages import Listed, Metered, Result
from meter_sync.core.telling.closed_periods import Accounted, Line, compare_closed, is_awaited
from meter_sync.core.telling.comparison import Comparison, Expected, expected_of, failed, not_compared, total_of
from meter_sync.ledger.listed import Seen
from meter_sync.ledger.remainders import Unbilled
from meter_sync.stripe_api.invoices import Invoiced, Invoices, by_start
from meter_sync.stripe_api.prices import nothing_selected
from meter_sync.sync.ends.permitted import Unread, readable_invoices
from meter_sync.sync.job import Job
from meter_sync.sync.list import list_closed
from meter_sync.sync.query import query_totals

_BEFORE_THE_END = timedelta(hours=1)
"""An invoice is not made before the end of its period; the hour is for clocks."""

_UNREAD = {
    Unread.FORBIDDEN: "the key may not read invoices: allow it to",
    Unread.NO_ANSWER: "Stripe did not say which invoices there are: verify it again",
    Unread.NOT_UNDERSTOOD: "an invoice of its subscription is not understood: update meter-sync",
}


async def compare_closed_periods(job: Job, within: timedelta) -> list[Comparison]:
    """Return how what invoices bill of the periods that ended within some time compares with what was used.

    Periods whose invoice may still change or come are left to runs, and so are those that cost nothing, and those that
    invoice items bill, since their item left its price. Raise MeterSyncError.
    """
    seen, beside, metering = await list_closed(job, within)
    seen = [one for one in seen if not one.item.was_free]
    invoices = await _invoices(job, seen)
    found = {} if isinstance(invoices, Unread) else by_start(invoices.lines)
    listed = {one.item.key: _listed(job, one, found.get(one.item.key)) for one in seen}
    known = [*beside, *listed.values()]
    prepared = [(memory, one) for memory, some in _prepared(job, listed.values(), known, metering) for one in some]
    _check_selected(job, [one for _, one in prepared])
    selected = [(memory, one) for memory, one in prepared if job.selection.admits(one.found)]
    if isinstance(invoices, Unread):
        return [failed(one.found, Reason.STRIPE_ERROR, _UNREAD[invoices]) for _, one in selected]
    odd = [one for _, one in selected if one.item.subscription.id in invoices.not_understood]
    selected = [one for one in selected if one[1] not in odd]
    remainders = job.ledger.remainders.since(job.run.as_of - within)
    compared = [failed(one.found, Reason.STRIPE_ERROR, _UNREAD[Unread.NOT_UNDERSTOOD]) for one in odd]
    for memory, some in _together(selected):
        compared += await _compared(job, some, memory, found, remainders)
    return compared


async def _invoices(job: Job, seen: Sequence[Seen]) -> Invoices | Unread:
    if not seen:
        return Invoices()
    since = min(one.item.period.end for one in seen) - _BEFORE_THE_END
    return await readable_invoices(job, since, {one.item.subscription.id for one in seen})


def _listed(job: Job, one: Seen, line: Invoiced | None) -> Listed:
    is_invoiced = line is not None or bool(one.is_invoiced)
    intake = intake_as_known(one.item, job.run.as_of, takes_no_more=True, is_invoiced=is_invoiced)
    return Listed(one.item, intake, is_invoiced=is_invoiced, settled=one.own)


def _prepared(
    job: Job, listed: Iterable[Listed], known: Sequence[Listed], metering: Metering
) -> list[tuple[Memory, list[Metered | Result]]]:
    """Return what is known of the periods, in turns in which each item appears once, with what is remembered."""
    turns, before = defaultdict[int, list[Listed]](list), Counter[str]()
    for one in listed:
        turns[before[one.item.id]].append(one)
        before[one.item.id] += 1
    book = job.ledger.memory
    reported = book.stretches([one.item for one in known])
    found = []
    for some in turns.values():
        memory = replace(book.of([one.item for one in some]), reported=reported)
        found.append((memory, prepare(some, known, metering, memory, job.run.as_of)))
    return found


def _together(
    selected: Iterable[tuple[Memory, Metered | Result]],
) -> list[tuple[Memory, list[Metered | Result]]]:
    """Return what has one memory together."""
    found: dict[int, tuple[Memory, list[Metered | Result]]] = {}
    for memory, one in selected:
        found.setdefault(id(memory), (memory, []))[1].append(one)
    return list(found.values())


def _check_selected(job: Job, prepared: Sequence[Metered | Result]) -> None:
    """Raise MeterSyncError for a selector that matches nothing."""
    if unmatched := job.selection.unmatched([one.found for one in prepared]):
        raise nothing_selected(*unmatched)


async def _compared(
    job: Job,
    prepared: Sequence[Metered | Result],
    memory: Memory,
    lines: Mapping[PeriodKey, Invoiced],
    remainders: Mapping[PeriodKey, Unbilled],
) -> list[Comparison]:
    """Query the usage of periods, of which each item has one, and compare."""
    job.stop.check()
    policy = job.policy
    metered = [one for one in prepared if isinstance(one, Metered)]
    usages = await query_totals([need for one in metered for need in one.needs], job.openmeter, job.progress)
    compared = []
    for one in prepared:
        line, remembered = _line(lines.get(one.item.key)), memory.remembered.get(one.item.id)
        if isinstance(one, Result):
            compared.append(not_compared(one))
        elif (one.item.is_cut and one.listed.intake.bills) or is_awaited(one, line, policy):
            continue
        elif not one.row.report and remembered is None:
            said = "its [[meters]] row says report = false: nothing is reported for it"
            compared.append(not_compared(skipped(one.found, Reason.IGNORED, said)))
        else:
            carried = total_carried(memory.carried_into(one.item.id))
            expected = expected_of(one, total_of(one, usages), None, carried)
            if isinstance(expected, Expected):
                accounted = _accounted(remainders.get(one.item.key))
                expected = compare_closed(expected, line, remembered, accounted, policy)
            compared.append(expected)
    return compared


def _line(invoiced: Invoiced | None) -> Line | None:
    if invoiced is None:
        return None
    return Line(invoiced.quantity if invoiced.says_quantity else None, invoiced.is_draft, invoiced.is_void)


def _accounted(one: Unbilled | None) -> Accounted:
    if one is None:
        return Accounted()
    return Accounted(
        settled=one.remainder - one.open_quantity,
        named=one.open_quantity,
        not_known=one.not_known if one.is_unknown else None,
        is_settled=one.not_known is not None and one.settled_at is not None,
    )
