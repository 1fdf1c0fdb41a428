"""One run, from the listing to the ledger: the sentence."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from meter_sync.core.planning.results import waiting
from meter_sync.core.planning.stages import Metered, Planned, Result
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.sync.check import check, is_stopped
from meter_sync.sync.clocks import warn_of_unseen
from meter_sync.sync.compact import compact
from meter_sync.sync.ends.conclude import conclude_ended
from meter_sync.sync.job import Job
from meter_sync.sync.list import list_and_record
from meter_sync.sync.look import look
from meter_sync.sync.periods import Prepared
from meter_sync.sync.plan import plan
from meter_sync.sync.postponed import look_and_check, report_and_look
from meter_sync.sync.query import query
from meter_sync.sync.record import record
from meter_sync.sync.report import report
from meter_sync.sync.request import RunReport
from meter_sync.sync.resume import resume
from meter_sync.sync.shared import Shared, keep, recall_shared


async def run(job: Job) -> RunReport:
    """List, query, plan, check, report and record, and return what became of it. Raises nothing of its own.

    So do full, narrowed, webhook and closing runs alike: they differ in what they list.
    """
    done = await _reported(job)
    if done.error is None:
        await warn_of_unseen(job)  # after all that is billed: nothing may wait for it
    recorded = record(job, done)
    if recorded.error is None:
        compact(job)  # after all that matters: it may be cut off
    return recorded


async def _reported(job: Job) -> RunReport:
    """List, plan and check the open periods; conclude those that have ended; and only then report the open ones."""
    ended, open_items = RunReport(), tuple[Metered | Result, ...]()
    try:
        listed = await list_and_record(job)
        open_items = tuple(listed.open.items)
        shared = recall_shared(job, listed)
        planned, prepared = await _planned(job, shared, listed.open)
        looked = await look_and_check(job, planned, prepared)
        ended = await conclude_ended(job, listed, partial(_carry_out, job, shared))
        if ended.error:
            raise ended.error
        done = ended.and_then(await report_and_look(job, looked, prepared))
        keep(job, shared, done.results)
        # Events that were queued by webhook wait for what was held.
        return replace(done, gave_way=done.gave_way or is_stopped(looked.checked))
    except MeterSyncError as error:
        # Whatever was listed is named, also when the run could not go on with it.
        told_by_the_items = isinstance(error, Interrupted) and open_items
        return RunReport([*ended.results, *map(waiting, open_items)], None if told_by_the_items else error)


async def _planned(job: Job, shared: Shared | None, prepared: Prepared) -> tuple[Sequence[Planned | Result], Prepared]:
    """Resume what was begun, query and plan. Each item may appear once. Raise MeterSyncError."""
    resumed = await resume(job, prepared)
    asked, usages = await query(job, shared, resumed)
    return plan(job, asked, usages), asked


async def _carry_out(job: Job, shared: Shared | None, prepared: Prepared) -> RunReport:
    """Do the same for periods that have ended, look, check and report: brakes over an account are for open ones."""
    planned, asked = await _planned(job, shared, prepared)
    return await report(job, check(job, await look(job, planned), asked))
