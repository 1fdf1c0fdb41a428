"""A rotating sample: every item once in so many days."""

from collections import Counter
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.telling.sample import sample_of
from tests.core.builders import many

ANY_DAY = date(2026, 11, 25)
days = st.dates(date(2020, 1, 1), date(2100, 1, 1))


@many
@given(first=days, rotation=st.integers(1, 60), items=st.sets(st.text(min_size=1), max_size=20))
def test_every_item_is_in_the_sample_of_exactly_one_of_so_many_consecutive_days(
    first: date, rotation: int, items: set[str]
) -> None:
    samples = [sample_of(first + timedelta(days=after), rotation) for after in range(rotation)]
    assert {sample.day for sample in samples} == set(range(1, rotation + 1))
    for item in items:
        assert sum(sample.has(item) for sample in samples) == 1


def test_the_days_of_a_rotation_have_about_as_many_items_each() -> None:
    of_day = Counter(
        after for after in range(30) for n in range(3000) if sample_of(ANY_DAY + timedelta(after), 30).has(f"si_{n}")
    )
    assert sum(of_day.values()) == 3000
    assert 60 < min(of_day.values()) <= max(of_day.values()) < 140


def test_the_sample_of_a_day_stays_the_same_in_any_process() -> None:
    sample = sample_of(ANY_DAY, 5)
    assert (sample.days, sample.day) == (5, ANY_DAY.toordinal() % 5 + 1)
    assert [n for n in range(20) if sample.has(f"si_{n}")] == [1, 3, 4, 6, 8, 9, 10, 13]


@pytest.mark.parametrize("item", ["si_1", "si_2"])
def test_a_rotation_of_one_day_has_everything(item: str) -> None:
    assert sample_of(ANY_DAY, 1).has(item)
