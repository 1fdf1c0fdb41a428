"""Finishing what an earlier run had begun, before anything new is thought of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import structlog

from meter_sync.core.billing.item import BillingMeter
from meter_sync.core.billing.span import summary_span
from meter_sync.core.planning.additions import as_settled, can_be_repeated, shows_in_summary
from meter_sync.core.planning.first_sight import unfinished
from meter_sync.core.planning.known import Memory
from meter_sync.core.planning.stages import Hold, Line, Skip
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

Prepared = Sequence[Line | Hold | Skip]


@dataclass(frozen=True, slots=True)
class Finished:
    """What is remembered once that was finished which earlier runs had begun."""

    memory: Memory
    busy: frozenset[str] = frozenset()
    """Items that another run is writing at this moment."""


async def finish(order: Order, adapters: Adapters, prepared: Prepared, memory: Memory, progress: Progress) -> Finished:
    """Finish the looks and the additions that an earlier run had begun, and recall what came of it.

    A dry run takes it that an addition which a real one would send again arrives.
    """
    if adapters.writer is None:
        known = memory.remembered.items()
        expected = {item: as_settled(one, order.policy.now, order.policy.as_of) for item, one in known}
        return Finished(replace(memory, remembered=expected))
    all_lines = [one if isinstance(one, Line) else one.line for one in prepared]
    lines = [line for line in all_lines if line.row.report]  # of the others nothing is written, whatever was begun
    looks = await _finish_looks(order, adapters, lines, memory, progress)
    additions, busy = await _settle_additions(order, adapters, adapters.writer, lines)
    if not (looks or additions):
        return Finished(memory, busy)
    recalled = adapters.ledger.memory.of([line.item for line in all_lines])
    return Finished(replace(memory, known_items=recalled.known_items, remembered=recalled.remembered), busy)


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
    known = adapters.ledger.memory.with_parts(memory, of_days).remembered
    begun = [write for line in lines if line.item.id in known and (write := unfinished(line, known[line.item.id]))]
    if begun:
        reporter = Reporter(writer_of(order, adapters), progress, FINISHING_STEP)
        await reporter.report(begun)
        if reporter.error:
            raise reporter.error
    return bool(begun)


async def _settle_additions(
    order: Order, adapters: Adapters, writer: StripeWriter, lines: Sequence[Line]
) -> tuple[bool, frozenset[str]]:
    """Find out of each addition without an outcome whether Stripe has it, and return whether there were any.

    Those that another run is making at this moment are left to it; return whose they are, too.

    What cannot be found out yet stays as it is: the plan then adds nothing to that item. Stripe takes one call at a
    time for each customer and billing meter (rate limit documentation).
    """
    meters = {meter.id: meter for line in lines if (meter := line.item.price.billing_meter) is not None}
    periods = {line.item.id: line.item.period for line in lines}
    waiting, busy = adapters.ledger.additions.unsettled(list(periods), order.run, adapters.clock())

    async def settle(one: Unsettled) -> None:
        meter = meters.get(one.stripe_meter or "")
        try:
            if meter and can_be_repeated(one.addition, order.policy.now, order.policy.as_of):
                await _repeat(adapters, writer, meter, one)
            elif meter and one.period == periods[one.item]:
                await _read_back(order, adapters, meter, one)
        except (StripeRefused, StripeUnavailable) as error:
            log.warning("addition_unsettled", item=one.item, message=error.message)

    async def settle_in_turn(of_customer: Sequence[Unsettled]) -> None:
        for one in of_customer:
            await settle(one)

    in_turn: dict[tuple[str, str | None], list[Unsettled]] = {}
    for one in waiting:
        in_turn.setdefault((one.customer, one.stripe_meter), []).append(one)
    await each(list(in_turn.values()), settle_in_turn, len(in_turn))
    return bool(waiting), busy


async def _repeat(adapters: Adapters, writer: StripeWriter, meter: BillingMeter, one: Unsettled) -> None:
    """Send it again, exactly: Stripe knows its identifier.

    Where its base was read from a summary, the event that Stripe has already may be an older one, of a ledger that
    was lost: what Stripe holds must be read anew.
    """
    addition, ledger = one.addition, adapters.ledger
    ledger.additions.record_attempt(one, adapters.clock())
    if addition.is_cancel:
        await _cancel_again(writer, meter, one)
        ledger.additions.settle(one, adapters.clock())
        return
    event = Event(meter, one.customer, addition.value, addition.timestamp, addition.identifier)
    delivery = await send_event(writer, event)
    if delivery.was_there and addition.base_is_read:
        ledger.writes.forget([(one.item, one.period.start)])
    else:
        ledger.additions.settle(one, adapters.clock())


async def _read_back(order: Order, adapters: Adapters, meter: BillingMeter, one: Unsettled) -> None:
    """Let Stripe's summary tell, once it shows all that was sent: the item is then forgotten, and looked at anew."""
    is_doubted = one.addition.in_doubt and one.is_answered
    if is_doubted and await _total(adapters, meter, one) == one.acknowledged:
        adapters.ledger.additions.clear_doubt(one)
    elif shows_in_summary(one.addition, order.policy.now):
        adapters.ledger.writes.forget([(one.item, one.period.start)])


async def _total(adapters: Adapters, meter: BillingMeter, one: Unsettled) -> int:
    return await event_total(adapters.stripe, meter.id, one.customer, summary_span(one.period))


async def _cancel_again(writer: StripeWriter, meter: BillingMeter, one: Unsettled) -> None:
    """Cancel an event again. That Stripe refuses to means that it was cancelled before: it is there, and is young."""
    try:
        await cancel_event(writer, meter, one.addition.identifier)
    except StripeRefused as refusal:
        log.info("cancelled_before", item=one.item, message=refusal.message)
