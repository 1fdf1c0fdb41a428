"""Splitting usage at UTC hours or days, and rounding the parts so that they add up to the rounded whole."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.billing.quantity import InvalidUsage, denoised, doubt_of

_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Window:
    """A UTC hour or day, or what is left of one at a boundary: half-open, whole seconds."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Share:
    """What of a period is billed for one window."""

    window: Window
    usage: Decimal
    total: Decimal
    """The usage of the whole period up to the window's end."""
    value: int
    """The window's own part of the quantity: the rounded total up to its end less that up to its start."""
    doubt: Decimal = _NOTHING
    """How far the true total may be from this one."""


def windows_between(start: datetime, end: datetime, size: WindowSize) -> list[Window]:
    """Given a span, return it split at UTC hours or days; the first and the last may be parts of a window."""
    found = []
    while start < end:
        until = min(size.floor(start) + size.length, end)
        found.append(Window(start, until))
        start = until
    return found


def joined(
    parts: Sequence[Window], usage: Mapping[datetime, Decimal], size: WindowSize, first_window: datetime
) -> tuple[Sequence[Window], Mapping[datetime, Decimal]]:
    """Given windows or parts of them in order, and the usage of each, return those that have one event as one.

    That are the parts of one window, where some of it is not counted; and all before the first window, of which there
    are some where a price moved from windows of a day to windows of an hour: the period's first event has what was
    left over.
    """
    whole: list[Window] = []
    together: dict[datetime, Decimal] = {}
    for part in parts:
        if whole and (part.start <= first_window or size.floor(whole[-1].start) == size.floor(part.start)):
            whole[-1] = Window(whole[-1].start, part.end)
        else:
            whole.append(part)
        start = whole[-1].start
        if part.start in usage:
            together[start] = together.get(start, _NOTHING) + usage[part.start]
    return whole, together


def shares(
    split: Iterable[Window],
    usage: Mapping[datetime, Decimal],
    total_before: Decimal,
    quantity_of: Callable[[Decimal, Decimal], int],
    billed_before: int,
) -> list[Share]:
    """Given consecutive windows and the usage of each by its start, return what is billed for each.

    A window without usage has used nothing. `total_before` is the usage of the period before the first window, and
    `billed_before` what is billed of it there. `quantity_of` makes a quantity of a running total and of its doubt, so
    that the parts sum to that of the whole; what it raises is raised. A sum is exact where each window's usage is, as
    large as it may be.
    """
    total, quantity_before, doubt = total_before, billed_before, _NOTHING
    found = []
    for place, window in enumerate(split):
        used = denoised(usage.get(window.start, _NOTHING))
        total += used
        doubt += doubt_of(used)
        quantity = quantity_of(total, doubt) if used or place == 0 else quantity_before
        found.append(Share(window, used, total, quantity - quantity_before, doubt))
        quantity_before = quantity
    return found


def carried_back(found: Sequence[Share]) -> list[Share]:
    """Given consecutive shares, return them with what is below zero taken off those before: records hold no less.

    Raise InvalidUsage where those before are not among them.
    """
    lacking, carried = 0, []
    for share in reversed(found):
        value = share.value + lacking
        lacking = min(value, 0)
        carried.append(replace(share, value=max(value, 0)))
    if lacking:
        raise InvalidUsage(f"the usage since {found[0].window.start:%Y-%m-%d} is negative, and no record holds that")
    return carried[::-1]
