"""Late usage that is carried: what a period can no longer bill is added to its item's next one, and never twice.

What waits is a whole quantity, of a running total that was scaled and rounded, so it goes into no period whose price or
scale is another one: there it would be in another unit. It lowers no quantity below zero: the rest waits. The last
period of an item in a unit takes all that still waits, so that it is named with what that one lacks itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import PeriodKey, SubscriptionItem
from meter_sync.core.metering.mapping import LateUsage, MappingRules, MeterRow, meter_row
from meter_sync.core.planning.memory import Carried, Memory
from meter_sync.core.planning.stages import Listed, Metered

Unit = tuple[str, Decimal]
"""What a quantity counts: a price, and the scale that made it of usage."""

LaterPeriods = Mapping[str, Sequence[tuple[datetime, Unit | None]]]
"""Per item, when the known periods of it begin that are billed, and their units; None where nothing can be added."""


def unit_of(item: SubscriptionItem, row: MeterRow | None) -> Unit:
    """Return what a quantity of an item counts, metered as its row says."""
    return item.price.id, row.scale if row else Decimal(0)


def periods_of(known: Iterable[Listed], rules: MappingRules, scales: Mapping[PeriodKey, Decimal]) -> LaterPeriods:
    """Given items in their periods, return when those of each item begin that are billed, and their units.

    `scales` are those that periods began with: they go on by them, whatever the rules say by now. Nothing is added to
    one that is over and had nothing of its own: no run looks at it again.
    """
    found = defaultdict[str, list[tuple[datetime, Unit | None]]](list)
    for one in known:
        item = one.item
        if not item.was_free:
            price, scale = unit_of(item, meter_row(item, rules))
            unit = (price, scales.get(item.key, scale)) if one.settled != () else None
            found[item.id].append((item.period.start, unit))
    return found


def lives_on(item: SubscriptionItem, row: MeterRow, known: LaterPeriods) -> bool:
    """Say whether a later period of an item bills in the same unit; where none is known yet, whether one follows."""
    later = [unit for start, unit in known.get(item.id, ()) if start > item.period.start]
    return unit_of(item, row) in later if later else item.is_followed and not item.is_cut


def offered(metered: Metered, memory: Memory) -> tuple[Carried, ...]:
    """Return what could be added to an item's period: all that waits, and once it has ended, what it has of that.

    Else it would be taken twice while Stripe takes usage of two periods, the one of them a draft.
    """
    if metered.listed.intake is not Intake.RUNNING and metered.lives_on:
        return memory.carried_into(metered.item.id)
    unit, waiting = unit_of(metered.item, metered.row), memory.waiting.get(metered.item.id, ())
    return tuple(
        Carried(one.period_start, one.quantity) for one in waiting if one.quantity and (one.price, one.scale) == unit
    )


def carried_into(metered: Metered, own: int, memory: Memory) -> tuple[Carried, ...]:
    """Given the quantity of an item's own usage, return what is added to it of what waits.

    As long as Stripe takes it, the sum is zero at the least: Stripe bills no less than nothing.
    """
    could_be = offered(metered, memory)
    if not metered.listed.intake.is_open:
        return could_be
    total = own + sum(one.quantity for one in could_be if one.quantity > 0)
    found = []
    for one in could_be:
        quantity = one.quantity
        if quantity < 0:
            quantity = max(quantity, -total)
            total += quantity
        if quantity:
            found.append(Carried(one.period_start, quantity))
    return tuple(found)


def total_of(carried: Iterable[Carried]) -> int:
    """Return the quantity of all that is carried."""
    return sum(one.quantity for one in carried)


def becomes_of_late(metered: Metered) -> LateUsage:
    """Say what becomes of usage that an item's period can no longer bill.

    It waits for the next period where the item lives on and its row says so; what is named once, which somebody may
    have settled, stays so. What an invoice lacks that was voided, or never came, is a person's to decide.
    """
    left, intake = metered.listed.left, metered.listed.intake
    may_wait = metered.row.late_usage is LateUsage.CARRY and left is not LateUsage.NAME
    waits = metered.lives_on and intake.bills and (may_wait or left is LateUsage.CARRY)
    return LateUsage.CARRY if waits else LateUsage.NAME


def named_before(metered: Metered, lacking_before: int) -> int:
    """Given what an item's period lacked before, return how much of that was said already.

    What waited until now, and does so no more, is still to be named.
    """
    left = metered.listed.left
    is_told_first = left is None and not metered.listed.intake.is_open
    waited = left is LateUsage.CARRY or (is_told_first and metered.row.late_usage is LateUsage.CARRY)
    return 0 if waited and becomes_of_late(metered) is LateUsage.NAME else lacking_before
