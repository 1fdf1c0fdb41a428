"""The check: brakes that hold what is implausible, over the whole plan and before the first request."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from meter_sync.core.metering.mapping import LateUsage
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.carrying import total_of
from meter_sync.core.planning.foreign import not_looked
from meter_sync.core.planning.results import gave_way, held, shown
from meter_sync.core.planning.stages import Checked, Metered, Planned, Result, Write


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
    """So many of a meter's items may be held; beyond it nothing is written for the others…"""
    held_items: int = 10
    """… if they are so many at least."""


Brake = Callable[[Planned, Thresholds], str | None]
"""Given a planned write, a brake returns why it is implausible, or None."""


def decrease(planned: Planned, thresholds: Thresholds) -> str | None:
    """Hold a running total that fell; what earlier periods do not bill, and is in it, does not count.

    SUM, COUNT, UNIQUE_COUNT and MAX cannot fall within a period unless events were lost or changed; gauges
    (LATEST, AVG, MIN) may.
    """
    meter, write = planned.metered.meter, planned.write
    if planned.highest_before is None or not meter.aggregation.never_falls:
        return None
    if not write.intake.is_open:
        return _carried_decrease(planned, thresholds)
    before, quantity = planned.highest_before - planned.carried_before, write.quantity - total_of(write.carried)
    if not _has_fallen(before, quantity, thresholds):
        return None
    unless_foreign = (
        ""
        if write.total_before is None
        else " (or another program reports for this item too: add --allow foreign_usage to bill only the rest)"
    )
    return (
        f"the quantity would fall from {before} to {quantity} ({_change(before, quantity)}), which the "
        f"{meter.aggregation} meter {meter.slug} cannot do by itself{unless_foreign}"
    )


def _carried_decrease(planned: Planned, thresholds: Thresholds) -> str | None:
    """Hold what would be taken off an item's next period, since less was used of a closed one than was reported."""
    meter, write = planned.metered.meter, planned.write
    wanted, before = write.quantity + write.lacking, planned.highest_before or 0
    is_news = write.lacking != write.named_before and write.late_usage is LateUsage.CARRY
    if not is_news or write.lacking >= 0 or not _has_fallen(before, wanted, thresholds):
        return None
    return (
        f"the quantity fell from {before} to {wanted} ({_change(before, wanted)}) after Stripe took no more of it, "
        f"which the {meter.aggregation} meter {meter.slug} cannot do by itself; it is not taken off the next period"
    )


def _has_fallen(before: int, quantity: int, thresholds: Thresholds) -> bool:
    fallen = before - quantity
    return (
        before > 0
        and Decimal(fallen) * 100 / before > thresholds.decrease_percent
        and fallen > thresholds.decrease_units
    )


def _change(before: int, quantity: int) -> str:
    return f"-{Decimal(before - quantity) * 100 / before:.1f} %"


def jump(planned: Planned, thresholds: Thresholds) -> str | None:
    """Hold a quantity that is out of proportion to the item's last periods: events sent twice look like that.

    Shorter periods count as if they had been as long as this one. An item without usage in them has nothing to be
    compared with. What stands in Stripe for this period was let pass before.
    """
    largest, quantity = _largest_in_past(planned.metered), planned.write.quantity
    if not largest or not planned.write.how_many:
        return None
    usual = max(largest, planned.highest_before or 0)
    if quantity <= usual * thresholds.jump_factor or quantity - usual <= thresholds.jump_units:
        return None
    periods = len(planned.metered.past)
    of_what = "its last period" if periods == 1 else f"the largest of its last {periods} periods"
    return f"the quantity {quantity} is {quantity / largest:.1f} times that of {of_what} ({largest})"


def _largest_in_past(metered: Metered) -> int:
    length = metered.item.period.end - metered.item.period.start
    found = [0]
    for past in metered.past:
        length_then = past.period.end - past.period.start
        found.append(round(past.quantity * max(1.0, length / length_then)) if length_then else past.quantity)
    return max(found)


BRAKES: dict[Reason, Brake] = {Reason.DECREASE: decrease, Reason.JUMP: jump}


def check(
    plan: Iterable[Planned | Result],
    busy: Collection[str],
    thresholds: Thresholds,
    allowed: Collection[Reason],
    *,
    is_everything: bool,
    all_open_at: datetime | None,
) -> list[Checked | Result]:
    """Given a plan, return what of it may be written, with all that is implausible held, except for lifted brakes.

    `busy` are the items that another run is writing at this moment. In a run over a whole account what is implausible
    of a meter is held too: of what has ended apart from what is open. Where the plan is of all open periods,
    `all_open_at` is the instant that the run is about.
    This is the one place that makes what a reporter takes, beside `checked_before`.
    """
    checked = [_left_alone(one, busy) for one in check_each(plan, thresholds, allowed)]
    if is_everything:
        checked = check_whole(checked, thresholds, allowed, all_open_at)
    return [Checked(one.write) if isinstance(one, Planned) else one for one in checked]


def checked_before(write: Write) -> Checked:
    """Return a write that an earlier run had begun: it was checked then, and is repeated as it was."""
    return Checked(write)


def check_each(
    plan: Iterable[Planned | Result], thresholds: Thresholds, allowed: Collection[Reason]
) -> list[Planned | Result]:
    """Given a plan, return it with every write held that is implausible by itself."""
    brakes = {reason: brake for reason, brake in BRAKES.items() if reason not in allowed}
    looked = [not_looked(one, allowed) if isinstance(one, Planned) else one for one in plan]
    return [_braked(one, brakes, thresholds) if isinstance(one, Planned) else one for one in looked]


def _braked(planned: Planned, brakes: dict[Reason, Brake], thresholds: Thresholds) -> Planned | Result:
    for reason, brake in brakes.items():
        why = brake(planned, thresholds)
        if why:
            braked = held(planned.found, reason, f"{why}; Stripe was left as it is: {_remedy(reason)}")
            if not planned.write.intake.is_open:
                return replace(braked, lacking=planned.write.lacking)
            return replace(braked, fell=_fell(planned)) if reason is Reason.DECREASE else braked
    return planned


def _fell(planned: Planned) -> tuple[int, int]:
    """Return what Stripe holds of an item's own usage, and what it would have fallen to."""
    write = planned.write
    return (planned.highest_before or 0) - planned.carried_before, write.quantity - total_of(write.carried)


def _left_alone(one: Planned | Result, busy: Collection[str]) -> Planned | Result:
    """Leave an item to the run that is writing it, where that keeps this one from telling what stands in Stripe.

    One whose `[[meters]]` row says `report = false` is only shown.
    """
    if isinstance(one, Planned):
        # Of a period that was reported before its row said so, what it lacks is named.
        was_reported = not one.write.intake.is_open and one.write.follows is not None
        return one if one.found.row.report or was_reported else shown(one.write)
    is_left = one.reason is Reason.UNSETTLED and one.item.id in busy
    return gave_way(one.found) if is_left else one


def _remedy(reason: Reason) -> str:
    return f"find out why, then lift the brake with --allow {reason}"


def check_whole(
    plan: Sequence[Planned | Result], thresholds: Thresholds, allowed: Collection[Reason], all_open_at: datetime | None
) -> list[Planned | Result]:
    """Given the plan of all open periods of an account, or of ended ones, return it with what is implausible held.

    Items that are only shown (`report = false`) count for nothing here.
    """
    checked = [one for one in plan if one.found.row.report]
    if Reason.ALL_ZERO not in allowed and all_open_at is not None:
        checked = _without_dead_meters(checked, thresholds, all_open_at)
    if Reason.TOO_MANY_HELD not in allowed:
        checked = _nothing_if_too_many_are_held(checked, thresholds)
    in_order = iter(checked)
    return [next(in_order) if one.found.row.report else one for one in plan]


def _without_dead_meters(
    plan: Sequence[Planned | Result], thresholds: Thresholds, as_of: datetime
) -> list[Planned | Result]:
    """Hold the items of a meter that had usage in their last period, where no item has any: its pipeline is broken.

    Nothing was used is also what a period's first hours look like; so it takes items late in their period, and one
    with usage, or without an answer, is enough to tell that events arrive, or that this cannot be told.
    """
    silent: dict[str, list[Planned | Result]] = {}
    alive: set[str] = set()
    for one in plan:
        slug = one.found.meter.slug if one.found.meter else None
        if slug is None or (isinstance(one, Result) and one.outcome is Outcome.SKIPPED):
            continue
        if not _is_settled(one) or one.found.usage != 0:
            alive.add(slug)
        elif _is_late(one, thresholds, as_of) and _last_quantity(one):
            silent.setdefault(slug, []).append(one)
    dead = {slug for slug, items in silent.items() if slug not in alive and len(items) >= thresholds.all_zero_items}
    held_ones = {one.item.key for slug in dead for one in silent[slug]}
    return [_dead(one) if one.item.key in held_ones else one for one in plan]


def _is_settled(one: Planned | Result) -> bool:
    """Say whether what was used of an item is known, and no other run is writing it at this moment."""
    return isinstance(one, Planned) or (one.outcome is Outcome.UNCHANGED and not one.gave_way)


def _is_late(one: Planned | Result, thresholds: Thresholds, as_of: datetime) -> bool:
    period = one.item.period
    over = (as_of - period.start) / (period.end - period.start)
    return over * 100 >= thresholds.all_zero_percent


def _last_quantity(one: Planned | Result) -> int:
    """Return what an item had in its last period, or zero where there was none."""
    return one.found.past[0].quantity if one.found.past else 0


def _dead(one: Planned | Result) -> Result:
    return held(
        one.found,
        Reason.ALL_ZERO,
        f"no item of meter {one.found.slug} shows any usage, although this one had {_last_quantity(one)} in its last "
        f"period: a broken pipeline looks like that; nothing was written: {_remedy(Reason.ALL_ZERO)}",
    )


def _nothing_if_too_many_are_held(plan: Sequence[Planned | Result], thresholds: Thresholds) -> list[Planned | Result]:
    """Hold all of a meter where so much of it is held that its usage is not to be believed."""
    why = _why_stopped_by_meter(plan, thresholds)
    if not any(why.values()):
        return list(plan)
    return [
        held(one.found, Reason.TOO_MANY_HELD, said)
        if isinstance(one, Planned) and _is_weighed(one) and (said := why[one.found.slug])
        else one
        for one in plan
    ]


def _why_stopped_by_meter(plan: Iterable[Planned | Result], thresholds: Thresholds) -> dict[str | None, str | None]:
    """Return for each meter why nothing is written for it, or None.

    What could not be asked for says nothing of what was. Meters of few items are weighed together.
    """
    weighed, stopped = Counter[str | None](), Counter[str | None]()
    for one in plan:
        weighed[one.found.slug] += _is_weighed(one)
        stopped[one.found.slug] += isinstance(one, Result) and one.outcome is Outcome.HELD
    small = {slug for slug, items in weighed.items() if items < thresholds.held_items}
    of_small = sum(stopped[slug] for slug in small), sum(weighed[slug] for slug in small)
    return {
        slug: _why_stopped(*of_small, "meters of few items", thresholds)
        if slug in small
        else _why_stopped(stopped[slug], items, f"meter {slug}", thresholds)
        for slug, items in weighed.items()
    }


def postponable(plan: Sequence[Planned | Result], thresholds: Thresholds, allowed: Collection[Reason]) -> list[Planned]:
    """Return what has a look that nothing else depends on: even if all of it were held, nothing would be for that.

    It is what ends last. What shows no usage is not among it: whether a meter is dead depends on it.
    """
    looks = [one for one in plan if isinstance(one, Planned) and one.look and one.found.usage and one.found.row.report]
    looks.sort(key=lambda one: one.item.period.end, reverse=True)
    how_many = len(looks)
    while how_many and Reason.TOO_MANY_HELD not in allowed and _may_stop(plan, looks[:how_many], thresholds):
        how_many //= 2
    return looks[:how_many]


def _may_stop(plan: Sequence[Planned | Result], looks: Sequence[Planned], thresholds: Thresholds) -> bool:
    """Say whether too much of a meter would be held if all of these were."""
    unknown = {one.item.key for one in looks}
    as_if = [
        held(one.found, Reason.TOO_MANY_HELD, "") if one.item.key in unknown else one
        for one in plan
        if one.found.row.report
    ]
    why = _why_stopped_by_meter(as_if, thresholds)
    return any(why[one.found.slug] for one in looks)


def _is_weighed(one: Planned | Result) -> bool:
    if isinstance(one, Planned):
        return one.write.intake.is_open
    return one.outcome in (Outcome.HELD, Outcome.UNCHANGED)


def _why_stopped(stopped: int, items: int, whose: str, thresholds: Thresholds) -> str | None:
    """Given how many items there are, and how many of them were held, return why nothing is written for the others."""
    percent = Decimal(stopped) * 100 / items if items else Decimal(0)
    if stopped < thresholds.held_items or percent <= thresholds.held_percent:
        return None
    return (
        f"{stopped} of {items} items of {whose} ({percent:.0f} %) were held, so nothing was written for the "
        f"others of these either: {_remedy(Reason.TOO_MANY_HELD)}"
    )
