"""Few queries, and the same usage for every item as one query for it alone would bring."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.metering.mapping import Filter
from meter_sync.core.metering.meter import Aggregation
from meter_sync.core.metering.queries import (
    SUBJECTS_PER_QUERY,
    Answer,
    Need,
    Query,
    QueryPlan,
    Unanswered,
    combined,
)

from .builders import AS_OF, SECOND, START, few, many

COMBINING = [Aggregation.SUM, Aggregation.COUNT, Aggregation.MIN, Aggregation.MAX]
SINGLE = [Aggregation.AVG, Aggregation.UNIQUE_COUNT, Aggregation.LATEST]

Events = Mapping[str, Sequence[int]]
"""The values of each subject's events."""

AGGREGATED: dict[Aggregation, Callable[[Sequence[int]], int]] = {
    Aggregation.SUM: sum,
    Aggregation.COUNT: len,
    Aggregation.MIN: min,
    Aggregation.MAX: max,
}


def need(
    item: str,
    subjects: Sequence[str],
    *,
    aggregation: Aggregation = Aggregation.SUM,
    meter: str = "requests",
    filter: Filter = (),
    start: datetime = START,
    end: datetime = AS_OF,
) -> Need:
    return Need(item, meter, filter, tuple(subjects), start, end, aggregation)


def ask(query: Query, events: Events, aggregation: Aggregation) -> Answer:
    """Answer as OpenMeter does: a row for each subject that was asked for and has events."""
    asked = events if query.subjects is None else query.subjects
    assert query.subjects is None or len(query.subjects) <= SUBJECTS_PER_QUERY
    return {subject: Decimal(AGGREGATED[aggregation](events[subject])) for subject in asked if events.get(subject)}


def alone(wanted: Need, events: Events) -> Decimal:
    """Return the usage over all events of the item's subjects, taken together."""
    values = [value for subject in wanted.subjects for value in events.get(subject, ())]
    return Decimal(AGGREGATED[wanted.aggregation](values)) if values else Decimal(0)


@many
@given(
    st.sampled_from(COMBINING),
    st.dictionaries(st.sampled_from("abcdef"), st.lists(st.integers(0, 99), max_size=3)),
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, unique=True), max_size=6),
)
def test_items_that_share_queries_get_what_a_query_of_their_own_would_bring(
    aggregation: Aggregation, events: Events, subjects: list[list[str]]
) -> None:
    needs = [need(f"si_{number}", wanted, aggregation=aggregation) for number, wanted in enumerate(subjects)]
    plan = QueryPlan(needs)
    answers = {query: ask(query, events, aggregation) for query in plan.queries}
    assert plan.usages(answers) == {wanted.item: alone(wanted, events) for wanted in needs}
    assert len(plan.queries) == bool(needs)


@few
@given(
    st.sampled_from(COMBINING),
    st.one_of(st.integers(1, 1300), st.sampled_from([99, 100, 101, 999, 1000, 1001])),
    st.integers(1, 7),
)
def test_grouping_into_chunks_of_100_answers_like_one_query(
    aggregation: Aggregation, number: int, per_item: int
) -> None:
    everybody = [f"s{one}" for one in range(number)]
    events = {subject: [one % 17 + 1, one % 5] for one, subject in enumerate(everybody) if one % 3} | {
        "another account's subject": [10**6]
    }
    needs = [
        need(f"si_{first}", everybody[first : first + per_item], aggregation=aggregation)
        for first in range(0, number, per_item)
    ] + [need("si_all", everybody, aggregation=aggregation)]
    plan = QueryPlan(needs)
    answers = {query: ask(query, events, aggregation) for query in plan.queries}
    assert plan.usages(answers) == {wanted.item: alone(wanted, events) for wanted in needs}
    if number > 1000:
        assert [query.subjects for query in plan.queries] == [None]
    else:
        asked = Counter(subject for query in plan.queries for subject in query.subjects or ())
        assert asked == Counter(everybody)
        assert len(plan.queries) == -(-number // SUBJECTS_PER_QUERY)


def test_up_to_1000_subjects_are_asked_by_name_and_beyond_that_all_at_once() -> None:
    thousand = QueryPlan([need("si_1", [f"s{one}" for one in range(1000)])])
    assert [len(query.subjects or ()) for query in thousand.queries] == [100] * 10
    more = QueryPlan([need("si_1", [f"s{one}" for one in range(1001)])])
    assert more.queries == [Query("requests", (), START, AS_OF, None)]


def test_no_items_need_no_queries() -> None:
    plan = QueryPlan([])
    assert plan.queries == []
    assert plan.usages({}) == {}


@pytest.mark.parametrize(
    "other",
    [
        need("si_2", ["a"], meter="tokens"),
        need("si_2", ["a"], filter=(("model", ("gpt",)),)),
        need("si_2", ["a"], start=START + SECOND),
        need("si_2", ["a"], end=AS_OF - SECOND),
    ],
)
def test_another_meter_filter_or_span_is_another_query_with_its_own_answer(other: Need) -> None:
    plan = QueryPlan([need("si_1", ["a"]), other])
    assert len(plan.queries) == 2
    mine, others = plan.queries
    answers: dict[Query, Answer] = {mine: {"a": Decimal(1)}, others: {"a": Decimal(2)}}
    assert plan.usages(answers) == {"si_1": Decimal(1), "si_2": Decimal(2)}
    assert (others.meter, others.filter, others.start, others.end) == (
        other.meter,
        other.filter,
        other.start,
        other.end,
    )


def test_a_missing_row_is_zero_only_after_a_complete_answer() -> None:
    plan = QueryPlan([need("si_1", ["a"]), need("si_2", ["b"])])
    (query,) = plan.queries
    complete: Answer = {"a": Decimal(7)}
    assert plan.usages({query: complete}) == {"si_1": Decimal(7), "si_2": Decimal(0)}
    broken = Unanswered("HTTP status 500")
    assert plan.usages({query: broken}) == {"si_1": broken, "si_2": broken}


def test_one_unanswered_chunk_leaves_exactly_the_items_that_need_it_unanswered() -> None:
    everybody = [f"s{one}" for one in range(250)]
    needs = [need(f"si_{subject}", [subject]) for subject in everybody]
    plan = QueryPlan([*needs, need("si_across", ["s0", "s249"])])
    broken = Unanswered("cut off")
    first, *_, last = plan.queries
    answers: dict[Query, Answer] = {query: {} for query in plan.queries}
    answers |= {last: broken, first: {"s0": Decimal(5)}}
    usages = plan.usages(answers)
    assert usages["si_s0"] == Decimal(5)
    assert usages["si_s150"] == Decimal(0)
    assert usages["si_s249"] is broken
    assert usages["si_across"] is broken
    assert {usages[f"si_s{one}"] for one in range(200, 250)} == {broken}


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_a_single_subject_is_billed_as_answered_whatever_the_aggregation(
    aggregation: Aggregation,
) -> None:
    assert combined(aggregation, [Decimal("12.5")]) == Decimal("12.5")
    assert combined(aggregation, []) == 0


@pytest.mark.parametrize("aggregation", SINGLE)
def test_what_cannot_be_put_together_is_refused_rather_than_added(
    aggregation: Aggregation,
) -> None:
    assert not aggregation.combines_subjects
    with pytest.raises(ValueError, match="cannot be put together"):
        combined(aggregation, [Decimal(1), Decimal(2)])


def test_several_subjects_add_up_for_sum_and_count_and_not_for_min_and_max() -> None:
    values = [Decimal(3), Decimal("0.5"), Decimal(2)]
    assert combined(Aggregation.SUM, values) == Decimal("5.5")
    assert combined(Aggregation.COUNT, values) == Decimal("5.5")
    assert combined(Aggregation.MIN, values) == Decimal("0.5")
    assert combined(Aggregation.MAX, values) == Decimal(3)
    assert all(aggregation.combines_subjects for aggregation in COMBINING)


@pytest.mark.parametrize("aggregation", COMBINING)
@pytest.mark.parametrize("bad", ["NaN", "Infinity", "-Infinity"])
def test_one_subject_without_a_number_makes_the_items_usage_unbillable(aggregation: Aggregation, bad: str) -> None:
    for values in ([Decimal(1), Decimal(bad)], [Decimal(bad), Decimal(1)], [Decimal(bad)]):
        assert not combined(aggregation, values).is_finite()


def test_the_order_in_which_subjects_are_named_makes_no_difference() -> None:
    plan = QueryPlan([need("si_1", ["a", "b"]), need("si_2", ["b", "a"])])
    (query,) = plan.queries
    usages = plan.usages({query: {"a": Decimal("0.1"), "b": Decimal("0.2")}})
    assert usages["si_1"] == usages["si_2"] == Decimal("0.3")


def test_one_subject_of_two_items_is_asked_for_once() -> None:
    plan = QueryPlan([need("si_1", ["a", "b"]), need("si_2", ["b", "c"])])
    assert [query.subjects for query in plan.queries] == [("a", "b", "c")]


def test_only_a_running_total_is_said_never_to_fall() -> None:
    assert {one for one in Aggregation if one.never_falls} == {
        Aggregation.SUM,
        Aggregation.COUNT,
        Aggregation.UNIQUE_COUNT,
        Aggregation.MAX,
    }


def test_periods_that_begin_at_their_own_second_keep_their_own_usage() -> None:
    needs = [need(f"si_{one}", ["a"], start=START + timedelta(seconds=one)) for one in range(5)]
    plan = QueryPlan(needs)
    answers: dict[Query, Answer] = {
        query: {"a": Decimal((AS_OF - query.start).total_seconds())} for query in plan.queries
    }
    assert plan.usages(answers) == {wanted.item: Decimal((AS_OF - wanted.start).total_seconds()) for wanted in needs}
