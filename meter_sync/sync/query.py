"""The query step: asking OpenMeter for what every line needs, in as few requests as possible."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

import structlog

from meter_sync.core.metering.queries import Need, Query, QueryPlan, Unanswered
from meter_sync.core.metering.window_queries import WindowQueryPlan
from meter_sync.core.planning.stages import Line, need
from meter_sync.openmeter_api.client import OpenMeter
from meter_sync.sync.progress import Progress
from meter_sync.sync.workers import each

log = structlog.get_logger()

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Usages:
    """The usage of each item: one total, or that of each hour or day."""

    totals: Mapping[str, Decimal | Unanswered]
    parts: Mapping[str, Mapping[datetime, Decimal] | Unanswered]


async def query(lines: Sequence[Line], openmeter: OpenMeter, progress: Progress) -> Usages:
    """Query the usage of every line, as many at once as the server stands."""
    whole = QueryPlan([need(line) for line in lines if not line.way.is_in_parts])
    split = WindowQueryPlan([need(line) for line in lines if line.way.is_in_parts])
    totals, windows = [*whole.queries, *split.single_queries], split.queries
    progress.begin("query", len(totals) + len(windows))
    answers = await _ask_all(totals, openmeter.usage, progress)
    window_answers = await _ask_all(windows, openmeter.window_usage, progress)
    log.info("query", queries=len(totals) + len(windows), items=len(lines))
    return Usages(totals=whole.usages(answers), parts=split.usages(window_answers, answers))


async def query_totals(
    needs: Sequence[Need], openmeter: OpenMeter, progress: Progress
) -> Mapping[str, Decimal | Unanswered]:
    """Query one total for each need, and return the usage of each item."""
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
