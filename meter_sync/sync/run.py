"""One run, from the listing to the ledger."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from meter_sync.core.actions import Action, Hold, Line, Meter, Result, Set, Skip, need, result
from meter_sync.core.brakes import Thresholds, check
from meter_sync.core.look import not_looked, unfinished
from meter_sync.core.mapping import MappingRules
from meter_sync.core.memory import Memory
from meter_sync.core.outcomes import ExitCode, exit_code
from meter_sync.core.plan import Policy, decide, prepare
from meter_sync.core.selection import Selection
from meter_sync.core.usage import Answer, Query, QueryPlan
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.ledger import RunRecord
from meter_sync.openmeter_api.client import OpenMeter
from meter_sync.stripe_api.listing import Listing, nothing_selected
from meter_sync.sync.adapters import Adapters
from meter_sync.sync.look import interrupted, look
from meter_sync.sync.progress import NoProgress, Progress
from meter_sync.sync.report import FINISHING_STEP, Reporter
from meter_sync.sync.workers import each, first_error_only
from meter_sync.sync.write import ItemWriter

log = structlog.get_logger()

EMPTY_PRICE_ASKED_AGAIN_AFTER = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Order:
    """What a run is to do."""

    run: RunRecord
    selection: Selection
    rules: MappingRules
    policy: Policy
    thresholds: Thresholds


@dataclass(frozen=True, slots=True)
class RunReport:
    """What became of a run."""

    results: Sequence[Result] = ()
    error: MeterSyncError | None = None
    """What ended it before its time, if anything did."""
    stripe_requests: int = 0
    openmeter_requests: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """How many items ended in each outcome."""
        return _counted(self.results)

    @property
    def exit_code(self) -> ExitCode:
        """The code to exit with: the gravest of the error's and the items'."""
        items = exit_code((one.outcome, one.reason) for one in self.results)
        if self.error is None:
            return items
        return min((self.error.exit_code, items), key=_GRAVEST_FIRST.index)


_GRAVEST_FIRST = [
    ExitCode.CONFIGURATION,
    ExitCode.TRY_AGAIN,
    ExitCode.ARGUMENTS,
    ExitCode.FAILED,
    ExitCode.PARTIAL,
    ExitCode.LOOK,
    ExitCode.DONE,
]


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
        listing, meters = await _list(order, adapters, progress)
        memory = _remember(order, adapters, listing)
        prepared = _select(order, prepare(listing.items, order.rules, meters, memory, order.run.as_of))
        actions = [interrupted(one) if isinstance(one, Line) else one for one in prepared]
        memory = await _finish_looks(order, adapters, prepared, memory, progress)
        planned = await _query_and_plan(order, adapters, prepared, memory, progress)
        if adapters.writer is None:
            return _dry(order, planned), None
        planned = await look(planned, adapters.stripe, order.policy.allowed, adapters.stop, progress)
        checked = check(planned, order.thresholds, order.policy.allowed)
        _log("check", checked)
        return await _report(order, adapters, checked, progress)
    except MeterSyncError as error:
        # Whatever was listed is named, also when the run could not go on with it.
        told_by_the_items = isinstance(error, Interrupted) and actions
        return [result(action) for action in actions], None if told_by_the_items else error


async def _list(order: Order, adapters: Adapters, progress: Progress) -> tuple[Listing, Mapping[str, Meter]]:
    """Ask Stripe for the items and OpenMeter for its meters, both at once."""
    progress.begin("list", None)
    skip = adapters.ledger.empty_prices(order.policy.now - EMPTY_PRICE_ASKED_AGAIN_AFTER)
    async with first_error_only(), asyncio.TaskGroup() as group:
        listing = group.create_task(adapters.lister.find(order.selection, skip))
        meters = group.create_task(adapters.openmeter.meters())
    found, known = listing.result(), meters.result()
    log.info("list", items=len(found.items), meters=len(set(known.values())))
    return found, known


def _remember(order: Order, adapters: Adapters, listing: Listing) -> Memory:
    """Recall what the ledger knows of the listed items, and note what the listing saw."""
    ledger = adapters.ledger
    if adapters.writer is not None:
        ledger.record_listing(listing.items, listing.asked_prices, listing.empty_archived_prices, order.policy.now)
    memory = ledger.memory(listing.items)
    if order.selection.is_everything:
        _warn_of_unused_rows(order.rules, listing)
    if order.selection.narrows_the_listing:
        memory = replace(memory, other_claims=ledger.claims(order.run.as_of))
    return memory


def _warn_of_unused_rows(rules: MappingRules, listing: Listing) -> None:
    """Name the rows that are for no listed item: a misspelt one leaves its items to the metadata, or unbilled."""
    for number, row in enumerate(rules.rows, start=1):
        if not any(row.is_for(item) for item in listing.items):
            selector = row.price or row.lookup_key or row.product or row.stripe_meter
            log.warning("meters_row_unused", row=number, selector=selector)


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
    plan = QueryPlan([need(line) for line in prepared if isinstance(line, Line)])
    progress.begin("query", len(plan.queries))
    usages = plan.usages(await _ask_all(adapters.openmeter, plan.queries, progress))
    log.info("query", queries=len(plan.queries), items=len(usages))
    actions: list[Action] = [
        decide(line, usages[line.item.id], memory, order.policy) if isinstance(line, Line) else line
        for line in prepared
    ]
    _log("plan", actions)
    return actions


async def _ask_all(openmeter: OpenMeter, queries: Sequence[Query], progress: Progress) -> dict[Query, Answer]:
    """Send all queries, as many at once as the server stands, and return the answer of each."""
    answers: dict[Query, Answer] = {}

    async def ask(query: Query) -> None:
        answers[query] = await openmeter.usage(query)
        progress.advance()

    await each(queries, ask)
    return answers


def _dry(order: Order, planned: Sequence[Action]) -> list[Result]:
    """Return what a run would do, as far as can be said without asking Stripe about single items."""
    allowed = order.policy.allowed
    known = [not_looked(action, allowed) if isinstance(action, Set) else action for action in planned]
    checked = check(known, order.thresholds, allowed)
    _log("check", checked)
    return [result(action) for action in checked]


async def _finish_looks(
    order: Order,
    adapters: Adapters,
    prepared: Sequence[Line | Hold | Skip],
    memory: Memory,
    progress: Progress,
) -> Memory:
    """Finish the looks that an earlier run had begun, before anything new is thought of, and recall what came of it."""
    if adapters.writer is None:
        return memory
    lines = [one if isinstance(one, Line) else one.line for one in prepared]
    begun = [
        write
        for line in lines
        if line.item.id in memory.remembered and (write := unfinished(line, memory.remembered[line.item.id]))
    ]
    if not begun:
        return memory
    reporter = Reporter(_writer(order, adapters), progress, FINISHING_STEP)
    await reporter.report(begun)
    if reporter.error:
        raise reporter.error
    recalled = adapters.ledger.memory([line.item for line in lines])
    return replace(memory, known_items=recalled.known_items, remembered=recalled.remembered)


async def _report(
    order: Order, adapters: Adapters, checked: Sequence[Action], progress: Progress
) -> tuple[Sequence[Result], MeterSyncError | None]:
    reporter = Reporter(_writer(order, adapters), progress)
    results = await reporter.report(checked)
    log.info("report", **_counted(results))
    return results, reporter.error


def _writer(order: Order, adapters: Adapters) -> ItemWriter:
    if adapters.writer is None:
        raise AssertionError("a dry run writes nothing")
    return ItemWriter(
        stripe=adapters.writer,
        ledger=adapters.ledger,
        run=order.run,
        allowed=order.policy.allowed,
        clock=adapters.clock,
        stop=adapters.stop,
    )


def _log(step: str, actions: Sequence[Action]) -> None:
    log.info(step, **_counted([result(action) for action in actions]))


def _counted(results: Sequence[Result]) -> dict[str, int]:
    return dict(Counter(one.outcome.value for one in results))
