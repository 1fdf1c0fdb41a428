"""The plan step: deciding on each item by its usage and by what is remembered of it."""

from collections.abc import Mapping
from decimal import Decimal

import structlog

from meter_sync.core.metering.queries import Unanswered
from meter_sync.core.planning.plan import measured, planned
from meter_sync.core.planning.results import counts
from meter_sync.core.planning.stages import Planned, Result, WindowUsage
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Prepared

log = structlog.get_logger()


def plan(
    job: Job, resumed: Prepared, usages: Mapping[str, Decimal | WindowUsage | Unanswered]
) -> list[Planned | Result]:
    """Given OpenMeter's answer for each item, return what should happen to it; nothing is asked or written."""
    memory, policy = resumed.memory, job.policy
    plan = [planned(measured(one, usages, memory, policy), memory, policy) for one in resumed.items]
    log.info("plan", **counts(plan))
    return plan
