"""The check step: what is implausible is held, before anything is written."""

from collections.abc import Collection, Sequence

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning import brakes
from meter_sync.core.planning.results import gave_way, shown
from meter_sync.core.planning.stages import Checked, Planned, Result
from meter_sync.sync.job import Job
from meter_sync.sync.progress import log_counts


def check(job: Job, planned: Sequence[Planned | Result], busy: Collection[str]) -> list[Planned | Result]:
    """Given the plan, and the items that another run is writing at this moment, hold what is implausible of it."""
    checked = brakes.check(planned, job.thresholds, job.policy.allowed)
    log_counts("check", checked)
    return [_left_alone(one, busy) for one in checked]


def _left_alone(one: Planned | Result, busy: Collection[str]) -> Planned | Result:
    """Leave an item to the run that is writing it, where that keeps this one from telling what stands in Stripe.

    One whose `[[meters]]` row says `report = false` is only shown.
    """
    if isinstance(one, Planned):
        return one if one.found.row.report else shown(one.write)
    is_left = one.reason is Reason.UNSETTLED and one.item.id in busy
    return gave_way(one.found) if is_left else one


def check_whole(job: Job, plan: Sequence[Planned | Result]) -> list[Checked | Result]:
    """Given the checked plan of all open periods, hold also what is implausible of a whole account."""
    if job.run.everything:
        plan = brakes.check_whole(plan, job.thresholds, job.policy.allowed, job.run.as_of)
    return brakes.passed(plan)


def is_stopped(checked: Sequence[Checked | Result]) -> bool:
    """Say whether so much was held that nothing at all is to be written."""
    return any(isinstance(one, Result) and one.reason is Reason.TOO_MANY_HELD for one in checked)
