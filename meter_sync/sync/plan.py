"""The plan step: deciding on each item by its usage and by what is remembered of it."""

from collections.abc import Sequence

from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.plan import plan as plan_one
from meter_sync.core.planning.stages import Measured, Planned, Result
from meter_sync.sync.job import Job
from meter_sync.sync.progress import log_counts


def plan(job: Job, measured: Sequence[Measured | Result], memory: Memory) -> list[Planned | Result]:
    """Given the items with their usage, return what should happen to each; nothing is asked or written."""
    planned = [plan_one(one, memory, job.policy) if isinstance(one, Measured) else one for one in measured]
    log_counts("plan", planned)
    return planned
