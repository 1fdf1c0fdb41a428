"""Whose usage counts from when until when, and the timestamp under which it is billed."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import Period, SubscriptionItem, WindowSize
from meter_sync.core.billing.span import Span, usage_span, usage_start

from .builders import AS_OF, END, LONG_AGO, SECOND, START, make_item, make_subscription, many

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400

period_starts = st.integers(0, 300 * DAY)
period_seconds = st.one_of(st.integers(2, 90), st.integers(2, 400 * DAY))
around = st.one_of(st.integers(-90, 90), st.integers(-40 * DAY, 40 * DAY))


@st.composite
def items(draw: st.DrawFn) -> SubscriptionItem:
    """Draw an item of any period, created at any second around its start or end."""
    start = EPOCH + timedelta(seconds=draw(period_starts))
    end = start + timedelta(seconds=draw(period_seconds))
    near = draw(st.sampled_from([start, end]))
    return make_item(
        start=start,
        end=end,
        created=near + timedelta(seconds=draw(around)),
        subscription=make_subscription(created=start + timedelta(seconds=draw(around))),
    )


@st.composite
def runs(draw: st.DrawFn) -> tuple[SubscriptionItem, datetime]:
    """Draw an item and an instant of a run, at any second around the item's period."""
    item = draw(items())
    near = draw(st.sampled_from([item.period.start, item.period.end, item.created]))
    return item, near + timedelta(seconds=draw(around))


def usage(events: Iterable[tuple[int, int]], start: datetime, end: datetime) -> int:
    """Return what OpenMeter answers: it floors events to the second, `from` counts, `to` does not.

    Events are pairs of milliseconds since EPOCH and an amount.
    """
    first, last = int((start - EPOCH).total_seconds()), int((end - EPOCH).total_seconds())
    return sum(amount for at, amount in events if first <= at // 1000 < last)


@many
@given(runs())
def test_the_anchor_is_strictly_inside_the_period_whatever_the_second(
    run: tuple[SubscriptionItem, datetime],
) -> None:
    item, as_of = run
    span = usage_span(item, as_of)
    if span:
        assert item.period.start < span.anchor < item.period.end


@many
@given(runs())
def test_the_anchor_is_never_in_the_future_of_the_run(
    run: tuple[SubscriptionItem, datetime],
) -> None:
    item, as_of = run
    span = usage_span(item, as_of)
    if span:
        assert span.anchor <= as_of


@many
@given(items(), st.lists(st.integers(0, 400 * DAY), min_size=2, max_size=5))
def test_every_run_of_a_period_writes_at_the_same_timestamp(item: SubscriptionItem, seconds: list[int]) -> None:
    spans = [usage_span(item, item.period.start + timedelta(seconds=one)) for one in seconds]
    assert len({span.anchor for span in spans if span}) <= 1
    assert len({span.start for span in spans if span}) <= 1


@many
@given(runs())
def test_nothing_outside_the_period_or_after_the_run_is_billed(
    run: tuple[SubscriptionItem, datetime],
) -> None:
    item, as_of = run
    span = usage_span(item, as_of)
    if span:
        assert item.period.start <= span.start < span.end <= min(item.period.end, as_of)
        assert span.start in (item.period.start, item.created)
    else:
        assert min(item.period.end, as_of) <= usage_start(item)


@many
@given(items())
def test_nobody_pays_for_usage_from_before_the_item_was_added(item: SubscriptionItem) -> None:
    start = usage_start(item)
    minute = timedelta(minutes=1)
    if item.created > start + minute:
        assert item.created <= max(item.period.start, item.subscription.created) + minute


@many
@given(
    period_starts,
    st.lists(st.integers(1, 40 * DAY), max_size=6),
    st.lists(st.tuples(st.integers(0, 400 * DAY * 1000), st.integers(1, 1000)), max_size=30),
    st.integers(1, 40 * DAY),
    st.data(),
)
def test_the_sum_over_any_split_of_a_period_equals_the_whole(
    start: int,
    cuts: list[int],
    anywhere: list[tuple[int, int]],
    length: int,
    data: st.DataObject,
) -> None:
    bounds = sorted({start, start + length, *(start + cut for cut in cuts if cut < length)})
    near_a_cut = st.tuples(
        st.sampled_from(bounds).flatmap(lambda bound: st.integers(max(0, bound * 1000 - 1500), bound * 1000 + 1500)),
        st.integers(1, 1000),
    )
    events = anywhere + data.draw(st.lists(near_a_cut, max_size=30))
    instants = [EPOCH + timedelta(seconds=bound) for bound in bounds]
    parts = 0
    for begin, end in pairwise(instants):
        span = _span(make_item(start=begin, end=end, created=EPOCH - timedelta(days=1)), end)
        parts += usage(events, span.start, span.end)
    assert parts == usage(events, instants[0], instants[-1])


@many
@given(items(), st.integers(0, 40 * DAY))
def test_a_run_after_the_period_bills_what_a_run_at_its_end_bills(item: SubscriptionItem, later: int) -> None:
    at_end = usage_span(item, item.period.end)
    assert usage_span(item, item.period.end + timedelta(seconds=later)) == at_end
    assert at_end is None or at_end.end == item.period.end


def test_an_item_added_in_mid_period_is_billed_from_its_own_creation() -> None:
    added = datetime(2026, 11, 10, 3, 4, 5, tzinfo=UTC)
    span = _span(make_item(created=added), AS_OF)
    assert span == Span(start=added, end=AS_OF, anchor=added + SECOND, stamps=Period(added, END))


def test_the_items_of_a_new_subscription_are_billed_from_the_period_start() -> None:
    item = make_item(created=START + SECOND, subscription=make_subscription(created=START))
    assert _span(item, AS_OF).start == START


def test_a_backdated_subscription_is_billed_from_its_backdated_start() -> None:
    made = START + timedelta(days=9)
    item = make_item(created=made + SECOND, subscription=make_subscription(created=made))
    assert _span(item, AS_OF) == Span(start=START, end=AS_OF, anchor=START + SECOND, stamps=Period(START, END))


def test_an_item_added_to_a_backdated_subscription_is_billed_from_its_own_creation() -> None:
    made = START + timedelta(days=9)
    added = made + timedelta(hours=2)
    item = make_item(created=added, subscription=make_subscription(created=made))
    assert _span(item, AS_OF).start == added


@pytest.mark.parametrize(
    ("after", "own_creation"),
    [(timedelta(0), False), (timedelta(seconds=60), False), (timedelta(seconds=61), True)],
)
def test_an_item_counts_as_added_later_only_after_more_than_a_minute(after: timedelta, own_creation: bool) -> None:
    item = make_item(created=START + after)
    assert usage_start(item) == (item.created if own_creation else START)


def test_an_old_item_is_billed_from_the_start_of_each_new_period() -> None:
    assert usage_start(make_item(created=LONG_AGO)) == START


@pytest.mark.parametrize("seconds_before_the_end", [1, 2])
def test_an_item_added_in_the_last_seconds_is_stamped_inside_the_period(
    seconds_before_the_end: int,
) -> None:
    added = END - timedelta(seconds=seconds_before_the_end)
    span = _span(make_item(created=added), END)
    assert (span.start, span.end, span.anchor) == (added, END, END - SECOND)


def test_the_usage_of_the_first_second_is_billed_after_that_second() -> None:
    assert usage_span(make_item(), START) is None
    assert _span(make_item(), START + SECOND) == Span(START, START + SECOND, START + SECOND, Period(START, END))


def test_an_item_whose_usage_has_not_started_has_nothing_to_bill() -> None:
    assert usage_span(make_item(), START - SECOND) is None
    assert usage_span(make_item(created=AS_OF), AS_OF) is None
    assert usage_span(make_item(created=END + SECOND), END + timedelta(days=1)) is None


def _span(item: SubscriptionItem, as_of: datetime) -> Span:
    span = usage_span(item, as_of)
    assert span is not None
    return span


def test_a_window_that_straddles_two_periods_has_nothing_from_before_the_item_was_there() -> None:
    subscribed = START - timedelta(minutes=20)
    item = make_item(created=subscribed + SECOND, subscription=make_subscription(created=subscribed))
    for billed_until in (None, WindowSize.DAY.floor(START)):
        span = usage_span(item, AS_OF, billed_until, WindowSize.DAY)
        assert span
        assert span.start == subscribed
