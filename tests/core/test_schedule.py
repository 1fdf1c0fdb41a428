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


@pytest.mark.parametrize("schedule", list(Schedule))
@pytest.mark.parametrize("account", ["", "eu", "us", "shop-17"])
def test_an_accounts_turn_begins_at_its_own_time_in_each_interval(schedule: Schedule, account: str) -> None:
    began = [schedule.turn_began(account, BEGUN + timedelta(minutes=minutes)) for minutes in range(0, 60 * 72, 7)]
    assert all(
        turn <= BEGUN + timedelta(minutes=7 * number) < turn + schedule.interval for number, turn in enumerate(began)
    )
    assert len({turn - turn.replace(minute=0, second=0) for turn in began}) == 1
    if schedule is Schedule.DAILY:
        assert {turn.hour for turn in began} == {0}


def test_accounts_are_spread_over_the_hour() -> None:
    minutes = {Schedule.HOURLY.turn_began(f"shop-{number}", BEGUN).minute for number in range(600)}
    assert len(minutes) == 60
