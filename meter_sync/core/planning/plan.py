"""The plan: from an item's usage to what should happen to it."""

from collections.abc import Mapping
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


def measured(
    one: Metered | Result, usages: Mapping[str, Decimal | WindowUsage | Unanswered], memory: Memory
) -> Measured | Result:
    """Given OpenMeter's answers by item, return the item with its usage, or that it failed for want of an answer."""
    if isinstance(one, Result):
        return one
    usage = usages[one.item.id]
    if isinstance(usage, Unanswered):
        found = found_before(one, memory.remembered.get(one.item.id))
        return failed(found, Reason.OPENMETER_ERROR, usage.message)
    return Measured(one, usage)


def planned(one: Measured | Result, memory: Memory, policy: Policy) -> Planned | Result:
    """Given an item with its usage, return what should happen to it."""
    if isinstance(one, Result):
        return one
    if isinstance(one.usage, Decimal):
        return plan_total(one.metered, one.usage, memory, policy)
    return plan_windows(one.metered, one.usage, memory, policy)
