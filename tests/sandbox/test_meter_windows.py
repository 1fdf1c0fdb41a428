"""Where a meter has windows, the event received last counts in each, and a window is billed whole."""

from datetime import UTC, datetime, timedelta

import pytest

from meter_sync.sandbox import Sandbox

from .instants import DAY, HOUR, MINUTE, NOW, PERIOD_END, PERIOD_START, SECOND
from .metering import Meter


@pytest.mark.parametrize(("window", "start", "length"), [("hour", NOW - 2 * HOUR, HOUR), ("day", NOW - 60 * HOUR, DAY)])
def test_of_each_utc_hour_or_day_the_event_received_last_counts(
    metered: Meter, window: str, start: datetime, length: timedelta
) -> None:
    usage = metered(window=window)
    usage.send(9, start + length - SECOND)
    usage.send(4, start)
    usage.send(10, start + length)
    assert (usage.upcoming(), usage.summary()) == (14, 14)


def test_a_window_is_lowered_and_emptied_by_a_later_event(metered: Meter) -> None:
    usage = metered(window="hour")
    found = []
    for value in (9, 4, 0):
        usage.send(value, NOW - HOUR)
        found.append(usage.upcoming())
    assert found == [9, 4, 0]


@pytest.mark.parametrize("window", ["hour", "day"])
@pytest.mark.parametrize(("formula", "billed"), [("sum", 11), ("count", 2), ("last", 4)])
def test_of_windows_that_the_formula_aggregates_the_events_received_last(
    metered: Meter, window: str, formula: str, billed: int
) -> None:
    usage = metered(window=window, formula=formula)
    for value, at in ((9, NOW - 2 * DAY), (7, NOW - 2 * DAY), (4, NOW)):
        usage.send(value, at)
    assert (usage.upcoming(), usage.summary()) == (billed, billed)


@pytest.mark.parametrize("window", ["hour", "day"])
def test_a_window_that_straddles_the_end_of_a_period_is_billed_whole_in_the_later_one(
    sandbox: Sandbox, metered: Meter, window: str
) -> None:
    usage = metered(window=window, since=PERIOD_START + 20 * MINUTE)
    sandbox.clock.move_to(PERIOD_END + 10 * MINUTE)
    usage.send(5, PERIOD_END - HOUR)
    usage.send(7, PERIOD_END + 10 * MINUTE)
    # The period ends at 00:20, in the middle of the second window.
    assert usage.upcoming() == 5
    sandbox.clock.advance(10 * MINUTE)
    assert (usage.invoices(), usage.upcoming()) == ([("draft", 5)], 7)
    usage.send(8, PERIOD_END + 15 * MINUTE)
    sandbox.clock.move_to(datetime(2027, 1, 2, tzinfo=UTC))
    assert usage.billed() == [5, 8]


@pytest.mark.parametrize("window", ["hour", "day"])
def test_a_straddling_window_is_not_billed_at_all_where_no_later_period_comes(
    sandbox: Sandbox, metered: Meter, window: str
) -> None:
    usage = metered(window=window, since=PERIOD_START + 20 * MINUTE)
    sandbox.clock.move_to(PERIOD_END + 10 * MINUTE)
    usage.send(5, PERIOD_END - HOUR)
    usage.send(7, PERIOD_END + 10 * MINUTE)
    sandbox.clock.advance(10 * MINUTE)
    assert usage.stripe("DELETE", f"/v1/subscriptions/{usage.subscription}").json["status"] == "canceled"
    sandbox.clock.move_to(datetime(2027, 2, 2, tzinfo=UTC))
    assert usage.billed() == [5]
