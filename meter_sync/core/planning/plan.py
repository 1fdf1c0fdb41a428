"""The plan: from an item's usage to what should happen to it."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from meter_sync.core.metering.queries import Unanswered, combined
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.draft import found_before
from meter_sync.core.planning.falls import with_falls
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import failed
from meter_sync.core.planning.stages import Measured, Metered, Planned, Result, WindowUsage
from meter_sync.core.planning.totals import plan_total
from meter_sync.core.planning.windows import plan_windows

Usage = Decimal | WindowUsage | Unanswered
"""What was answered: one total, that of each hour or day, or nothing."""


def measured(one: Metered | Result, usages: Mapping[str, Usage], memory: Memory, policy: Policy) -> Measured | Result:
    """Given OpenMeter's answers by need, return the item with its usage, or that it failed for want of an answer."""
    if isinstance(one, Result):
        return one
    usage = usage_of(one, usages)
    if isinstance(usage, Unanswered):
        found = found_before(one, memory.remembered.get(one.item.id))
        return failed(found, Reason.OPENMETER_ERROR, usage.message)
    return Measured(with_falls(one, usages, memory, policy), usage)


def usage_of(one: Metered, usages: Mapping[str, Usage]) -> Usage:
    """Given what was answered for each need, return the usage of an item: of all stretches that are its own."""
    totals, windows = list[Decimal](), dict[datetime, Decimal]()
    for name in need_names(one):
        usage = usages[name]
        match usage:
            case Unanswered():
                return usage
            case Decimal():
                totals.append(usage)
            case _:
                windows |= usage
    return windows if one.way.is_by_window else combined(one.meter.aggregation, totals)


def need_names(one: Metered) -> tuple[str, ...]:
    """Return how an item's needs are called, in order: nearly every item has one, of its own name."""
    has_one = one.stretches is None and one.read_since is None and not one.earlier_subjects
    return (one.item.id,) if has_one else tuple(need.item for need in one.needs)


def planned(one: Measured | Result, memory: Memory, policy: Policy) -> Planned | Result:
    """Given an item with its usage, return what should happen to it."""
    if isinstance(one, Result):
        return one
    if isinstance(one.usage, Decimal):
        return plan_total(one.metered, one.usage, memory, policy)
    return plan_windows(one.metered, one.usage, memory, policy)
