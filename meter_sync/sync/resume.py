"""Resuming: what an earlier run had begun is brought to its end, before anything new is thought of."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import structlog

from meter_sync.core.billing.event_times import summary_span
from meter_sync.core.billing.item import BillingMeter
from meter_sync.core.planning.additions import as_settled, can_be_repeated, shows_in_summary, sums_alone
from meter_sync.core.planning.brakes import checked_before
from meter_sync.core.planning.first_sight import unfinished
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.stages import Findings
from meter_sync.ledger.additions import Unsettled
from meter_sync.ledger.windows import Wanted
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable, StripeWriter
from meter_sync.stripe_api.meter_events import Event, cancel_event, event_total, send_event
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Prepared
from meter_sync.sync.report import RESUMED_WRITE, Reporter
from meter_sync.sync.workers import each
from meter_sync.sync.write import writer_of

log = structlog.get_logger()


async def resume(job: Job, prepared: Prepared) -> Prepared:
    """Finish the looks and the additions that an earlier run had begun, and recall what is known by then.

    This writes, to Stripe too, but nothing that was not checked and begun before. A dry run takes it that an addition
    which a real one would send again arrives. Raise MeterSyncError.
    """
    if job.writer is not None:
        prepared = await _write_what_was_begun(job, job.writer, prepared)
    else:
        prepared = replace(prepared, memory=as_settled(prepared.memory, job.policy.now, job.policy.as_of))
    return prepared


async def _write_what_was_begun(job: Job, writer: StripeWriter, prepared: Prepared) -> Prepared:
    # Of an item whose row says `report = false` nothing is written, whatever was begun.
    found = [one.found for one in prepared.items if one.found.row.report]
    # Of a period of which Stripe takes no more a look is not finished: it is read back what stands there.
    takes = [one for one in found if one.item.id not in prepared.taken_no_more]
    any_looks = await _resume_looks(job, takes, prepared.memory)
    any_additions, busy = await _settle_additions(job, writer, found)
    if not (any_looks or any_additions):
        return replace(prepared, busy=busy)
    recalled = job.ledger.memory.of([one.found.item for one in prepared.items])
    memory = replace(prepared.memory, known_items=recalled.known_items, remembered=recalled.remembered)
    return replace(prepared, memory=memory, busy=busy)


async def _resume_looks(job: Job, items: Sequence[Findings], memory: Memory) -> bool:
    """Finish the looks that were begun, and return whether there were any."""
    begun = [
        found.item for found in items if (one := memory.remembered.get(found.item.id)) and one.total_before is not None
    ]
    recalled = job.ledger.memory.with_windows(memory, [Wanted(*item.key, None) for item in begun])
    known = {item: one for item, one in recalled.remembered.items() if item not in recalled.unreadable}
    writes = [
        checked_before(write)
        for found in items
        if (one := known.get(found.item.id)) and (write := unfinished(found, one, memory.carried_into(found.item.id)))
    ]
    if writes:
        reporter = Reporter(writer_of(job), job.progress, RESUMED_WRITE)
        await reporter.report(writes)
        if reporter.error:
            raise reporter.error
    return bool(writes)


async def _settle_additions(job: Job, writer: StripeWriter, items: Sequence[Findings]) -> tuple[bool, frozenset[str]]:
    """Find out of each addition without an outcome whether Stripe has it, and return whether there were any.

    Those that another run is making at this moment are left to it; return whose they are, too.

    What cannot be found out yet stays as it is: the plan then adds nothing to that item. Stripe takes one call at a
    time for each customer and billing meter (rate limit documentation).
    """
    meters = {meter.id: meter for one in items if (meter := one.item.price.billing_meter) is not None}
    periods = {one.item.id: one.item.period for one in items}
    alone = {one.item.id for one in items if sums_alone(one)}
    unsettled, busy = job.ledger.additions.unsettled(list(periods), job.run, job.clock())

    async def settle(one: Unsettled) -> None:
        meter = meters.get(one.stripe_meter or "")
        try:
            with job.ledger.own_trouble_of(one.place):
                if meter and can_be_repeated(one.addition, job.policy.now, job.policy.as_of):
                    await _repeat(job, writer, meter, one, sums_alone=one.item in alone)
                elif meter and one.period == periods[one.item]:
                    await _ask_summary(job, meter, one)
        except (StripeRefused, StripeUnavailable) as error:
            log.warning("addition_unsettled", item=one.item, message=error.message)

    async def settle_in_turn(of_customer: Sequence[Unsettled]) -> None:
        for one in of_customer:
            await settle(one)

    in_turn = defaultdict[tuple[str, str | None], list[Unsettled]](list)
    for one in unsettled:
        in_turn[one.customer, one.stripe_meter].append(one)
    await each(in_turn.values(), settle_in_turn, len(in_turn))
    return bool(unsettled), busy


async def _repeat(job: Job, writer: StripeWriter, meter: BillingMeter, one: Unsettled, *, sums_alone: bool) -> None:
    """Send it again, exactly: Stripe knows its identifier.

    Where its base was read from a summary, the event that Stripe has already may be an older one, of a ledger that
    was lost: what stands in Stripe must be read anew. Where it was known, that can only be where the ledger was
    restored from a backup: the summary tells, once it shows as much.
    """
    addition, book = one.addition, job.ledger.additions
    book.record_attempt(one, job.clock())
    if addition.is_cancel:
        try:
            await cancel_event(writer, meter, addition.identifier)
        except StripeRefused as refusal:
            # It was cancelled before: it is there, and is young.
            log.info("cancelled_before", item=one.item, message=refusal.message)
        book.settle(one, job.clock())
        return
    event = Event(meter, one.customer, addition.value, addition.timestamp, addition.identifier)
    delivery = await send_event(writer, event)
    if delivery.was_there and addition.base_is_read:
        job.ledger.writes.forget([(one.item, one.period.start)])
        return
    is_in_doubt = delivery.was_there and sums_alone
    book.settle(one, job.clock(), is_in_doubt=is_in_doubt)
    if is_in_doubt:
        await _compare_with_summary(job, meter, one, addition.base + addition.value)


async def _compare_with_summary(job: Job, meter: BillingMeter, one: Unsettled, holds: int) -> bool:
    """Clear the doubt where Stripe's summary shows what it should, and return whether it does."""
    total = await event_total(job.stripe, meter.id, one.customer, summary_span(one.period))
    if total == holds:
        job.ledger.additions.clear_doubt(one)
    return total == holds


async def _ask_summary(job: Job, meter: BillingMeter, one: Unsettled) -> None:
    """Let Stripe's summary tell, once it shows all that was sent: the item is then forgotten, and looked at anew."""
    if one.addition.in_doubt and one.is_answered and await _compare_with_summary(job, meter, one, one.acknowledged):
        return
    if shows_in_summary(one.addition, job.policy.now):
        job.ledger.writes.forget([(one.item, one.period.start)])
