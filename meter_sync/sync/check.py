"""The check step: what is implausible is held, before anything is written."""

from collections.abc import Sequence

import structlog

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning import brakes
from meter_sync.core.planning.results import counts
from meter_sync.core.planning.stages import Checked, Planned, Result
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Prepared

log = structlog.get_logger()


def check(job: Job, planned: Sequence[Planned | Result], resumed: Prepared) -> list[Checked | Result]:
    """Given the plan for some items, return what of it may be written, and hold what is implausible."""
    all_open_at = job.run.as_of if resumed.is_whole_account else None
    checked = brakes.check(
        planned,
        resumed.busy,
        job.thresholds,
        job.policy.allowed,
        is_everything=job.run.everything,
        all_open_at=all_open_at,
    )
    log.info("check", **counts(checked))
    return checked


def check_alone(job: Job, planned: Sequence[Planned | Result], resumed: Prepared) -> list[Checked | Result]:
    """Do the same for items that were weighed with the others of their account before: each by itself."""
    thresholds, allowed = job.thresholds, job.policy.allowed
    checked = brakes.check(planned, resumed.busy, thresholds, allowed, is_everything=False, all_open_at=None)
    log.info("check", **counts(checked))
    return checked


def is_stopped(checked: Sequence[Checked | Result]) -> bool:
    """Say whether so much of a meter was held that nothing is to be written for it."""
    return any(isinstance(one, Result) and one.reason is Reason.TOO_MANY_HELD for one in checked)
