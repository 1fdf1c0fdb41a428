"""The plan: from an item's usage to what should happen to it."""

from decimal import Decimal

from meter_sync.core.metering.queries import Unanswered
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.draft import found_before
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import failed
from meter_sync.core.planning.stages import Measured, Metered, Planned, Result, WindowUsage
from meter_sync.core.planning.totals import plan_total
from meter_sync.core.planning.windows import plan_windows


def measured(metered: Metered, usage: Decimal | WindowUsage | Unanswered, memory: Memory) -> Measured | Result:
    """Given OpenMeter's answer, return the item with its usage, or that it failed for want of an answer."""
    if isinstance(usage, Unanswered):
        found = found_before(metered, memory.remembered.get(metered.item.id))
        return failed(found, Reason.OPENMETER_ERROR, usage.message)
    return Measured(metered, usage)


def plan(one: Measured, memory: Memory, policy: Policy) -> Planned | Result:
    """Given an item with its usage, return what should happen to it."""
    if isinstance(one.usage, Decimal):
        return plan_total(one.metered, one.usage, memory, policy)
    return plan_windows(one.metered, one.usage, memory, policy)
