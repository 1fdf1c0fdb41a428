"""Looks that may wait: while they are made, what was looked at, or needs no look, is reported already.

A brake over a whole account holds everything of a meter where too much of it is held. So only so many looks wait that
it would not hold anything even if each of them ended with its item held.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning import brakes
from meter_sync.core.planning.results import held, waiting
from meter_sync.core.planning.stages import Checked, Planned, Result
from meter_sync.errors import MeterSyncError
from meter_sync.net.tasks import together
from meter_sync.sync.check import check, check_alone, is_stopped
from meter_sync.sync.job import Job
from meter_sync.sync.look import look
from meter_sync.sync.periods import Prepared
from meter_sync.sync.progress import NoProgress
from meter_sync.sync.report import report, written
from meter_sync.sync.request import RunReport


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """What may be written, and what has still to be looked at, which nothing else depends on."""

    checked: Sequence[Checked | Result]
    postponed: Sequence[Planned] = ()


async def look_and_check(job: Job, plan: Sequence[Planned | Result], prepared: Prepared) -> CheckedPlan:
    """Given the plan, look at what others depend on, and check. Raise MeterSyncError."""
    if not prepared.is_whole_account or job.writer is None:
        return CheckedPlan(check(job, await look(job, plan), prepared))
    postponed = brakes.postponable(plan, job.thresholds, job.policy.allowed)
    later = {one.item.id for one in postponed}
    first = [one for one in plan if one.item.id not in later]
    if not any(isinstance(one, Planned) for one in first):  # then there is nothing to do meanwhile
        first, postponed = [*plan], []
    looked = await look(job, first)
    as_if_held = [held(one.found, Reason.TOO_MANY_HELD, "") for one in postponed]
    checked = check(job, [*looked, *as_if_held], prepared)[: len(looked)]
    if postponed and is_stopped(checked):
        return CheckedPlan(check(job, [*looked, *await look(job, postponed)], prepared))
    return CheckedPlan(checked, postponed)


async def report_and_look(job: Job, plan: CheckedPlan, prepared: Prepared) -> RunReport:
    """Report what was checked and, beside that, look at the rest, check each of it by itself, and report it too."""
    if not plan.postponed:
        return await report(job, plan.checked)
    first, later = await together(
        [
            report(job, plan.checked, [one.write for one in plan.postponed]),
            _looked_at(replace(job, progress=NoProgress()), plan, prepared),
        ]
    )
    return first.and_then(later)


async def _looked_at(job: Job, plan: CheckedPlan, prepared: Prepared) -> RunReport:
    try:
        looked = await look(job, plan.postponed)
        return await report(job, check_alone(job, looked, prepared), written(plan.checked))
    except MeterSyncError as error:
        return RunReport([waiting(one.metered) for one in plan.postponed], error)
