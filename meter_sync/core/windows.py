"""Splitting usage at UTC hours or days, and rounding the parts so that they add up to the rounded whole."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from meter_sync.core.model import Window
from meter_sync.core.quantity import Rounding, billable, denoised

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
