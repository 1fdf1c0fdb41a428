"""The steps from query to record, for some prepared items: those of the open periods, or of periods that have ended."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from meter_sync.core.actions import Action, Hold, Line, Meter, Result, Set, Skip, result
from meter_sync.core.brakes import check
from meter_sync.core.look import not_looked
from meter_sync.core.memory import Memory
from meter_sync.core.outcomes import Reason
from meter_sync.core.parts import decide_parts
from meter_sync.core.plan import Policy, decide
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
    memory = await finish(order, adapters, prepared, memory, progress)
    lines, memory = recall_parts(order, adapters, prepared, memory)
    planned = await _query_and_plan(order, adapters, lines, memory, progress)
    if adapters.writer is None:
        return Carried(_dry(order, planned))
    planned = await look(planned, adapters.stripe, order.policy, adapters.stop, progress)
    checked = check(planned, order.thresholds, order.policy.allowed)
    _log("check", checked)
    return await _report(order, adapters, checked, progress)


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


def _dry(order: Order, planned: Sequence[Action]) -> list[Result]:
    """Return what a run would do, as far as can be said without asking Stripe about single items."""
    allowed = order.policy.allowed
    known = [not_looked(action, allowed) if isinstance(action, Set) else action for action in planned]
    checked = check(known, order.thresholds, allowed)
    _log("check", checked)
    return [result(action) for action in checked]


async def _report(order: Order, adapters: Adapters, checked: Sequence[Action], progress: Progress) -> Carried:
    reporter = Reporter(writer_of(order, adapters), progress)
    results = await reporter.report(checked)
    shown = [one.line.item for one in results if one.reason is Reason.REJECTED]
    adapters.ledger.record_shown([(item.id, item.period.start) for item in shown])
    log.info("report", **counted(results))
    return Carried(results, reporter.error, reporter.refused, reporter.gave_way)


def _log(step: str, actions: Sequence[Action]) -> None:
    log.info(step, **counted([result(action) for action in actions]))
