"""The plan step: deciding on each item by its usage and by what is remembered of it."""

from collections import Counter
from collections.abc import Sequence

import structlog

from meter_sync.core.outcomes import Outcome
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.plan import plan as plan_one
from meter_sync.core.planning.results import outcome_of
from meter_sync.core.planning.stages import Measured, Planned, Result
from meter_sync.sync.job import Job

log = structlog.get_logger()


def plan(job: Job, measured: Sequence[Measured | Result], memory: Memory) -> list[Planned | Result]:
    """Given the items with their usage, return what should happen to each; nothing is asked or written."""
    planned = [plan_one(one, memory, job.policy) if isinstance(one, Measured) else one for one in measured]
    outcomes = (one if isinstance(one, Result) else outcome_of(one.write, Outcome.PLANNED) for one in planned)
    log.info("plan", **Counter(one.outcome.value for one in outcomes))
    return planned
