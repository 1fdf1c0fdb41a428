"""Hours and days: only what changed is sent, and Stripe ends with exactly the rounded usage."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import BillingMeter, SubscriptionItem, WindowSize
from meter_sync.core.billing.span import usage_span
from meter_sync.core.billing.way import Way
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.memory import Memory, Remembered, RememberedWindow, RememberedWindows
from meter_sync.core.planning.results import outcome_of
from meter_sync.core.planning.sends import SetWindows
from meter_sync.core.planning.stages import Metered, Planned, Result
from meter_sync.core.planning.windows import plan_windows, read_since, windows_of, with_all_days, with_standing_windows

from .builders import (
    AS_OF,
    HOUR,
    POLICY,
    START,
    few,
    knowing,
    make_item,
    make_metered,
    make_price,
    make_remembered,
    remembering,
)

METER = BillingMeter("mtr_1", "used", "sum", WindowSize.HOUR)
DAY = timedelta(days=1)
FIRST = WindowSize.HOUR.floor(START)


def by_hours(item: SubscriptionItem, as_of: datetime = AS_OF) -> Metered:
    span = usage_span(item, as_of, window=WindowSize.HOUR)
    return make_metered(item, way=Way.WINDOWS, span=span)


def hourly(as_of: datetime = AS_OF, **details: object) -> Metered:
    return by_hours(make_item(price=make_price(billing_meter=METER), **details), as_of)  # type: ignore[arg-type]


def daily(as_of: datetime = AS_OF) -> Metered:
    return make_metered(as_of=as_of, way=Way.DAY_RECORDS)


def after(planned: Planned | Result, before: Memory, as_of: datetime = AS_OF) -> Memory:
    """Return what the ledger knows once all that was planned is acknowledged."""
    if isinstance(planned, Result):
        return before
    write = planned.write
    then = before.remembered["si_1"].windows.by_start if before.remembered else {}
    windows = {one.start: RememberedWindow(one.timestamp, one.total, one.value, one.value) for one in windows_of(write)}
    remembered = replace(
        make_remembered(write.quantity, method=write.method),
        as_of=as_of,
        read_whole_at=as_of,
        lacking=write.lacking,
        windows=RememberedWindows(Decimal(0), {**then, **windows}),
    )
    return remembering(remembered)


def sends(planned: Planned | Result) -> SetWindows:
    assert isinstance(planned, Planned)
    assert isinstance(planned.write.sends, SetWindows)
    return planned.write.sends


def sent(planned: Planned | Result) -> dict[datetime, int]:
    return {one.start: one.value for one in sends(planned).sent} if isinstance(planned, Planned) else {}


def reported(planned: Planned | Result) -> Result:
    """Return what becomes of an item whose write is sent."""
    return planned if isinstance(planned, Result) else outcome_of(planned.write, Outcome.REPORTED)


def test_only_what_changed_is_sent() -> None:
    usage = {FIRST + HOUR: Decimal(5), FIRST + 2 * HOUR: Decimal(7)}
    first = plan_windows(hourly(), usage, knowing(), POLICY)
    assert sent(first) == {FIRST + HOUR: 5, FIRST + 2 * HOUR: 7}
    second = plan_windows(hourly(), {**usage, FIRST + HOUR: Decimal(6)}, after(first, knowing()), POLICY)
    assert sent(second) == {FIRST + HOUR: 6}
    assert isinstance(second, Planned)
    assert (second.write.quantity, sends(second).kept, second.highest_before) == (13, 1, 12)


def test_a_part_whose_write_was_not_acknowledged_is_sent_again_also_before_the_trailing_stretch() -> None:
    usage = {FIRST + HOUR: Decimal(5), AS_OF - HOUR: Decimal(7)}
    memory = after(plan_windows(hourly(), usage, knowing(), POLICY), knowing())
    known = memory.remembered["si_1"]
    unsettled = {**known.windows.by_start, FIRST + HOUR: replace(known.windows.by_start[FIRST + HOUR], standing=None)}
    memory = remembering(replace(known, windows=RememberedWindows(Decimal(5), unsettled)))
    metered = replace(hourly(), read_since=WindowSize.HOUR.floor(AS_OF - 3 * DAY))
    again = plan_windows(metered, {AS_OF - HOUR: Decimal(7)}, memory, POLICY)
    assert sent(again) == {FIRST + HOUR: 5}


def test_what_is_as_it_was_is_unchanged() -> None:
    usage = {AS_OF - HOUR: Decimal(7)}
    memory = after(plan_windows(hourly(), usage, knowing(), POLICY), knowing())
    metered = replace(hourly(), read_since=WindowSize.HOUR.floor(AS_OF - 3 * DAY))
    trailing = plan_windows(metered, usage, memory, POLICY)
    assert isinstance(trailing, Result)
    assert trailing.outcome is Outcome.UNCHANGED
    whole = reported(plan_windows(hourly(), usage, memory, POLICY))
    assert whole.outcome is Outcome.UNCHANGED


def yearly() -> Metered:
    item = make_item(price=make_price(billing_meter=METER), start=AS_OF - 100 * DAY, end=AS_OF + 200 * DAY)
    return by_hours(item)


def test_what_stripe_takes_no_more_goes_into_the_oldest_part_that_it_does() -> None:
    old, new = AS_OF - 35 * DAY, AS_OF - 35 * DAY + HOUR
    usage = {old: Decimal(3), new: Decimal(4)}
    first = plan_windows(yearly(), usage, knowing(), POLICY)
    assert sent(first) == {new: 7}
    assert (reported(first).outcome, reported(first).found.quantity) == (Outcome.REPORTED, 7)
    memory = after(first, knowing())
    assert reported(plan_windows(yearly(), usage, memory, POLICY)).outcome is Outcome.UNCHANGED
    later = replace(POLICY, as_of=AS_OF + HOUR, now=AS_OF + HOUR)
    assert reported(plan_windows(yearly(), usage, memory, later)).outcome is Outcome.UNCHANGED


def test_too_much_that_stripe_takes_back_no_more_is_named_as_well() -> None:
    old = AS_OF - 35 * DAY
    part = RememberedWindow(old, Decimal(5), 5, 5)
    memory = remembering(
        replace(make_remembered(5, method=yearly().method), windows=RememberedWindows(Decimal(0), {old: part}))
    )
    less = plan_windows(yearly(), {old: Decimal(2)}, memory, POLICY)
    assert isinstance(less, Planned)
    assert (sent(less), less.write.lacking, less.write.quantity) == ({}, -3, 5)
    assert "3 too many are billed" in str(reported(less).message)


@few
@given(st.dictionaries(st.integers(0, 300), st.decimals(min_value=0, max_value=9, places=2)), st.data())
def test_a_trailing_read_comes_to_the_same_as_a_whole_one(hours: dict[int, Decimal], data: st.DataObject) -> None:
    usage = {FIRST + n * HOUR: value for n, value in hours.items()}
    first = plan_windows(hourly(), usage, knowing(), POLICY)
    memory = after(first, knowing())
    since = WindowSize.HOUR.floor(AS_OF - 3 * DAY)
    changed = dict(usage)
    for n in data.draw(st.lists(st.integers(0, 71), max_size=5)):
        changed[since + n * HOUR] = Decimal(n) / 10
    known = memory.remembered["si_1"]
    rows = known.windows.by_start
    before = [part for start, part in sorted(rows.items()) if start < since]
    trailing = RememberedWindows(
        before[-1].total if before else Decimal(0), {start: part for start, part in rows.items() if start >= since}
    )
    memory_of_trailing = remembering(replace(known, windows=trailing))
    some = {start: value for start, value in changed.items() if start >= since}
    short = plan_windows(replace(hourly(), read_since=since), some, memory_of_trailing, POLICY)
    whole = plan_windows(hourly(), changed, memory, POLICY)
    assert sent(short) == sent(whole)
    assert short.found.quantity == whole.found.quantity


@pytest.mark.parametrize(
    ("change", "is_whole"),
    [
        ({}, False),
        ({"read_whole_at": AS_OF - DAY}, True),
        ({"read_whole_at": None}, True),
        ({"subjects": ("other",)}, True),
        ({"foreign": 3}, True),
        ({"total_before": 3}, True),
    ],
)
def test_the_whole_period_is_read_once_a_day_and_whenever_something_else_changed(
    change: Mapping[str, object], is_whole: bool
) -> None:
    known = replace(make_remembered(method=hourly().method), read_whole_at=AS_OF - HOUR)
    memory = remembering(replace(known, **change))  # type: ignore[arg-type]
    since = read_since(hourly(), memory, POLICY, AS_OF - 3 * DAY)
    assert since == (None if is_whole else WindowSize.HOUR.floor(AS_OF - 3 * DAY))


def test_the_whole_period_is_read_where_usage_has_come_late() -> None:
    known = replace(make_remembered(method=hourly().method), read_whole_at=AS_OF - HOUR)
    assert read_since(hourly(), remembering(known), POLICY, known_until=None) is None


def test_a_changed_method_or_a_resend_reads_the_whole_period() -> None:
    known = replace(make_remembered(method=hourly().method), read_whole_at=AS_OF - HOUR)
    other = replace(known, method=replace(known.method, scale=Decimal(2)))
    assert read_since(hourly(), remembering(other), POLICY, AS_OF - DAY) is None
    assert read_since(hourly(), remembering(known), replace(POLICY, resend=True), AS_OF - DAY) is None
    assert read_since(hourly(), Memory(), POLICY, AS_OF - DAY) is None


def unknown(usage: Mapping[datetime, Decimal], metered: Metered) -> Planned:
    planned = plan_windows(metered, usage, Memory(), POLICY)
    assert isinstance(planned, Planned)
    return planned


def test_after_a_look_only_what_differs_is_sent_and_what_is_too_young_to_be_believed() -> None:
    young, old, gone = AS_OF - HOUR, FIRST + HOUR, FIRST + 3 * HOUR
    planned = unknown({old: Decimal(5), FIRST + 2 * HOUR: Decimal(6), young: Decimal(7)}, hourly())
    looked = with_standing_windows(planned, {old: 5, young: 7, gone: 9}, POLICY)
    assert sent(looked) == {FIRST + 2 * HOUR: 6, gone: 0, young: 7}
    assert (looked.found.standing, looked.highest_before, looked.write.quantity) == (21, 21, 18)


def test_after_a_look_for_days_every_day_is_written() -> None:
    planned = unknown({START: Decimal(5)}, daily())
    days = windows_of(with_all_days(planned.metered, planned.write))
    assert [day.value for day in days] == [5] + [0] * (len(days) - 1)
    assert days[0].start == START
    assert days[-1].start == WindowSize.DAY.floor(AS_OF)
    assert all(START < day.timestamp < planned.item.period.end for day in days)


def test_a_negative_day_is_taken_off_the_days_before_it_but_an_event_holds_a_negative_hour() -> None:
    second, third = (WindowSize.DAY.floor(START) + days * DAY for days in (1, 2))
    usage = {START: Decimal(5), second: Decimal(1), third: Decimal(-2)}
    assert sent(plan_windows(daily(), usage, knowing(), POLICY)) == {START: 4}
    hours = {FIRST: Decimal(5), FIRST + HOUR: Decimal(-2)}
    assert sent(plan_windows(hourly(), hours, knowing(), POLICY)) == {FIRST: 5, FIRST + HOUR: -2}


def test_a_value_with_more_digits_than_stripe_takes_is_held() -> None:
    held = plan_windows(hourly(), {FIRST: Decimal(10**15)}, knowing(), POLICY)
    assert isinstance(held, Result)
    assert (held.outcome, held.reason) == (Outcome.HELD, Reason.INVALID_USAGE)
    assert sent(plan_windows(hourly(), {FIRST: Decimal(10**15 - 1)}, knowing(), POLICY)) == {FIRST: 10**15 - 1}


def test_every_event_is_stamped_inside_its_window_and_its_period() -> None:
    planned = plan_windows(hourly(), {FIRST: Decimal(1), FIRST + HOUR: Decimal(1)}, knowing(), POLICY)
    assert isinstance(planned, Planned)
    assert [one.timestamp for one in sends(planned).sent] == [START, FIRST + HOUR]
    assert planned.metered.span.start == FIRST


def remembered_rejection() -> Remembered:
    return replace(make_remembered(method=hourly().method), rejected="archived_meter: gone")


def test_a_rejection_is_shown_before_anything_is_written_again() -> None:
    held = plan_windows(hourly(), {FIRST: Decimal(1)}, remembering(remembered_rejection()), POLICY)
    assert isinstance(held, Result)
    assert held.outcome is Outcome.HELD
    assert (held.reason, "archived_meter" in str(held.message)) == (Reason.REJECTED, True)
