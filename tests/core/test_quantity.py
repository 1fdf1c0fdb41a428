"""From a measured usage to the whole number on the invoice, against exact fractions."""

import math
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate, pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from meter_sync.core.billing.quantity import (
    LARGEST_EXACT,
    InvalidUsage,
    Rounding,
    billable,
)

from .builders import many

ONE = Decimal(1)

EXACT_ROUNDING: dict[Rounding, Callable[[Fraction], int]] = {
    Rounding.FLOOR: math.floor,
    Rounding.CEILING: math.ceil,
    Rounding.HALF_UP: lambda exact: math.floor(exact + Fraction(1, 2)),
    Rounding.HALF_EVEN: round,
}

roundings = st.sampled_from(Rounding)
halves = st.integers(0, 10**7).map(lambda half: Decimal(half) / 2)
decimals = st.integers(0, 10**19).map(lambda units: Decimal(units).scaleb(-12))
doubles = st.floats(0, 2.0**40).map(lambda double: Decimal(repr(double)))
usages = st.one_of(halves, decimals, doubles, st.integers(0, 2**53).map(Decimal))
scales = st.one_of(
    st.just(ONE),
    st.sampled_from([Decimal("0.001"), Decimal("0.5"), Decimal(1000), Decimal("1.1")]),
    st.integers(1, 10**9).map(lambda units: Decimal(units).scaleb(-6)),
)


@many
@given(usages, scales, roundings)
@example(Decimal("0.5"), ONE, Rounding.HALF_EVEN)
@example(Decimal("1.5"), ONE, Rounding.HALF_EVEN)
@example(Decimal("2.5"), ONE, Rounding.HALF_UP)
def test_every_rounding_is_what_exact_fractions_say(usage: Decimal, scale: Decimal, rounding: Rounding) -> None:
    digits_before_the_point = len(str(math.floor(usage)))
    units = 10 ** min(9, max(0, 15 - digits_before_the_point))
    noise_free = Fraction(round(Fraction(usage) * units), units)
    exact = EXACT_ROUNDING[rounding](noise_free * Fraction(scale))
    if exact > 2**53:
        with pytest.raises(InvalidUsage, match="check the scale"):
            billable(usage, scale, rounding)
    else:
        assert billable(usage, scale, rounding) == exact


@many
@given(usages, usages, scales, roundings)
def test_more_usage_never_bills_less(one: Decimal, other: Decimal, scale: Decimal, rounding: Rounding) -> None:
    assume(max(one, other) * scale < LARGEST_EXACT)
    less, more = sorted((one, other))
    assert billable(less, scale, rounding) <= billable(more, scale, rounding)


@many
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20), scales, roundings)
def test_running_totals_rounded_each_time_end_at_the_rounded_whole(
    thousandths: list[int], scale: Decimal, rounding: Rounding
) -> None:
    totals = [Decimal(total).scaleb(-3) for total in accumulate(thousandths, initial=0)]
    reported = [billable(total, scale, rounding) for total in totals]
    parts = [after - before for before, after in pairwise(reported)]
    assert min(parts) >= 0
    whole = Fraction(sum(thousandths), 1000) * Fraction(scale)
    assert sum(parts) == EXACT_ROUNDING[rounding](whole)


@many
@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=50), roundings)
@example([100, 200, 300], Rounding.CEILING)
def test_float_noise_is_not_billed(thousandths: list[int], rounding: Rounding) -> None:
    on_the_wire = 0.0
    for amount in thousandths:
        on_the_wire += amount / 1000
    exact = EXACT_ROUNDING[rounding](Fraction(sum(thousandths), 1000))
    assert billable(Decimal(repr(on_the_wire)), ONE, rounding) == exact


def test_the_noise_of_six_tenths_bills_one_and_not_two_when_scaled_and_rounded_up() -> None:
    assert billable(Decimal("0.6000000000000001"), ONE, Rounding.CEILING) == 1
    assert billable(Decimal("0.6000000000000001"), Decimal(10), Rounding.CEILING) == 6
    assert billable(Decimal("0.7999999999999999"), Decimal(10), Rounding.FLOOR) == 8


def test_float_noise_on_a_large_total_is_not_billed() -> None:
    on_the_wire = 6165848.8 + 7067802.6 + 2181518.6
    assert billable(Decimal(repr(on_the_wire)), ONE, Rounding.FLOOR) == 15415170


def test_noise_below_zero_is_no_usage_rather_than_a_held_item() -> None:
    assert billable(Decimal(repr(0.3 - 0.1 - 0.2)), ONE, Rounding.FLOOR) == 0


def test_floor_is_what_is_billed_unless_configured_otherwise() -> None:
    assert billable(Decimal("1234567.5"), ONE, Rounding.FLOOR) == 1234567


def test_halves_go_up_or_to_even_as_configured() -> None:
    half = Decimal("2.5")
    assert billable(half, ONE, Rounding.HALF_UP) == 3
    assert billable(half, ONE, Rounding.HALF_EVEN) == 2


def test_usage_is_scaled_before_it_is_rounded() -> None:
    assert billable(Decimal("1999"), Decimal("0.001"), Rounding.FLOOR) == 1
    assert billable(Decimal("0.75"), Decimal(1000), Rounding.FLOOR) == 750


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-Infinity", "-1", "-0.5"])
def test_a_usage_that_is_no_usage_is_refused(value: str) -> None:
    with pytest.raises(InvalidUsage, match="OpenMeter answered"):
        billable(Decimal(value), ONE, Rounding.FLOOR)


def test_no_usage_bills_zero_whatever_the_rounding() -> None:
    for rounding in Rounding:
        assert billable(Decimal(0), Decimal(1000), rounding) == 0
        assert billable(Decimal("-0"), ONE, rounding) == 0


def test_the_largest_exact_usage_is_billed_to_the_unit_and_anything_beyond_is_refused() -> None:
    assert billable(LARGEST_EXACT, ONE, Rounding.CEILING) == 2**53
    assert billable(LARGEST_EXACT - 1, ONE, Rounding.FLOOR) == 2**53 - 1
    for beyond in (LARGEST_EXACT + 1, Decimal("1e300")):
        with pytest.raises(InvalidUsage, match="2\\^53"):
            billable(beyond, ONE, Rounding.FLOOR)


@many
@given(st.integers(2**53 + 1, 10**30), st.sampled_from([9, 12, 16]), roundings)
@example(11 * 10**15 + 5 * 10**8, 9, Rounding.FLOOR)
@example(11 * 10**15, 9, Rounding.FLOOR)
def test_beyond_what_a_double_holds_it_is_the_true_quantity_or_none(used: int, digits: int, rounding: Rounding) -> None:
    scale = Decimal(1).scaleb(-digits)
    exact = EXACT_ROUNDING[rounding](Fraction(used, 10**digits))
    with suppress(InvalidUsage):
        assert billable(Decimal(repr(float(used))), scale, rounding) == exact


def test_beyond_what_a_double_holds_it_is_billed_where_that_changes_nothing() -> None:
    gigabytes = Decimal("1e-9")
    assert billable(Decimal(11 * 10**15 + 5 * 10**8), gigabytes, Rounding.FLOOR) == 11_000_000
    with pytest.raises(InvalidUsage, match="may be 10999999 or 11000000"):
        billable(Decimal(11 * 10**15), gigabytes, Rounding.FLOOR)
    assert billable(Decimal(11 * 10**15), gigabytes, Rounding.HALF_UP) == 11_000_000


def test_a_scale_that_makes_an_inexact_quantity_is_refused() -> None:
    assert billable(LARGEST_EXACT / 2, Decimal(2), Rounding.FLOOR) == 2**53
    with pytest.raises(InvalidUsage, match="check the scale"):
        billable(LARGEST_EXACT / 2 + 1, Decimal(2), Rounding.FLOOR)
