"""One run, from the listing to the ledger."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from meter_sync.core.actions import Action, Hold, Line, Meter, Result, Set, Skip, result
from meter_sync.core.brakes import check
from meter_sync.core.look import not_looked
from meter_sync.core.memory import Memory
from meter_sync.core.model import SubscriptionItem, Window
from meter_sync.core.outcomes import Reason
from meter_sync.core.parts import decide_parts
from meter_sync.core.plan import Policy, decide
from meter_sync.core.preflight import prepare
from meter_sync.core.way import Way
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.stripe_api.listing import Listing, nothing_selected
from meter_sync.sync.adapters import Adapters
from meter_sync.sync.finish import finish
from meter_sync.sync.look import interrupted, look
from meter_sync.sync.order import Order, RunReport, counted
from meter_sync.sync.progress import NoProgress, Progress
from meter_sync.sync.query import Usages, query
from meter_sync.sync.rejections import note_rejections
from meter_sync.sync.remember import recall_parts, remember
from meter_sync.sync.report import Reporter
from meter_sync.sync.workers import first_error_only
from meter_sync.sync.write import writer_of

log = structlog.get_logger()

EMPTY_PRICE_ASKED_AGAIN_AFTER = timedelta(days=1)


async def synchronize(order: Order, adapters: Adapters, progress: Progress | None = None) -> RunReport:
    """List, query, plan, check, report and record, and return what became of it. Raises nothing of its own."""
    with structlog.contextvars.bound_contextvars(run_id=order.run.id):
        results, error = await _steps(order, adapters, progress or NoProgress())
        return RunReport(
            results=results,
            error=error,
            stripe_requests=adapters.stripe.requests_sent,
            openmeter_requests=adapters.openmeter.requests_sent,
        )


async def _steps(
    order: Order, adapters: Adapters, progress: Progress
) -> tuple[Sequence[Result], MeterSyncError | None]:
    actions: list[Action] = []
    try:
        listed = await _list(order, adapters, progress)
        await note_rejections(listed.items, adapters)
        memory = remember(order, adapters, listed.listing)
        prepared = _select(order, _prepare(order, listed, memory))
        actions = [interrupted(one) if isinstance(one, Line) else one for one in prepared]
        memory = await finish(order, adapters, prepared, memory, progress)
        prepared, memory = recall_parts(order, adapters, prepared, memory)
        planned = await _query_and_plan(order, adapters, prepared, memory, progress)
        if adapters.writer is None:
            return _dry(order, planned), None
        planned = await look(planned, adapters.stripe, order.policy, adapters.stop, progress)
        checked = check(planned, order.thresholds, order.policy.allowed)
        _log("check", checked)
        return await _report(order, adapters, checked, progress)
    except MeterSyncError as error:
        # Whatever was listed is named, also when the run could not go on with it.
        told_by_the_items = isinstance(error, Interrupted) and actions
        return [result(action) for action in actions], None if told_by_the_items else error


@dataclass(frozen=True, slots=True)
class _Listed:
    """What both servers have."""

    listing: Listing
    meters: Mapping[str, Meter]
    customers: Mapping[str, str]
    """The id of OpenMeter's customer for each Stripe customer, where the mapping goes by them."""

    @property
    def items(self) -> Sequence[SubscriptionItem]:
        """The metered items."""
        return self.listing.items


async def _list(order: Order, adapters: Adapters, progress: Progress) -> _Listed:
    """Ask Stripe for the items and OpenMeter for its meters, both at once, and for its customers if need be."""
    progress.begin("list", None)
    skip = adapters.ledger.empty_prices(order.policy.now - EMPTY_PRICE_ASKED_AGAIN_AFTER)
    async with first_error_only(), asyncio.TaskGroup() as group:
        listing = group.create_task(adapters.lister.find(order.selection, skip))
        meters = group.create_task(adapters.openmeter.meters())
    found, known = listing.result(), meters.result()
    customers: Mapping[str, str] = {}
    if order.rules.asks_for_customers:
        customers = await adapters.openmeter.customers({item.subscription.customer.id for item in found.items})
    log.info("list", items=len(found.items), meters=len(set(known.values())))
    return _Listed(found, known, customers)


def _prepare(order: Order, listed: _Listed, memory: Memory) -> list[Line | Hold | Skip]:
    prepared = prepare(listed.items, order.rules, listed.meters, memory, order.run.as_of, listed.customers)
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
                "reported if a run comes between them and its end; run hourly, or use a meter with windows of one day",
            )


def _select(order: Order, prepared: list[Line | Hold | Skip]) -> list[Line | Hold | Skip]:
    """Keep what was selected. Raise MeterSyncError for a selector that matches nothing."""
    if order.selection.is_everything:
        return prepared
    lines = [one if isinstance(one, Line) else one.line for one in prepared]
    unmatched = order.selection.unmatched(lines)
    if unmatched:
        raise nothing_selected(*unmatched)
    kept = [one for one, line in zip(prepared, lines, strict=True) if order.selection.admits(line)]
    if not kept:
        raise MeterSyncError(
            "no metered item matches all the selectors together; nothing was written",
            "leave one of them out",
            code="nothing_selected",
        )
    return kept


async def _query_and_plan(
    order: Order,
    adapters: Adapters,
    prepared: Sequence[Line | Hold | Skip],
    memory: Memory,
    progress: Progress,
) -> list[Action]:
    """Query the usage of every line, and decide on each."""
    usages = await query([line for line in prepared if isinstance(line, Line)], adapters.openmeter, progress)
    actions = [_decide(one, usages, memory, order.policy) if isinstance(one, Line) else one for one in prepared]
    _log("plan", actions)
    return actions


def _decide(line: Line, usages: Usages, memory: Memory, policy: Policy) -> Action:
    if line.way.is_in_parts:
        return decide_parts(line, usages.parts[line.item.id], memory, policy)
    return decide(line, usages.totals[line.item.id], memory, policy)


def _dry(order: Order, planned: Sequence[Action]) -> list[Result]:
    """Return what a run would do, as far as can be said without asking Stripe about single items."""
    allowed = order.policy.allowed
    known = [not_looked(action, allowed) if isinstance(action, Set) else action for action in planned]
    checked = check(known, order.thresholds, allowed)
    _log("check", checked)
    return [result(action) for action in checked]


async def _report(
    order: Order, adapters: Adapters, checked: Sequence[Action], progress: Progress
) -> tuple[Sequence[Result], MeterSyncError | None]:
    reporter = Reporter(writer_of(order, adapters), progress)
    results = await reporter.report(checked)
    shown = [one.line.item for one in results if one.reason is Reason.REJECTED]
    adapters.ledger.record_shown([(item.id, item.period.start) for item in shown])
    log.info("report", **counted(results))
    return results, reporter.error


def _log(step: str, actions: Sequence[Action]) -> None:
    log.info(step, **counted([result(action) for action in actions]))
