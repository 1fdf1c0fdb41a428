"""The query step: asking OpenMeter for what every item needs, in as few requests as possible."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import structlog

from meter_sync.core.metering.queries import Need, Query, QueryPlan, Unanswered, WindowQueryPlan
from meter_sync.core.planning.falls import needs_of_falls
from meter_sync.core.planning.stages import Metered, WindowUsage
from meter_sync.openmeter_api.client import OpenMeter
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Prepared
from meter_sync.sync.progress import Progress
from meter_sync.sync.workers import each

log = structlog.get_logger()

Found = TypeVar("Found")


async def query(job: Job, prepared: Prepared) -> Mapping[str, Decimal | WindowUsage | Unanswered]:
    """Query the usage of every item that is metered, as many at once as the server stands, and return it by need."""
    metered = [one for one in prepared.items if isinstance(one, Metered)]
    needs = [(need, one.way.is_by_window) for one in metered for need in one.needs]
    fallen = [need for one in metered for need in needs_of_falls(one, prepared.memory)]
    whole = QueryPlan([*(need for need, by_window in needs if not by_window), *fallen])
    split = WindowQueryPlan([need for need, by_window in needs if by_window])
    totals, windows = [*whole.queries, *split.single_queries], split.queries
    job.progress.begin("query", len(totals) + len(windows))
    answers = await _ask_all(totals, job.openmeter.usage, job.progress)
    window_answers = await _ask_all(windows, job.openmeter.window_usage, job.progress)
    log.info("query", queries=len(totals) + len(windows), items=len(needs))
    return {**whole.usages(answers), **split.usages(window_answers, answers)}


async def query_totals(
    needs: Sequence[Need], openmeter: OpenMeter, progress: Progress
) -> Mapping[str, Decimal | Unanswered]:
    """Query one total for each need, and return it by need."""
    plan = QueryPlan(needs)
    progress.begin("query", len(plan.queries))
    answers = await _ask_all(plan.queries, openmeter.usage, progress)
    log.info("query", queries=len(plan.queries), items=len(needs))
    return plan.usages(answers)


async def _ask_all(
    queries: Sequence[Query], ask: Callable[[Query], Awaitable[Found]], progress: Progress
) -> dict[Query, Found]:
    answers: dict[Query, Found] = {}

    async def ask_one(query: Query) -> None:
        answers[query] = await ask(query)
        progress.advance()

    await each(queries, ask_one, len(queries))
    return answers
