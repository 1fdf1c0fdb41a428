"""Splitting usage at UTC hours or days, and rounding the parts so that they add up to the rounded whole."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from meter_sync.core.billing.item import Window
from meter_sync.core.billing.quantity import InvalidUsage, Rounding, billable, denoised

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A window, or what is left of it at a boundary: half-open, UTC, whole seconds."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Portion:
    """What is billed for one stretch."""

    stretch: Stretch
    usage: Decimal
    total: Decimal
    """The usage of the whole period up to the stretch's end."""
    value: int
    """The stretch's own part of the quantity: the rounded total up to its end less that up to its start."""


def stretches(start: datetime, end: datetime, window: Window) -> list[Stretch]:
    """Given a span, return it split at UTC hours or days; the first and the last may be parts of a window."""
    found = []
    while start < end:
        until = min(window.floor(start) + window.length, end)
        found.append(Stretch(start, until))
        start = until
    return found


def joined(
    split: Sequence[Stretch], usage: Mapping[datetime, Decimal], first_window: datetime
) -> tuple[Sequence[Stretch], Mapping[datetime, Decimal]]:
    """Given consecutive stretches and the usage of each, return them with all before the first window joined to it.

    There are such where a price moved from windows of a day to windows of an hour: the period's first event has what
    was left over.
    """
    early = sum(stretch.end <= first_window for stretch in split)
    if early == 0:
        return split, usage
    last = split[min(early, len(split) - 1)]
    first = Stretch(split[0].start, last.end)
    left_over = sum((value for start, value in usage.items() if start < first.end), _NOTHING)
    return [first, *split[early + 1 :]], {**usage, first.start: left_over}


def portions(
    split: Iterable[Stretch],
    usage: Mapping[datetime, Decimal],
    total_before: Decimal,
    scale: Decimal,
    rounding: Rounding,
) -> list[Portion]:
    """Given consecutive stretches and the usage of each by its start, return what is billed for each.

    A stretch without usage has used nothing. `total_before` is the usage of the period before the first stretch.
    What is rounded is always the running total, so that the parts sum to the rounded whole.
    Raise InvalidUsage if a total cannot be billed.
    """
    total, rounded_before = total_before, billable(total_before, scale, rounding)
    found = []
    for stretch in split:
        used = denoised(usage.get(stretch.start, _NOTHING))
        total += used
        rounded = billable(total, scale, rounding) if used else rounded_before
        found.append(Portion(stretch, used, total, rounded - rounded_before))
        rounded_before = rounded
    return found


def carried_back(found: Sequence[Portion]) -> list[Portion]:
    """Given consecutive portions, return them with what is below zero taken off those before: records hold no less.

    Raise InvalidUsage where those before are not among them.
    """
    lacking, carried = 0, []
    for portion in reversed(found):
        value = portion.value + lacking
        lacking = min(value, 0)
        carried.append(replace(portion, value=max(value, 0)))
    if lacking:
        raise InvalidUsage(f"the usage since {found[0].stretch.start:%Y-%m-%d} is negative, and no record holds that")
    return carried[::-1]
