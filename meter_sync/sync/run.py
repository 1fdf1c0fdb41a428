"""One run, from the listing to the ledger."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from meter_sync.core.billing.item import SubscriptionItem, Window
from meter_sync.core.billing.way import Way
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.brakes import check_whole
from meter_sync.core.planning.known import Memory
from meter_sync.core.planning.prepare import prepare
from meter_sync.core.planning.stages import Action, Hold, Line, Result, Skip, result
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.stripe_api.listing import Listing
from meter_sync.stripe_api.prices import nothing_selected
from meter_sync.sync.adapters import Adapters
from meter_sync.sync.binding import bind
from meter_sync.sync.closing import close
from meter_sync.sync.ended import finish_ended, going_on
from meter_sync.sync.look import interrupted
from meter_sync.sync.order import Order, RunReport
from meter_sync.sync.progress import NoProgress, Progress
from meter_sync.sync.rejections import note_rejections
from meter_sync.sync.remember import remember
from meter_sync.sync.steps import Carried, Metering, checked_plan, report
from meter_sync.sync.turned import find_ended
from meter_sync.sync.workers import first_error_only

log = structlog.get_logger()

EMPTY_PRICE_ASKED_AGAIN_AFTER = timedelta(days=1)


async def synchronize(order: Order, adapters: Adapters, progress: Progress | None = None) -> RunReport:
    """List, query, plan, check, report and record, and return what became of it. Raises nothing of its own."""
    with structlog.contextvars.bound_contextvars(run_id=order.run.id):
        told = progress or NoProgress()
        if order.closing is None:
            carried = await _steps(order, adapters, told)
        else:
            carried = await close(order, adapters, order.closing, told)
        return RunReport(
            results=carried.results,
            error=carried.error,
            gave_way=carried.gave_way,
            stripe_requests=adapters.stripe.requests_sent,
            openmeter_requests=adapters.openmeter.requests_sent,
        )


async def _steps(order: Order, adapters: Adapters, progress: Progress) -> Carried:
    """Finish the periods that have ended, then report the open ones."""
    done: Sequence[Result] = ()
    waiting: list[Action] = []
    try:
        listing, metering = await list_items(order, adapters, progress)
        await note_rejections(listing.items, adapters)
        seen = await find_ended(order, adapters, listing)
        memory = remember(order, adapters, listing)
        over = {(one.item.id, one.item.period.start) for one in seen}
        open_items = [item for item in listing.items if (item.id, item.period.start) not in over]
        prepared = _prepare(order, open_items, metering, memory)
        prepared = select(order, prepared, [one.item for one in seen])
        waiting = [interrupted(one) if isinstance(one, Line) else one for one in prepared]
        checked = await checked_plan(order, adapters, prepared, memory, progress)
        if order.run.everything:
            checked = check_whole(checked, order.thresholds, order.policy.allowed, order.run.as_of)
        if any(isinstance(action, Hold) and action.reason is Reason.TOO_MANY_HELD for action in checked):
            stopped = await report(order, adapters, checked, progress)
            # Events that were queued by webhook still wait for their report.
            return replace(stopped, gave_way=True)
        others = going_on(order, open_items, memory.other_claims)
        ended = await finish_ended(order, adapters, metering, seen, others, progress)
        done = ended.results
        if ended.error:
            raise ended.error
        carried = await report(order, adapters, checked, progress)
        gave_way = ended.gave_way or carried.gave_way
        return Carried([*done, *carried.results], carried.error, gave_way=gave_way)
    except MeterSyncError as error:
        # Whatever was listed is named, also when the run could not go on with it.
        told_by_the_items = isinstance(error, Interrupted) and waiting
        return Carried([*done, *(result(action) for action in waiting)], None if told_by_the_items else error)


async def list_items(order: Order, adapters: Adapters, progress: Progress) -> tuple[Listing, Metering]:
    """Ask Stripe for the items and OpenMeter for its meters, both at once, and for its customers if need be."""
    progress.begin("list", None)
    await bind(adapters)
    skip = adapters.ledger.empty_prices(order.policy.now - EMPTY_PRICE_ASKED_AGAIN_AFTER)
    async with first_error_only(), asyncio.TaskGroup() as group:
        listing = group.create_task(adapters.lister.find(order.selection, skip))
        meters = group.create_task(adapters.openmeter.meters())
    found, known = listing.result(), meters.result()
    customers: Mapping[str, str] = {}
    if order.rules.asks_for_customers:
        customers = await adapters.openmeter.customers({item.subscription.customer.id for item in found.items})
    log.info("list", items=len(found.items), meters=len(set(known.values())))
    return found, Metering(known, customers)


def _prepare(
    order: Order, items: Sequence[SubscriptionItem], metering: Metering, memory: Memory
) -> list[Line | Hold | Skip]:
    as_of = order.run.as_of
    prepared = prepare(items, order.rules, metering.meters, memory, as_of, metering.customers)
    _warn_of_fine_windows(order, prepared)
    return prepared


def _warn_of_fine_windows(order: Order, prepared: Sequence[Line | Hold | Skip]) -> None:
    """Name the billing meters whose windows are finer than the schedule: their last hours wait for a day's run."""
    meters = {
        meter.id: meter
        for one in prepared
        if isinstance(one, Line) and one.way is Way.WINDOWS and (meter := one.item.price.billing_meter)
    }
    for meter in meters.values():
        if meter.window is Window.HOUR and order.run.schedule == "daily":
            log.warning(
                "window_finer_than_schedule",
                stripe_meter=meter.id,
                event_name=meter.event_name,
                message="its windows are of one hour and the runs a day apart: the last hours of a period are only "
                "billed if a run comes before its invoice is final; run hourly, or add the line with --closing",
            )


def select(
    order: Order, prepared: list[Line | Hold | Skip], ended: Sequence[SubscriptionItem]
) -> list[Line | Hold | Skip]:
    """Keep what was selected. Raise MeterSyncError for a selector that matches nothing, nor anything that has ended."""
    if order.selection.is_everything:
        return prepared
    lines = [one if isinstance(one, Line) else one.line for one in prepared]
    ended_lines = [Line(item) for item in ended]
    unmatched = order.selection.unmatched([*lines, *ended_lines])
    if unmatched:
        raise nothing_selected(*unmatched)
    kept = [one for one, line in zip(prepared, lines, strict=True) if order.selection.admits(line)]
    if not kept and not ended:
        raise MeterSyncError(
            "no metered item matches all the selectors together; nothing was written",
            "leave one of them out",
            code="nothing_selected",
        )
    return kept
