"""Where the marks of a chart are: a meter's usage by day, and the lengths of small bars.

A chart is drawn by the macros of `templates/charts.html.jinja`; its numbers stand beside it in a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from meter_sync.core.telling.statement.figures import Change, Day

WIDTH, HEIGHT = 720, 268
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 712, 12, 228
_WIDEST_BAR = 28.0
_ZERO = Decimal(0)
_MOST_TICKS = 6
_MOST_LABELS = 5
_NICE = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))
"""The distances between the lines of a scale, times a power of ten."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A line of the scale."""

    y: float
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Label:
    """A day that is named below the chart."""

    x: float
    day: date


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart of days, as paths of SVG in a box of WIDTH by HEIGHT."""

    used: str
    """Outlines of bars."""
    billed: str
    """Hatched bars within those."""
    reported: str
    """A line…"""
    dots: str
    """… and its points."""
    zero: float
    """The height at which an amount is zero."""
    ticks: Sequence[Tick]
    labels: Sequence[Label]
    most_used: Day
    """The first of the days with the most usage."""


def chart_of(days: Sequence[Day]) -> Chart | None:
    """Return the chart of a meter's days, or None where there is nothing to be seen: no days, or nothing on any."""
    amounts = [amount for one in days for amount in (one.used, one.reported, one.billed)]
    if not any(amounts):
        return None
    low, step, high = _scale(min(_ZERO, *amounts), max(_ZERO, *amounts))
    per_unit = (_BOTTOM - _TOP) / float(high - low)

    def height(amount: Decimal) -> float:
        return round(_BOTTOM - float(amount - low) * per_unit, 1)

    room = (_RIGHT - _LEFT) / len(days)
    wide = min(room * 0.72, _WIDEST_BAR)
    middles = [round(_LEFT + room * (place + 0.5), 1) for place in range(len(days))]
    zero = height(_ZERO)
    placed = list(zip(middles, days, strict=True))
    return Chart(
        used="".join(_bar(x, wide, zero, height(one.used)) for x, one in placed if one.used),
        billed="".join(_bar(x, wide * 0.6, zero, height(one.billed)) for x, one in placed if one.billed),
        reported="M" + "L".join(f"{x:g} {height(one.reported):g}" for x, one in placed),
        dots="".join(f"M{x:g} {height(one.reported):g}h0" for x, one in placed),
        zero=zero,
        ticks=[Tick(height(amount), amount) for amount in _steps(low, step, high)],
        labels=_labels(middles, days),
        most_used=max(days, key=lambda one: one.used),
    )


@dataclass(frozen=True, slots=True)
class Totals:
    """What all days of a meter have together."""

    used: Decimal
    reported: Decimal
    billed: Decimal


def totals_of(days: Sequence[Day]) -> Totals:
    """Return the sums of days."""
    return Totals(
        sum((one.used for one in days), _ZERO),
        sum((one.reported for one in days), _ZERO),
        sum((one.billed for one in days), _ZERO),
    )


def _bar(middle: float, wide: float, zero: float, top: float) -> str:
    return f"M{middle - wide / 2:.1f} {zero:g}V{top:g}h{wide:.1f}V{zero:g}z"


def _scale(lowest: Decimal, highest: Decimal) -> tuple[Decimal, Decimal, Decimal]:
    """Return the lowest and the highest line of a scale over these amounts, and what is between two, in the midst."""
    rough = (highest - lowest) / (_MOST_TICKS - 1)
    power = Decimal(1).scaleb(rough.adjusted())
    step = next(power * nice for nice in _NICE if power * nice >= rough)
    return (lowest // step - (lowest % step != 0)) * step, step, (highest // step + (highest % step != 0)) * step


def _steps(low: Decimal, step: Decimal, high: Decimal) -> list[Decimal]:
    return [low + step * place for place in range(int((high - low) / step) + 1)]


def _labels(middles: Sequence[float], days: Sequence[Day]) -> list[Label]:
    """Name the first day and, at equal distances, some more, so that no two names touch."""
    every = -(-len(days) // _MOST_LABELS)
    return [Label(middles[place], days[place].day) for place in range(0, len(days), every)]


def length(amount: Decimal, longest: Decimal) -> float:
    """Return the length of a bar, where the longest one is 100; the sign of an amount does not matter."""
    return round(float(abs(amount) / longest) * 100, 1) if longest else 0.0


def largest_change(changes: Sequence[Change]) -> Decimal:
    """Return the largest of the changes, more or less, which the longest bar stands for."""
    return max(abs(one.now - one.before) for one in changes)
