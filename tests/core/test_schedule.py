"""When a complete run is overdue: what says "try again later" may say so until then, and no longer."""

from datetime import UTC, datetime, timedelta

import pytest

from meter_sync.core.schedule import Schedule

BEGUN = datetime(2026, 11, 1, 10, 7, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(("schedule", "hours"), [(Schedule.HOURLY, 2), (Schedule.DAILY, 48)])
@pytest.mark.parametrize("has_completed", [True, False])
def test_a_run_is_overdue_two_intervals_after_the_last_complete_one_or_after_the_first(
    schedule: Schedule, hours: int, has_completed: bool
) -> None:
    earlier = BEGUN - timedelta(days=30)
    last, first = (BEGUN, earlier) if has_completed else (None, BEGUN)
    due = BEGUN + timedelta(hours=hours)

    assert schedule.overdue_since(last, first, due - SECOND) is None
    assert schedule.overdue_since(last, first, due) == BEGUN
    assert schedule.overdue_since(last, first, due + timedelta(days=300)) == BEGUN


@pytest.mark.parametrize("schedule", Schedule)
def test_before_the_first_run_none_is_overdue(schedule: Schedule) -> None:
    assert schedule.overdue_since(None, None, BEGUN) is None
