"""The steps from query to record, for some prepared items: those of the open periods, or of periods that have ended."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.brakes import check
from meter_sync.core.planning.first_sight import not_looked
from meter_sync.core.planning.known import Memory
from meter_sync.core.planning.stages import Action, GiveWay, Hold, Line, Meter, Result, Set, Shown, Skip, result
from meter_sync.core.planning.totals import Policy, decide
from meter_sync.core.planning.windows import decide_parts
from meter_sync.errors import MeterSyncError
from meter_sync.sync.adapters import Adapters
from meter_sync.sync.finish import finish
from meter_sync.sync.look import look
from meter_sync.sync.order import Order, counted
from meter_sync.sync.progress import Progress
from meter_sync.sync.query import Usages, query
from meter_sync.sync.remember import recall_parts
from meter_sync.sync.report import Reporter
from meter_sync.sync.write import writer_of

log = structlog.get_logger()

Prepared = Sequence[Line | Hold | Skip]


@dataclass(frozen=True, slots=True)
class Metering:
    """What OpenMeter has."""

    meters: Mapping[str, Meter]
    customers: Mapping[str, str]
    """The id of OpenMeter's customer for each Stripe customer, where the mapping goes by them."""


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of some items."""

    results: Sequence[Result]
    error: MeterSyncError | None = None
    """What ended the reporting before its time, if anything did."""
    refused: Collection[str] = ()
    """The items whose write Stripe refused."""
    gave_way: bool = False
    """Whether an item was left to another writer, which may be about an earlier instant."""


async def carry_out(
    order: Order, adapters: Adapters, prepared: Prepared, memory: Memory, progress: Progress
) -> Carried:
    """Query, plan, check, report and record. Each item may appear once. Raise MeterSyncError."""
    return await report(order, adapters, await checked_plan(order, adapters, prepared, memory, progress), progress)


async def checked_plan(
    order: Order, adapters: Adapters, prepared: Prepared, memory: Memory, progress: Progress
) -> list[Action]:
    """Finish what was begun, query, plan and check; nothing new is written. Raise MeterSyncError."""
    finished = await finish(order, adapters, prepared, memory, progress)
    lines, memory = recall_parts(order, adapters, prepared, finished.memory)
    planned = await _query_and_plan(order, adapters, lines, memory, progress)
    reported = [action for action in planned if adapters.writer and _is_reported(action)]
    known = await look(reported, adapters.stripe, order.policy, adapters.stop, progress)
    looked = {action.line.item.id: action for action in known}
    planned = [looked.get(action.line.item.id) or _without_look(action, order) for action in planned]
    checked = check(planned, order.thresholds, order.policy.allowed)
    _log("check", checked)
    checked = [_given_way(action) if action.line.item.id in finished.busy else action for action in checked]
    return [action if _is_reported(action) else _shown(action) for action in checked]


def _given_way(action: Action) -> Action:
    """Leave an item to the run that is writing it, where that keeps this one from telling what Stripe holds."""
    is_unsettled = isinstance(action, Hold) and action.reason is Reason.UNSETTLED
    return GiveWay(action.line) if is_unsettled else action


def _is_reported(action: Action) -> bool:
    return action.line.row.report


def _without_look(action: Action, order: Order) -> Action:
    """Return an action as far as it can be said without asking Stripe about a single item."""
    return not_looked(action, order.policy.allowed) if isinstance(action, Set) else action


def _shown(action: Action) -> Action:
    return Shown(action) if isinstance(action, Set) else action


async def _query_and_plan(
    order: Order, adapters: Adapters, prepared: Prepared, memory: Memory, progress: Progress
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


async def report(order: Order, adapters: Adapters, checked: Sequence[Action], progress: Progress) -> Carried:
    """Report and record what a checked plan says; a dry run returns what that would be."""
    if adapters.writer is None:
        return Carried([result(action) for action in checked])
    reporter = Reporter(writer_of(order, adapters), progress)
    results = await reporter.report(checked)
    shown = [one.line.item for one in results if one.reason is Reason.REJECTED]
    adapters.ledger.rejections.record_shown([(item.id, item.period.start) for item in shown])
    log.info("report", **counted(results))
    return Carried(results, reporter.error, reporter.refused, reporter.gave_way)


def _log(step: str, actions: Sequence[Action]) -> None:
    log.info(step, **counted([result(action) for action in actions]))
