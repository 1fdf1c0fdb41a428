"""Summaries show what meter events add up to."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox

from .instants import DAY, HOUR, MINUTE, NOW, SECOND, unix
from .metering import Meter

MIDNIGHT = NOW - 12 * HOUR


def test_a_summary_counts_from_its_start_until_just_before_its_end(metered: Meter) -> None:
    usage = metered()
    for value, at in ((1, NOW - HOUR - SECOND), (2, NOW - HOUR), (4, NOW - SECOND), (8, NOW)):
        usage.send(value, at)
    assert usage.summary(NOW - HOUR, NOW) == 6
    (shown,) = usage.summaries(NOW - HOUR, NOW).json["data"]
    assert (shown["start_time"], shown["end_time"], shown["meter"]) == (unix(NOW - HOUR), unix(NOW), usage.meter)


def test_a_summary_is_of_one_customer_and_one_meter(metered: Meter) -> None:
    usage, other = metered(), metered("other")
    usage.send(5)
    other.send(7)
    replace(usage, customer=other.customer).send(9)
    assert (usage.summary(), other.summary()) == (5, 7)


@pytest.mark.parametrize(
    ("grouping", "aligned", "off"),
    [(None, MIDNIGHT + MINUTE, SECOND), ("hour", MIDNIGHT + HOUR, MINUTE), ("day", MIDNIGHT, HOUR)],
)
def test_a_summary_is_aligned_to_minutes_or_to_the_utc_windows_that_it_is_grouped_by(
    metered: Meter, grouping: str | None, aligned: datetime, off: timedelta
) -> None:
    usage = metered()
    group = {"value_grouping_window": grouping} if grouping else {}
    assert usage.summaries(aligned, aligned + DAY, **group).status == 200
    for name, start, end in (("start_time", off, DAY), ("end_time", timedelta(0), DAY + off)):
        refused = usage.summaries(aligned + start, aligned + end, **group)
        assert (refused.status, refused.error["param"]) == (400, name)


@pytest.mark.parametrize("length", [timedelta(0), -DAY])
@pytest.mark.parametrize("group", [{}, {"value_grouping_window": "hour"}], ids=["whole", "hours"])
def test_a_summary_ends_after_it_starts(metered: Meter, length: timedelta, group: dict[str, Any]) -> None:
    refused = metered().summaries(MIDNIGHT, MIDNIGHT + length, **group)
    assert (refused.status, refused.error["param"]) == (400, "end_time")


@pytest.mark.parametrize("window", [None, "hour"])
def test_a_summary_by_the_hour_has_a_row_for_each_hour_with_events_newest_first(
    metered: Meter, window: str | None
) -> None:
    usage = metered(window=window)
    for value, hours in ((1, 5), (4, 1), (2, 3), (8, 0.5), (16, 0)):
        usage.send(value, NOW - hours * HOUR)
    rows = usage.summaries(NOW - 4 * HOUR, NOW, value_grouping_window="hour").json["data"]
    assert [(row["start_time"], row["end_time"], row["aggregated_value"]) for row in rows] == [
        (unix(NOW - HOUR), unix(NOW), 8 if window else 12),
        (unix(NOW - 3 * HOUR), unix(NOW - 2 * HOUR), 2),
    ]


def test_a_summary_by_the_day_adds_the_hours_of_each_utc_day(metered: Meter) -> None:
    usage = metered(window="hour")
    for value, at in ((1, MIDNIGHT - SECOND), (2, MIDNIGHT), (4, NOW)):
        usage.send(value, at)
    rows = usage.summaries(value_grouping_window="day").json["data"]
    found = [(row["start_time"], row["end_time"], row["aggregated_value"]) for row in rows]
    assert found == [
        (unix(MIDNIGHT), unix(MIDNIGHT + DAY), 6),
        (unix(MIDNIGHT - DAY), unix(MIDNIGHT), 1),
    ]


def test_the_pages_of_a_summary_lead_to_every_row_once(metered: Meter) -> None:
    usage = metered(window="hour")
    for hours in range(5):
        usage.send(hours, NOW - hours * HOUR)
    values: list[float] = []
    cursor: dict[str, Any] = {}
    more = True
    while more:
        page = usage.summaries(value_grouping_window="hour", limit=2, **cursor).json
        values += [row["aggregated_value"] for row in page["data"]]
        cursor = {"starting_after": page["data"][-1]["id"]}
        more = page["has_more"]
    assert values == [0, 1, 2, 3, 4]


def test_the_pages_of_a_summary_lead_back_as_well(metered: Meter) -> None:
    usage = metered(window="hour")
    for hours in range(5):
        usage.send(hours, NOW - hours * HOUR)
    grouped: dict[str, Any] = {"value_grouping_window": "hour"}
    rows = usage.summaries(**grouped).json["data"]
    page = usage.summaries(**grouped, limit=2, ending_before=rows[3]["id"]).json
    assert (page["data"], page["has_more"]) == (rows[1:3], True)
    page = usage.summaries(**grouped, limit=2, ending_before=rows[1]["id"]).json
    assert (page["data"], page["has_more"]) == (rows[:1], False)


def test_a_page_of_a_summary_has_ten_rows_unless_asked_otherwise(metered: Meter) -> None:
    usage = metered()
    for hours in range(11):
        usage.send(1, NOW - hours * HOUR)
    page = usage.summaries(value_grouping_window="hour").json
    assert (len(page["data"]), page["has_more"]) == (10, True)


def test_a_summary_lags_behind_what_is_billed(sandbox: Sandbox, metered: Meter) -> None:
    usage = metered(window="hour")
    sandbox.stripe.summary_lag_seconds = 120
    usage.send(5)
    sandbox.clock.advance(timedelta(seconds=119))
    assert (usage.summary(), usage.upcoming()) == (0, 5)
    sandbox.clock.advance(SECOND)
    assert usage.summary() == 5
    # What replaces it is not there yet, so the window still shows what was there before.
    usage.send(7)
    assert (usage.summary(), usage.upcoming()) == (5, 7)
    sandbox.clock.advance(2 * MINUTE)
    assert usage.summary() == 7


@pytest.mark.parametrize(("window", "shown"), [(None, 12), ("hour", 7), ("day", 7)])
def test_a_summary_lags_behind_a_cancellation_as_well(
    sandbox: Sandbox, metered: Meter, window: str | None, shown: int
) -> None:
    usage = metered(window=window)
    usage.send(5)
    usage.send(7, identifier="wrong")
    sandbox.stripe.summary_lag_seconds = 120
    sandbox.clock.advance(HOUR)
    assert usage.cancel("wrong").status == 200
    sandbox.clock.advance(timedelta(seconds=119))
    assert (usage.summary(), usage.upcoming()) == (shown, 5)
    sandbox.clock.advance(SECOND)
    assert (usage.summary(), usage.upcoming()) == (5, 5)


def test_there_is_no_summary_of_what_does_not_exist(metered: Meter) -> None:
    usage = metered()
    unknown = usage.summaries(customer="cus_none")
    assert (unknown.status, unknown.error["param"]) == (400, "customer")
    for name in ("starting_after", "ending_before"):
        unknown_row: dict[str, Any] = {name: "mtrusg_none"}
        cursor = usage.summaries(**unknown_row)
        assert (cursor.status, cursor.error["param"]) == (400, name)
    nowhere = replace(usage, meter="mtr_none").summaries()
    assert (nowhere.status, nowhere.error["code"]) == (404, "resource_missing")


@pytest.mark.parametrize("missing", ["customer", "start_time", "end_time"])
def test_a_summary_needs_a_customer_a_start_and_an_end(metered: Meter, missing: str) -> None:
    nothing: dict[str, Any] = {missing: ""}
    refused = metered().summaries(**nothing)
    assert (refused.status, refused.error["param"]) == (400, missing)
