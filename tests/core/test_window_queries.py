"""Shared queries by hours or days answer each item with exactly the usage of each stretch of its own."""

from collections import defaultdict
from datetime import datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.billing.windows import windows_between
from meter_sync.core.metering.mapping import Grouping
from meter_sync.core.metering.meter import Aggregation
from meter_sync.core.metering.queries import Need, Query, Unanswered, WindowQueryPlan

from .builders import AS_OF, HOUR, SECOND, START, few

Event = tuple[str, datetime, int]


def need(
    item: str,
    start: datetime,
    end: datetime,
    subjects: tuple[str, ...],
    *,
    window: WindowSize = WindowSize.HOUR,
    grouping: Grouping = Grouping.SUBJECT,
) -> Need:
    return Need(item, "requests", (), subjects, start, end, Aggregation.SUM, grouping, window)


def in_query(query: Query, event: Event) -> bool:
    return query.start <= event[1] < query.end and (query.subjects is None or event[0] in query.subjects)


def totals(query: Query, events: list[Event]) -> dict[str, Decimal]:
    """Answer as OpenMeter does: half-open, and no row for no usage."""
    found: defaultdict[str, Decimal] = defaultdict(Decimal)
    for event in events:
        if in_query(query, event):
            found[event[0]] += event[2]
    return dict(found)


def by_window(query: Query, events: list[Event]) -> dict[str, dict[datetime, Decimal]]:
    """Answer as OpenMeter does: partial windows at both ends carry the bounds of whole ones."""
    assert query.window
    found: defaultdict[str, defaultdict[datetime, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for event in events:
        if in_query(query, event):
            found[event[0]][query.window.floor(event[1])] += event[2]
    return {subject: dict(rows) for subject, rows in found.items()}


subjects = st.sampled_from(["a", "b", "c", "d"])
seconds = st.integers(0, 3 * 86_400)
events_of = st.lists(st.tuples(subjects, seconds.map(lambda after: START + after * SECOND), st.integers(1, 9)))
needs_of = st.lists(
    st.tuples(seconds, st.integers(1, 3 * 86_400), st.sets(subjects, min_size=1), st.booleans()),
    min_size=1,
    max_size=6,
)


@few
@given(events_of, needs_of, st.sampled_from(WindowSize))
def test_every_item_gets_the_usage_of_each_of_its_stretches(
    events: list[Event], wanted: list[tuple[int, int, set[str], bool]], window: WindowSize
) -> None:
    as_of = START + 6 * 24 * HOUR
    needs = [
        need(
            f"si_{place}",
            START + after * SECOND,
            as_of if until_now else min(as_of, START + (after + length) * SECOND),
            tuple(sorted(of)),
            window=window,
        )
        for place, (after, length, of, until_now) in enumerate(wanted)
    ]
    plan = WindowQueryPlan(needs)
    found = plan.usages(
        {query: by_window(query, events) for query in plan.queries},
        {query: totals(query, events) for query in plan.single_queries},
    )
    for one in needs:
        usage = found[one.item]
        assert not isinstance(usage, Unanswered)
        for stretch in windows_between(one.start, one.end, window):
            expected = sum(
                n for subject, at, n in events if subject in one.subjects and stretch.start <= at < stretch.end
            )
            assert usage.get(stretch.start, 0) == expected
        assert usage.keys() <= {stretch.start for stretch in windows_between(one.start, one.end, window)}


def test_the_trailing_stretch_of_ten_thousand_customers_is_one_query() -> None:
    since = WindowSize.HOUR.floor(AS_OF - 72 * HOUR)
    plan = WindowQueryPlan([need(f"si_{n}", since, AS_OF, (f"cus_{n}",)) for n in range(10_000)])
    assert (len(plan.queries), len(plan.single_queries)) == (1, 0)
    assert plan.queries[0].subjects is None


def test_whole_periods_are_asked_for_a_hundred_subjects_at_a_time() -> None:
    plan = WindowQueryPlan(
        [need(f"si_{n}", WindowSize.HOUR.floor(START) + (n % 50) * HOUR, AS_OF, (f"cus_{n}",)) for n in range(1000)]
    )
    assert len(plan.queries) == 10
    assert all(len(query.subjects or ()) == 100 for query in plan.queries)


def test_an_answer_that_no_machine_could_hold_is_not_asked_for() -> None:
    plan = WindowQueryPlan([need(f"si_{n}", AS_OF - 720 * HOUR, AS_OF, (f"cus_{n}",)) for n in range(2000)])
    assert all(query.subjects and len(query.subjects) <= 100 for query in plan.queries)


def test_customers_are_always_named() -> None:
    since = WindowSize.HOUR.floor(AS_OF - 72 * HOUR)
    needs = [need(f"si_{n}", since, AS_OF, (f"01{n}",), grouping=Grouping.CUSTOMER) for n in range(2000)]
    assert all(query.subjects and len(query.subjects) <= 100 for query in WindowQueryPlan(needs).queries)


def test_no_answer_for_one_subject_leaves_only_its_items_unanswered() -> None:
    since = WindowSize.HOUR.floor(START)
    plan = WindowQueryPlan([need("si_1", since, AS_OF, ("a",)), need("si_2", since, AS_OF, ("b",))])
    (query,) = plan.queries
    unknown = Unanswered("deleted")
    found = plan.usages({query: {"a": {since: Decimal(3)}, "b": unknown}}, {})
    assert found == {"si_1": {since: Decimal(3)}, "si_2": unknown}
