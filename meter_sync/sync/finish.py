"""Finishing what an earlier run had begun, before anything new is thought of."""

from collections.abc import Sequence
from dataclasses import replace

import structlog

from meter_sync.core.actions import Hold, Line, Skip
from meter_sync.core.additions import Arrived, arrived, can_be_repeated
from meter_sync.core.look import unfinished
from meter_sync.core.memory import Memory
from meter_sync.core.model import BillingMeter
from meter_sync.core.span import summary_span
from meter_sync.ledger.additions import Unsettled
from meter_sync.ledger.parts import Wanted
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable, StripeWriter
from meter_sync.stripe_api.meter_events import Event, cancel_event, event_total, send_event
from meter_sync.sync.adapters import Adapters
from meter_sync.sync.order import Order
from meter_sync.sync.progress import Progress
from meter_sync.sync.report import FINISHING_STEP, Reporter
from meter_sync.sync.workers import each
from meter_sync.sync.write import writer_of

log = structlog.get_logger()

READ_AGAIN_AFTER_SECONDS = 10.0
"""Summaries lag by seconds or minutes; what they do not tell then, they tell the next run."""

Prepared = Sequence[Line | Hold | Skip]


async def finish(order: Order, adapters: Adapters, prepared: Prepared, memory: Memory, progress: Progress) -> Memory:
    """Finish the looks and the additions that an earlier run had begun, and recall what came of it."""
    if adapters.writer is None:
        return memory
    lines = [one if isinstance(one, Line) else one.line for one in prepared]
    looks = await _finish_looks(order, adapters, lines, memory, progress)
    additions = await _settle_additions(order, adapters, adapters.writer, lines)
    if not (looks or additions):
        return memory
    recalled = adapters.ledger.memory([line.item for line in lines])
    return replace(memory, known_items=recalled.known_items, remembered=recalled.remembered)


async def _finish_looks(
    order: Order, adapters: Adapters, lines: Sequence[Line], memory: Memory, progress: Progress
) -> bool:
    """Finish the looks that were begun, and return whether there were any."""
    known = memory.remembered
    of_days = [
        Wanted(line.item.id, line.item.period.start, None)
        for line in lines
        if line.item.id in known and known[line.item.id].total_before is not None
    ]
    known = adapters.ledger.with_parts(memory, of_days).remembered
    begun = [write for line in lines if line.item.id in known and (write := unfinished(line, known[line.item.id]))]
    if begun:
        reporter = Reporter(writer_of(order, adapters), progress, FINISHING_STEP)
        await reporter.report(begun)
        if reporter.error:
            raise reporter.error
    return bool(begun)


async def _settle_additions(order: Order, adapters: Adapters, writer: StripeWriter, lines: Sequence[Line]) -> bool:
    """Find out of each addition without an outcome whether Stripe has it, and return whether there were any.

    What cannot be found out stays as it is: the plan then adds nothing to that item.
    """
    meters = {meter.id: (line.item.id, meter) for line in lines if (meter := line.item.price.billing_meter) is not None}
    waiting = adapters.ledger.unsettled_additions([line.item.id for line in lines])

    async def settle(one: Unsettled) -> None:
        _, meter = meters.get(one.stripe_meter or "", ("", None))
        if meter is None:
            return
        try:
            outcome = await _outcome(order, adapters, writer, meter, one)
        except (StripeRefused, StripeUnavailable) as error:
            log.warning("addition_unsettled", item=one.item, message=error.message)
            return
        if outcome is not Arrived.UNTOLD:
            carried_out = outcome is Arrived.YES
            adapters.ledger.settle_addition(one, adapters.clock(), carried_out=carried_out)

    await each(waiting, settle)
    return bool(waiting)


async def _outcome(
    order: Order, adapters: Adapters, writer: StripeWriter, meter: BillingMeter, one: Unsettled
) -> Arrived:
    """Send it again, exactly, as long as Stripe knows its identifier; after that only its summary can tell."""
    addition, policy = one.addition, order.policy
    if can_be_repeated(addition, policy.now, policy.as_of):
        if addition.is_cancel:
            return await _cancel_again(writer, meter, one)
        await send_event(writer, Event(meter, one.customer, addition.value, addition.timestamp, addition.identifier))
        return Arrived.YES
    total = await event_total(writer, meter.id, one.customer, summary_span(one.period))
    outcome = arrived(addition, total, policy.now, policy.as_of)
    if outcome is not Arrived.YES:
        await adapters.stop.sleep(min(READ_AGAIN_AFTER_SECONDS, adapters.retry_seconds))
        total = await event_total(writer, meter.id, one.customer, summary_span(one.period))
        outcome = arrived(addition, total, policy.now, policy.as_of)
    return outcome


async def _cancel_again(writer: StripeWriter, meter: BillingMeter, one: Unsettled) -> Arrived:
    """Cancel an event again. That Stripe refuses to means that it was cancelled before: it is there, and is young."""
    try:
        await cancel_event(writer, meter, one.addition.identifier)
    except StripeRefused as refusal:
        log.info("cancelled_before", item=one.item, message=refusal.message)
    return Arrived.YES
