"""Which period an item's usage is compared with, where only Stripe's summaries can tell: the one before its own."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import Period
from meter_sync.core.billing.period_before import period_before
from meter_sync.core.planning.memory import PastPeriod, compared

from .builders import END, LONG_AGO, START, make_item, many

DAY = timedelta(days=1)


def on(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, 9, 30, 17, tzinfo=UTC)


@pytest.mark.parametrize(
    ("began", "start", "end"),
    [
        (on(2025, 6, 1), on(2025, 7, 1), on(2025, 8, 1)),
        (on(2025, 2, 1), on(2025, 3, 1), on(2025, 4, 1)),
        (on(2025, 12, 15), on(2026, 1, 15), on(2026, 2, 15)),
        (on(2025, 12, 31), on(2026, 1, 31), on(2026, 2, 28)),
        (on(2026, 1, 31), on(2026, 2, 28), on(2026, 3, 31)),
        (on(2026, 3, 31), on(2026, 4, 30), on(2026, 5, 31)),
        (on(2025, 7, 1), on(2025, 10, 1), on(2026, 1, 1)),
        (on(2023, 3, 1), on(2024, 3, 1), on(2025, 3, 1)),
        (on(2023, 2, 28), on(2024, 2, 29), on(2025, 2, 28)),
        (on(2026, 1, 23), on(2026, 1, 30), on(2026, 2, 6)),
        (on(2026, 1, 30), on(2026, 1, 31), on(2026, 2, 1)),
    ],
)
def test_a_period_follows_one_of_as_many_months_or_else_of_the_same_length(
    began: datetime, start: datetime, end: datetime
) -> None:
    item = make_item(start=start, end=end, created=on(2020, 1, 1))
    assert period_before(item) == Period(began, start)


def test_it_begins_with_the_item_where_that_was_created_within_it() -> None:
    assert period_before(make_item(created=START - 5 * DAY)) == Period(START - 5 * DAY, START)


@pytest.mark.parametrize("created", [START, START + DAY])
def test_an_item_that_was_created_in_its_period_has_none(created: datetime) -> None:
    assert period_before(make_item(created=created)) is None


@many
@given(
    since_then=st.timedeltas(timedelta(0), timedelta(days=10_000)),
    length=st.timedeltas(timedelta(seconds=1), timedelta(days=1100)),
)
def test_it_always_ends_where_the_items_own_begins_and_is_about_as_long(
    since_then: timedelta, length: timedelta
) -> None:
    start = on(2010, 1, 1) + since_then
    before = period_before(make_item(start=start, end=start + length, created=on(2000, 1, 1)))
    assert before is not None
    assert before.end == start
    assert abs((before.end - before.start) - length) <= 3 * DAY


def ended(days_before: int, length: int = 30) -> PastPeriod:
    """Return a period that ended so many days before the item's own began."""
    end = START - days_before * DAY
    return PastPeriod(Period(end - length * DAY, end), days_before)


def test_those_of_a_hundred_days_are_compared_with_the_newest_first() -> None:
    past = [ended(101), ended(100), ended(0), ended(60), ended(30)]
    assert [one.quantity for one in compared(past, START)] == [0, 30, 60, 100]


def test_the_one_just_before_is_however_long_it_was_and_none_of_the_future_is() -> None:
    year = PastPeriod(Period(LONG_AGO - 200 * DAY, START), 7)
    assert compared([PastPeriod(Period(START, END), 9), year], START) == (year,)
