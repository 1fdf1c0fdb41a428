"""From the usage that OpenMeter measured to the whole number that Stripe bills."""

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from enum import StrEnum
from functools import lru_cache


class InvalidUsage(ValueError):
    """The measured usage cannot be billed; the message says what is wrong with it."""


class Rounding(StrEnum):
    """How a scaled usage becomes a whole number."""

    FLOOR = "floor"
    CEILING = "ceiling"
    HALF_UP = "half_up"
    HALF_EVEN = "half_even"


_MODES = {
    Rounding.FLOOR: ROUND_FLOOR,
    Rounding.CEILING: ROUND_CEILING,
    Rounding.HALF_UP: ROUND_HALF_UP,
    Rounding.HALF_EVEN: ROUND_HALF_EVEN,
}

LARGEST_EXACT = Decimal(2**53)
"""JSON numbers are doubles: whole ones beyond this one are no longer exact."""

_MOST_DECIMALS = 9
_SIGNIFICANT_DIGITS = 15
"""A double holds so many decimal digits for certain (IEEE 754); what comes after them may be noise."""

_ARITHMETIC = Context(prec=80)


def denoised(value: Decimal) -> Decimal:
    """Given a usage as read off the wire, return it without float noise: 15 digits, 9 of them decimals at most.

    0.1 + 0.2 + 0.3 is 0.6000000000000001 on the server (seen); rounded up it would bill one too many. Whole
    numbers pass as they are; how far those beyond 2^53 may be from the truth, `doubt_of` says. A part of a period may
    be negative, as a correction of an earlier one.
    Raise InvalidUsage if the value is not finite.
    """
    if not value.is_finite():
        raise InvalidUsage(f"OpenMeter answered {value}, which is not a number that can be billed")
    return value if abs(value) > LARGEST_EXACT else _clean(value)


@lru_cache(4096)
def _clean(value: Decimal) -> Decimal:
    """Return a number that is finite, and exact, without noise: equal ones mostly as one, for there are many."""
    decimals = min(_MOST_DECIMALS, max(0, _SIGNIFICANT_DIGITS - 1 - value.adjusted()))
    clean = value.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_EVEN, context=_ARITHMETIC)
    return clean if clean else abs(clean)


def doubt_of(value: Decimal) -> Decimal:
    """Given a usage as read off the wire, return how far the true one may be from it.

    Up to 2^53 that is nothing, once it is without noise. Beyond it, it is half of the last digit that a double holds
    for certain: whole numbers in between are lost, and sums of them drift.
    """
    if abs(value) <= LARGEST_EXACT:
        return Decimal(0)
    return Decimal(5).scaleb(value.adjusted() - _SIGNIFICANT_DIGITS)


def without_noise(value: Decimal) -> Decimal:
    """Given the usage of a whole period, return it without float noise.

    Raise InvalidUsage if the value is not finite, or negative.
    """
    clean = denoised(value)
    if clean < 0:
        raise InvalidUsage(f"OpenMeter answered a negative usage: {value}")
    return clean


def billable(usage: Decimal, scale: Decimal, rounding: Rounding, doubt: Decimal | None = None) -> int:
    """Given a usage, return the whole quantity to bill: usage times scale, rounded.

    The usage is always the running total since the period's start. Rounding totals and never their parts
    keeps any number of reports equal to one report of the whole. `doubt` is how far the true usage may be from it,
    where it is a sum of several answers; that of one answer is known.
    Raise InvalidUsage if the usage or the quantity cannot be billed, or if the doubt could change the quantity.
    """
    return _rounded(without_noise(usage), scale, rounding, doubt_of(usage) if doubt is None else doubt)


def so_far(usage: Decimal, scale: Decimal, rounding: Rounding, doubt: Decimal) -> int:
    """Given a usage up to some time within a period, return the same of it; less than nothing is nothing.

    A correction may come before what it corrects: only the total of a period may not be below zero.
    Raise InvalidUsage if the usage or the quantity cannot be billed, or if the doubt could change the quantity.
    """
    return max(0, _rounded(denoised(usage), scale, rounding, doubt))


def _rounded(usage: Decimal, scale: Decimal, rounding: Rounding, doubt: Decimal) -> int:
    """Round what lies within the doubt around a usage: only where all of it is the same quantity, that is told."""
    ends = (_ARITHMETIC.subtract(usage, doubt), _ARITHMETIC.add(usage, doubt))
    low, high = (_ARITHMETIC.multiply(one, scale).to_integral_value(rounding=_MODES[rounding]) for one in ends)
    if max(abs(low), abs(high)) > LARGEST_EXACT:
        raise InvalidUsage(f"the scaled quantity {high:.6g} is beyond 2^53; check the scale of the meter")
    if low != high:
        raise InvalidUsage(
            f"OpenMeter answered {usage:.15g}, beyond the whole numbers that its answers hold exactly (2^53): the "
            f"quantity may be {low:f} or {high:f}"
        )
    return int(high)


LARGEST_EVENT_VALUE = 10**15 - 1
"""Stripe takes 15 digits in an event's value (changelog of 2026-04-22.dahlia)."""


def within_digits(value: int) -> int:
    """Given the value of a meter event, return it. Raise InvalidUsage if it has more digits than Stripe takes."""
    if abs(value) > LARGEST_EVENT_VALUE:
        raise InvalidUsage(f"the quantity {value} has more than the 15 digits that a meter event takes")
    return value
