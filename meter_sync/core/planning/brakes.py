"""The check: brakes that hold what is implausible, over the whole plan and before the first request."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.stages import Action, Fail, Hold, Line, Set, Skip, Unchanged


@dataclass(frozen=True)
class Thresholds:
    """From where on a change is implausible."""

    decrease_percent: Decimal = Decimal(0)
    """A quantity may fall by so much of what Stripe holds…"""
    decrease_units: int = 0
    """… or by so many units, whichever is more; beyond it is held."""
    jump_factor: Decimal = Decimal(10)
    """A quantity may be so many times the largest of the item's last periods…"""
    jump_units: int = 1000
    """… or so many units more than that, whichever is more; beyond it is held."""
    all_zero_percent: Decimal = Decimal(25)
    """So much of a period has to be over for its lack of usage to be noticed."""
    all_zero_items: int = 1
    """So many items of a meter must have had usage in their last period, and have none now."""
    held_percent: Decimal = Decimal(50)
    """So many of a run's items may be held or fail; beyond it nothing is written…"""
    held_items: int = 10
    """… if they are so many at least."""


Brake = Callable[[Set, Thresholds], str | None]
"""Given a planned write, a brake returns why it is implausible, or None."""


def decrease(planned: Set, thresholds: Thresholds) -> str | None:
    """Hold a running total that fell.

    SUM, COUNT, UNIQUE_COUNT and MAX cannot fall within a period unless events were lost or changed; gauges
    (LATEST, AVG, MIN) may.
    """
    before, meter = planned.highest_before, planned.line.meter
    if not before or meter is None or not meter.aggregation.never_falls:
        return None
    fallen = before - planned.quantity
    fallen_percent = Decimal(fallen) * 100 / before
    if fallen_percent <= thresholds.decrease_percent or fallen <= thresholds.decrease_units:
        return None
    unless_foreign = (
        ""
        if planned.total_before is None
        else " (or another program reports for this item too: add --allow foreign_usage to bill only the rest)"
    )
    return (
        f"the quantity would fall from {before} to {planned.quantity} (-{fallen_percent:.1f} %), which the "
        f"{meter.aggregation} meter {meter.slug} cannot do by itself{unless_foreign}"
    )


def jump(planned: Set, thresholds: Thresholds) -> str | None:
    """Hold a quantity that is out of proportion to the item's last periods: events sent twice look like that.

    Shorter periods count as if they had been as long as this one. An item without usage in them has nothing to be
    compared with. What Stripe holds of this period was let pass before.
    """
    largest = _largest_in_past(planned.line)
    if not largest or not planned.sends:
        return None
    usual = max(largest, planned.highest_before or 0)
    if planned.quantity <= usual * thresholds.jump_factor or planned.quantity - usual <= thresholds.jump_units:
        return None
    periods = len(planned.line.past)
    of_what = "its last period" if periods == 1 else f"the largest of its last {periods} periods"
    return f"the quantity {planned.quantity} is {planned.quantity / largest:.1f} times that of {of_what} ({largest})"


def _largest_in_past(line: Line) -> int:
    length = line.item.period.end - line.item.period.start
    found = [0]
    for past in line.past:
        length_then = past.period.end - past.period.start
        found.append(round(past.quantity * max(1.0, length / length_then)) if length_then else past.quantity)
    return max(found)


BRAKES: dict[Reason, Brake] = {Reason.DECREASE: decrease, Reason.JUMP: jump}


def check(actions: Iterable[Action], thresholds: Thresholds, allowed: Collection[Reason]) -> list[Action]:
    """Given a plan, return it with every implausible write held, except where its brake was lifted."""
    brakes = {reason: brake for reason, brake in BRAKES.items() if reason not in allowed}
    return [_checked(action, brakes, thresholds) if isinstance(action, Set) else action for action in actions]


def _checked(planned: Set, brakes: dict[Reason, Brake], thresholds: Thresholds) -> Action:
    for reason, brake in brakes.items():
        why = brake(planned, thresholds)
        if why:
            return Hold(planned.line, reason, f"{why}; Stripe was left as it is: {_remedy(reason)}")
    return planned


def _remedy(reason: Reason) -> str:
    return f"find out why, then lift the brake with --allow {reason}"


def check_whole(
    actions: Sequence[Action], thresholds: Thresholds, allowed: Collection[Reason], as_of: datetime
) -> list[Action]:
    """Given the checked plan of all open periods of an account, return it with what is implausible as a whole held.

    Items that are only shown (`report = false`) count for nothing here.
    """
    checked = [action for action in actions if action.line.row.report]
    if Reason.ALL_ZERO not in allowed:
        checked = _without_dead_meters(checked, thresholds, as_of)
    if Reason.TOO_MANY_HELD not in allowed:
        checked = _nothing_if_too_many_are_held(checked, thresholds)
    changed = {action.line.item.id: action for action in checked}
    return [changed.get(action.line.item.id, action) for action in actions]


def _without_dead_meters(actions: Sequence[Action], thresholds: Thresholds, as_of: datetime) -> list[Action]:
    """Hold the items of a meter that had usage in their last period, where no item has any: its pipeline is broken.

    Nothing was used is also what a period's first hours look like; so it takes items late in their period, and one
    with usage, or without an answer, is enough to tell that events arrive, or that this cannot be told.
    """
    silent: dict[str, list[Action]] = {}
    alive: set[str] = set()
    for action in actions:
        slug = action.line.meter.slug if action.line.meter else None
        if slug is None or isinstance(action, Skip):
            continue
        if not isinstance(action, Set | Unchanged) or action.line.usage != 0:
            alive.add(slug)
        elif _is_late(action.line, thresholds, as_of) and action.line.past and action.line.past[0].quantity:
            silent.setdefault(slug, []).append(action)
    dead = {slug for slug, items in silent.items() if slug not in alive and len(items) >= thresholds.all_zero_items}
    held = {action.line.item.id for slug in dead for action in silent[slug]}
    return [_dead(action.line) if action.line.item.id in held else action for action in actions]


def _is_late(line: Line, thresholds: Thresholds, as_of: datetime) -> bool:
    period = line.item.period
    over = (as_of - period.start) / (period.end - period.start)
    return over * 100 >= thresholds.all_zero_percent


def _dead(line: Line) -> Hold:
    slug = line.meter.slug if line.meter else ""
    return Hold(
        line,
        Reason.ALL_ZERO,
        f"no item of meter {slug} shows any usage, although this one had {line.past[0].quantity} in its last period: a "
        f"broken pipeline looks like that; nothing was written: {_remedy(Reason.ALL_ZERO)}",
    )


def _nothing_if_too_many_are_held(actions: Sequence[Action], thresholds: Thresholds) -> list[Action]:
    attempted = [action for action in actions if not isinstance(action, Skip)]
    stopped = [action for action in attempted if isinstance(action, Hold | Fail)]
    if len(stopped) < thresholds.held_items:
        return list(actions)
    percent = Decimal(len(stopped)) * 100 / len(attempted)
    if percent <= thresholds.held_percent:
        return list(actions)
    why = (
        f"{len(stopped)} of {len(attempted)} items ({percent:.0f} %) were held or failed, so nothing was written at "
        f"all: {_remedy(Reason.TOO_MANY_HELD)}"
    )
    return [Hold(action.line, Reason.TOO_MANY_HELD, why) if isinstance(action, Set) else action for action in actions]
