"""A closing run that waits for the last seconds of the periods that end before the next one comes."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from meter_sync.config import Settings
from meter_sync.core.planning.stages import Result
from meter_sync.errors import Interrupted
from meter_sync.net.stop import Stop
from meter_sync.sync.books import execute
from meter_sync.sync.job import Clock
from meter_sync.sync.progress import Progress
from meter_sync.sync.request import Execution, Request

log = structlog.get_logger()

NEXT_RUN_COMES_WITHIN = timedelta(minutes=1)
"""The closing run stands in the crontab every minute."""
LAST_REPORT_BEFORE_THE_END = timedelta(seconds=5)
"""Enough for a query and a report; what is used later, and is no `sum`, Stripe takes no more."""

WaitUntil = Callable[[datetime], Awaitable[None]]


async def execute_in_time(
    settings: Settings,
    request: Request,
    clock: Clock,
    stop: Stop,
    wait_until: WaitUntil,
    progress: Progress | None = None,
) -> Execution:
    """Carry out a closing run at once, and again seconds before each end that the next one would come too late for.

    Return it as one: of each period what became of it last, and everything that was asked. `wait_until` returns at an
    instant, or raises Interrupted.
    """
    done = await execute(settings, request, clock, stop, progress)
    waits = request.as_of is None and not request.dry_run
    for moment in last_moments(done.report.results, done.run.as_of) if waits else ():
        try:
            log.info("wait", until=moment.isoformat(), run_id=done.run.id)
            await wait_until(moment)
        except Interrupted:
            break
        last = replace(request, closing=2 * LAST_REPORT_BEFORE_THE_END)
        later = await execute(settings, last, clock, stop, progress)
        done = Execution(later.run, done.report.and_then(later.report), later.finished_at, done.seconds + later.seconds)
    return done


def last_moments(results: Sequence[Result], as_of: datetime) -> list[datetime]:
    """Given what became of a closing run, return when to report once more before its next one, the first first.

    A change that is planned within a period is as an end. What ends within seconds of each other shares a report.
    """
    ends = sorted({end for one in results for end in (one.item.period.end, one.item.changes_at) if end})
    moments: list[datetime] = []
    for end in ends:
        moment = end - LAST_REPORT_BEFORE_THE_END
        is_shared = bool(moments) and moment <= moments[-1] + LAST_REPORT_BEFORE_THE_END
        if as_of < moment and end <= as_of + NEXT_RUN_COMES_WITHIN and not is_shared:
            moments.append(moment)
    return moments
