"""Usage is split at UTC hours or days without gap or overlap, and its parts sum to the rounded whole."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.billing.quantity import InvalidUsage, Rounding, billable
from meter_sync.core.billing.windows import shares, windows_between

from .builders import SECOND, START, many

windows = st.sampled_from(WindowSize)
spans = st.tuples(st.integers(0, 200_000), st.integers(1, 500_000)).map(
    lambda span: (START + span[0] * SECOND, START + (span[0] + span[1]) * SECOND)
)
amounts = st.decimals(min_value=0, max_value=1000, places=4)


@many
@given(spans, windows)
def test_a_span_is_covered_once(span: tuple[datetime, datetime], window: WindowSize) -> None:
    found = windows_between(*span, window)
    assert found[0].start == span[0]
    assert found[-1].end == span[1]
    assert all(one.end == other.start for one, other in pairwise(found))


@many
@given(spans, windows)
def test_a_span_is_split_at_utc_hours_or_days_and_nowhere_else(
    span: tuple[datetime, datetime], window: WindowSize
) -> None:
    seconds = int(window.length.total_seconds())
    boundaries = [stretch.end for stretch in windows_between(*span, window)[:-1]]
    assert all(int(boundary.timestamp()) % seconds == 0 for boundary in boundaries)
    assert all(stretch.end - stretch.start <= window.length for stretch in windows_between(*span, window))


def test_a_day_begins_at_midnight_utc() -> None:
    noon = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)
    assert WindowSize.DAY.floor(noon) == datetime(2026, 3, 29, tzinfo=UTC)
    assert WindowSize.HOUR.floor(noon + timedelta(minutes=59)) == noon


def rounded(scale: Decimal, rounding: Rounding) -> Callable[[Decimal, Decimal], int]:
    return lambda total, doubt: billable(total, scale, rounding, doubt)


def test_a_sum_of_windows_is_exact_beyond_what_a_double_holds() -> None:
    """Each window's answer is exact, whatever they add up to: but one that is not is in doubt from then on."""
    start = WindowSize.HOUR.floor(START)
    split = windows_between(start, start + 3 * WindowSize.HOUR.length, WindowSize.HOUR)
    gigabytes = rounded(Decimal("1e-9"), Rounding.FLOOR)
    exact = {one.start: Decimal(5 * 10**15) for one in split}
    assert [one.value for one in shares(split, exact, Decimal(0), gigabytes, 0)] == [5_000_000] * 3
    in_doubt = {**exact, split[0].start: Decimal(10**16)}
    with pytest.raises(InvalidUsage, match="9999999 or 10000000"):
        shares(split, in_doubt, Decimal(0), gigabytes, 0)
    in_doubt[split[0].start] += 10**8
    assert [one.value for one in shares(split, in_doubt, Decimal(0), gigabytes, 0)] == [
        10_000_000,
        5_000_000,
        5_000_000,
    ]


@many
@given(
    st.lists(amounts, min_size=1, max_size=60),
    st.sampled_from(Rounding),
    st.decimals(min_value="0.001", max_value=10, places=3),
)
def test_the_parts_sum_to_the_rounded_whole(usage: list[Decimal], rounding: Rounding, scale: Decimal) -> None:
    start = WindowSize.HOUR.floor(START)
    split = windows_between(start, start + len(usage) * WindowSize.HOUR.length, WindowSize.HOUR)
    by_start = {stretch.start: used for stretch, used in zip(split, usage, strict=True)}
    found = shares(split, by_start, Decimal(0), rounded(scale, rounding), 0)
    assert sum(share.value for share in found) == billable(sum(usage, Decimal(0)), scale, rounding)


@many
@given(st.lists(amounts, min_size=2, max_size=40), st.sampled_from(Rounding), st.data())
def test_reading_only_the_trailing_parts_comes_to_the_same_values(
    usage: list[Decimal], rounding: Rounding, data: st.DataObject
) -> None:
    start = WindowSize.HOUR.floor(START)
    split = windows_between(start, start + len(usage) * WindowSize.HOUR.length, WindowSize.HOUR)
    by_start = {stretch.start: used for stretch, used in zip(split, usage, strict=True)}
    quantity_of = rounded(Decimal("0.1"), rounding)
    whole = shares(split, by_start, Decimal(0), quantity_of, 0)
    place = data.draw(st.integers(1, len(usage) - 1))
    before = whole[place - 1].total
    trailing = shares(split[place:], by_start, before, quantity_of, quantity_of(before, Decimal(0)))
    assert trailing == whole[place:]
