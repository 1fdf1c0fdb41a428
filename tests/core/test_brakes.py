"""A running total that fell is held before it lowers a bill."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.actions import Action, Fail, Hold, Line, Set, Skip, Unchanged
from meter_sync.core.brakes import Thresholds, check, decrease
from meter_sync.core.outcomes import LIFTABLE, Reason
from meter_sync.core.usage import Aggregation

from .builders import make_line, make_meter, make_set, many

NEVER_FALL = [Aggregation.SUM, Aggregation.COUNT, Aggregation.UNIQUE_COUNT, Aggregation.MAX]
GAUGES = [Aggregation.LATEST, Aggregation.AVG, Aggregation.MIN]
NO_TOLERANCE = Thresholds()


def falling(before: int | None, quantity: int, aggregation: Aggregation = Aggregation.SUM) -> Set:
    line = make_line(meter=make_meter("requests", aggregation))
    return make_set(quantity, line=line, highest_before=before)


@pytest.mark.parametrize("aggregation", NEVER_FALL)
def test_a_running_total_that_fell_by_one_is_held(aggregation: Aggregation) -> None:
    (held,) = check([falling(100, 99, aggregation)], NO_TOLERANCE, ())
    assert isinstance(held, Hold)
    assert held.reason is Reason.DECREASE
    assert "from 100 to 99" in held.message
    assert "--allow decrease" in held.message


@pytest.mark.parametrize("aggregation", GAUGES)
def test_a_gauge_may_fall_even_to_zero(aggregation: Aggregation) -> None:
    planned = falling(100, 0, aggregation)
    assert check([planned], NO_TOLERANCE, ()) == [planned]


@pytest.mark.parametrize("aggregation", NEVER_FALL)
@pytest.mark.parametrize("quantity", [100, 101, 10**15])
def test_a_total_that_stayed_or_grew_is_written(aggregation: Aggregation, quantity: int) -> None:
    planned = falling(100, quantity, aggregation)
    assert check([planned], NO_TOLERANCE, ()) == [planned]


@pytest.mark.parametrize("before", [None, 0])
def test_where_stripe_holds_nothing_nothing_can_fall(before: int | None) -> None:
    assert decrease(falling(before, 0), NO_TOLERANCE) is None


def test_the_whole_bill_falling_to_zero_is_held() -> None:
    (held,) = check([falling(2**53, 0)], NO_TOLERANCE, ())
    assert isinstance(held, Hold)
    assert "(-100.0 %)" in held.message


def test_one_unit_of_the_largest_quantity_is_still_a_fall() -> None:
    assert decrease(falling(2**53, 2**53 - 1), NO_TOLERANCE)


@pytest.mark.parametrize(
    ("percent", "quantity", "held"),
    [("10", 90, False), ("10", 89, True), ("9.99", 90, True), ("100", 0, False), ("0", 100, False)],
)
def test_a_fall_of_exactly_the_percentage_passes_and_one_beyond_it_is_held(
    percent: str, quantity: int, held: bool
) -> None:
    thresholds = Thresholds(decrease_percent=Decimal(percent))
    assert (decrease(falling(100, quantity), thresholds) is not None) == held


@many
@given(st.integers(1, 2**53), st.integers(0, 2**53), st.integers(0, 1000))
def test_the_percentage_is_of_what_stripe_holds(before: int, quantity: int, permille: int) -> None:
    thresholds = Thresholds(decrease_percent=Decimal(permille) / 10)
    beyond = Fraction(before - quantity, before) > Fraction(permille, 1000)
    assert (decrease(falling(before, quantity), thresholds) is not None) == beyond


def test_the_brake_is_lifted_by_its_own_reason_and_by_no_other() -> None:
    planned = falling(100, 10)
    assert check([planned], NO_TOLERANCE, {Reason.DECREASE}) == [planned]
    others = set(LIFTABLE) - {Reason.DECREASE}
    assert isinstance(check([planned], NO_TOLERANCE, others)[0], Hold)


def test_a_line_without_a_meter_has_no_brake_to_compare_by() -> None:
    line = Line(item=make_line().item)
    assert decrease(make_set(1, line=line, highest_before=9), NO_TOLERANCE) is None


def test_only_writes_are_checked_and_one_held_write_holds_no_other() -> None:
    line = make_line()
    others: list[Action] = [
        Unchanged(line),
        Hold(line, Reason.DUPLICATE_USAGE, ""),
        Skip(line, Reason.IGNORED, ""),
        Fail(line, Reason.OPENMETER_ERROR, ""),
    ]
    grown = falling(100, 200)
    checked = check([*others, falling(100, 50), grown], NO_TOLERANCE, ())
    assert checked[:4] == others
    assert isinstance(checked[4], Hold)
    assert checked[5] is grown
