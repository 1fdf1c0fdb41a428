"""The query step: asking OpenMeter for what every item needs, in as few requests as possible."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

import structlog

from meter_sync.core.metering.queries import Answer, Need, Query, QueryPlan, Unanswered, WindowQueryPlan
from meter_sync.core.metering.sharing import Total
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.falls import is_lower, needs_of_falls
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.plan import usage_of
from meter_sync.core.planning.results import failed
from meter_sync.core.planning.stages import Metered, Result, WindowUsage
from meter_sync.core.planning.windows import read_since
from meter_sync.ledger.windows import Wanted
from meter_sync.openmeter_api.client import OpenMeter
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Prepared
from meter_sync.sync.progress import Progress
from meter_sync.sync.shared import Shared, Together
from meter_sync.sync.workers import each

log = structlog.get_logger()

Found = TypeVar("Found")
Usages = Mapping[str, Decimal | WindowUsage | Unanswered]
"""What was answered, by need: one total, or that of each hour or day."""


async def query(job: Job, shared: Shared | None, prepared: Prepared) -> tuple[Prepared, Usages]:
    """Query the usage of every item that is metered, as many at once as the server stands, and return it by need.

    With it come the items, and what is remembered of their hours or days as far as these are read. `shared` has what is
    kept, where a whole account is asked for; without it each item is asked for exactly.
    """
    metered = [one for one in prepared.items if isinstance(one, Metered)]
    of_totals = [need for one in metered if not one.way.is_by_window for need in one.needs]
    needs = [*of_totals, *(need for one in metered if one.way.is_by_window for need in one.needs)]
    together, _ = shared.parted(needs) if shared else ([], needs)
    asked = await _ask_together(together, job.openmeter, job.progress)
    prepared = _with_windows(job, shared, prepared)
    metered = [one for one in prepared.items if isinstance(one, Metered)]
    fallen = [need for one in metered for need in needs_of_falls(one, prepared.memory)]
    whole = _Totals(shared, of_totals, fallen)
    split = WindowQueryPlan([need for one in metered if one.way.is_by_window for need in one.needs])
    totals, windows = [*whole.queries, *split.single_queries], split.queries
    job.progress.begin("query", len(totals) + len(windows))
    answers = await _ask_all(totals, job.openmeter.usage, job.progress)
    window_answers = await _ask_all(windows, job.openmeter.window_usage, job.progress)
    log.info("query", queries=asked + len(totals) + len(windows), items=len(needs))
    usages: dict[str, Decimal | WindowUsage | Unanswered] = {**split.usages(window_answers, answers)}
    usages |= whole.usages(answers)
    usages |= await _read_falls(job, shared, prepared, usages)
    return prepared, usages


async def query_totals(
    needs: Sequence[Need], openmeter: OpenMeter, progress: Progress, shared: Shared | None = None
) -> Mapping[str, Decimal | Unanswered]:
    """Query one total for each need, and return it by need; `shared` is what is kept, if anything."""
    needs = [replace(need, window=None) for need in needs]
    together, _ = shared.parted(needs) if shared else ([], needs)
    asked = await _ask_together(together, openmeter, progress)
    plan = _Totals(shared, needs)
    progress.begin("query", len(plan.queries))
    answers = await _ask_all(plan.queries, openmeter.usage, progress)
    log.info("query", queries=asked + len(plan.queries), items=len(needs))
    return plan.usages(answers)


class _Totals:
    """One total for each need: made of what is shared and kept where that is so, else asked for exactly."""

    def __init__(self, shared: Shared | None, needs: Sequence[Need], others: Iterable[Need] = ()) -> None:
        """Plan the queries for needs whose shared totals were asked for, and for others, which share nothing."""
        self._together, exact = shared.parted(needs) if shared else ([], needs)
        parts = [part for sharing, some in self._together for part in sharing.parts(some)]
        self._exact = [*exact, *others]
        self._plan = QueryPlan([*self._exact, *parts])
        self.queries = self._plan.queries

    def usages(self, answers: Mapping[Query, Answer]) -> dict[str, Decimal | Unanswered]:
        """Given the answer of each query, return the usage of each need."""
        totals = self._plan.totals(answers)
        usages = {need.item: _or_zero(totals[need.item]) for need in self._exact}
        for sharing, some in self._together:
            usages |= sharing.usages(some, totals)
        return usages


def _or_zero(total: Total | Unanswered) -> Decimal | Unanswered:
    return Decimal(0) if total is None else total


async def _ask_together(together: Iterable[Together], openmeter: OpenMeter, progress: Progress) -> int:
    """Ask for the totals that needs share, and return how many queries that took."""
    planned = [(sharing, needs, sharing.queries(needs)) for sharing, needs in together]
    queries = [query for _, _, some in planned for query in some]
    progress.begin("query", len(queries))
    answers = await _ask_all(queries, openmeter.usage, progress)
    for sharing, needs, some in planned:
        sharing.answered(needs, {query: answers[query] for query in some})
    return len(queries)


def _with_windows(job: Job, shared: Shared | None, prepared: Prepared) -> Prepared:
    """Say how much of each period's hours or days to read, and recall as much of them from the ledger."""
    known = prepared.memory.remembered
    items = [
        replace(one, read_since=_read_since(job, shared, one, prepared))
        if isinstance(one, Metered) and one.way.is_by_window
        else one
        for one in prepared.items
    ]
    wanted = [
        Wanted(*one.item.key, one.read_since)
        for one in items
        if isinstance(one, Metered)
        and (before := known.get(one.item.id))
        and (one.way.is_by_window or before.method.way.is_by_window)
    ]
    memory = job.ledger.memory.with_windows(prepared.memory, wanted)
    return replace(prepared, items=[_if_read(one, memory) for one in items], memory=memory)


def _if_read(one: Metered | Result, memory: Memory) -> Metered | Result:
    """Return an item, or that what was written of its hours or days could not be read."""
    why = memory.unreadable.get(one.item.id)
    return failed(one.found, Reason.LEDGER_ERROR, why) if why and isinstance(one, Metered) else one


def _read_since(job: Job, shared: Shared | None, one: Metered, prepared: Prepared) -> datetime | None:
    remembered = prepared.memory.remembered.get(one.item.id)
    written = remembered.as_of if remembered else None
    known_until = shared.windows_known_until(one, written) if shared else None
    return read_since(one, prepared.memory, job.policy, known_until)


async def _read_falls(
    job: Job, shared: Shared | None, prepared: Prepared, usages: Usages
) -> Mapping[str, Decimal | Unanswered]:
    """Ask exactly for what would lower what Stripe holds, and was made of what is kept: that is no reason by itself."""
    if shared is None:
        return {}
    lower = [
        need
        for one in prepared.items
        if isinstance(one, Metered) and not one.way.is_by_window and _is_lower(one, usages, prepared)
        for need in one.needs
        if (sharing := shared.of(need)) and sharing.is_kept(need)
    ]
    if not lower:
        return {}
    for need in lower:
        if sharing := shared.of(need):
            sharing.forget(need)
    return await query_totals(lower, job.openmeter, job.progress)


def _is_lower(one: Metered, usages: Usages, prepared: Prepared) -> bool:
    usage = usage_of(one, usages)
    return isinstance(usage, Decimal) and is_lower(one, usage, prepared.memory)


async def _ask_all(
    queries: Sequence[Query], ask: Callable[[Query], Awaitable[Found]], progress: Progress
) -> dict[Query, Found]:
    answers: dict[Query, Found] = {}

    async def ask_one(query: Query) -> None:
        answers[query] = await ask(query)
        progress.advance()

    await each(queries, ask_one, len(queries))
    return answers
