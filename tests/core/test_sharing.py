"""What is kept and what is asked, put together, is what an exact query of the whole time would have answered."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_sync.core.metering.meter import Aggregation
from meter_sync.core.metering.queries import Answer, Need, Query, QueryPlan, Unanswered
from meter_sync.core.metering.sharing import Kept, Sharing, series_of

START = datetime(2026, 11, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
SHAREABLE = [Aggregation.SUM, Aggregation.COUNT, Aggregation.MIN, Aggregation.MAX, Aggregation.LATEST]


@dataclass(frozen=True)
class Event:
    subject: str
    at: datetime
    value: int
    arrives: int
    """Before which run."""


@dataclass
class World:
    """What OpenMeter says, stated apart from the program: half-open seconds, no event is no row."""

    aggregation: Aggregation
    events: list[Event] = field(default_factory=list)
    run: int = 0
    unanswered: frozenset[int] = frozenset()
    asked: list[Query] = field(default_factory=list)

    def total(self, subjects: Iterable[str], start: datetime, end: datetime) -> Decimal | None:
        here = [
            one for one in self.events if one.arrives <= self.run and one.subject in subjects and start <= one.at < end
        ]
        if not here:
            return None
        values = [one.value for one in sorted(here, key=lambda one: (one.at, one.arrives))]
        match self.aggregation:
            case Aggregation.SUM:
                return Decimal(sum(values))
            case Aggregation.COUNT:
                return Decimal(len(values))
            case Aggregation.MIN:
                return Decimal(min(values))
            case Aggregation.MAX:
                return Decimal(max(values))
        return Decimal(values[-1])

    def answer(self, query: Query) -> Answer:
        self.asked.append(query)
        if len(self.asked) in self.unanswered:
            return Unanswered("no answer")
        every = sorted({one.subject for one in self.events}) if query.subjects is None else query.subjects
        totals = {one: self.total([one], query.start, query.end) for one in every}
        return {subject: total for subject, total in totals.items() if total is not None}


def a_need(
    aggregation: Aggregation, item: str, start: datetime, end: datetime, *subjects: str, meter_id: str = "meter"
) -> Need:
    return Need(item, "requests", (), subjects, start, end, aggregation, meter_id=meter_id)


@dataclass
class Run:
    usages: Mapping[str, Decimal | Unanswered]
    kept: Kept
    shared: int
    parts: int
    corrected: Decimal


def a_run(world: World, kept: Kept | None, needs: Sequence[Need], as_of: datetime, *, is_whole: bool = False) -> Run:
    """What a run does: totals first, then the parts."""
    series = series_of(needs[0])
    assert series is not None
    begins = min(need.start for need in needs)
    sharing = Sharing(series, kept, begins=begins, as_of=as_of, is_whole=is_whole or kept is None)
    queries = sharing.queries(needs)
    sharing.answered(needs, {query: world.answer(query) for query in queries})
    parts = QueryPlan(sharing.parts(needs))
    totals = parts.totals({query: world.answer(query) for query in parts.queries})
    usages = sharing.usages(needs, totals)
    return Run(usages, sharing.kept(), len(queries), len(parts.queries), sharing.corrected.usage)


def exact(world: World, needs: Sequence[Need]) -> dict[str, Decimal]:
    return {need.item: world.total(need.subjects, need.start, need.end) or Decimal(0) for need in needs}


DAYS = 4
moments = st.builds(
    lambda hour, minute: START + hour * HOUR + minute,
    st.integers(0, DAYS * 24),
    st.sampled_from([timedelta(0), timedelta(minutes=50)]),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[World, list[Need], list[datetime], list[bool]]:
    """Return usage of a few subjects, needs of all kinds, and runs, of which some read everything."""
    aggregation = draw(st.sampled_from(SHAREABLE))
    subjects = ["a", "b"]
    runs = sorted(draw(st.lists(st.integers(2, DAYS * 24 + 24), min_size=3, max_size=7, unique=True)))
    events = []
    for number in range(draw(st.integers(1, 14))):
        # No sum of these is zero but that of none: what compensates itself within one subject is another promise.
        size = 3**number if aggregation is Aggregation.SUM else draw(st.integers(0, 3))
        value = size * draw(st.sampled_from([1, 1, -1]))
        arrives = draw(st.integers(0, len(runs) - 1))
        subject, at = draw(st.sampled_from(subjects)), draw(moments)
        events.append(Event(subject, at, value, arrives))
        if aggregation is Aggregation.SUM and draw(st.booleans()):  # moved: what was taken from one is given to another
            other = "b" if subject == "a" else "a"
            events.append(Event(other, at, -value, arrives))
    needs = []
    for number in range(draw(st.integers(1, 4))):
        several = aggregation.combines_subjects and draw(st.booleans())
        whose = draw(st.permutations(subjects))[: 2 if several else 1]
        start = draw(moments) + timedelta(seconds=number)
        end = start + draw(st.integers(1, DAYS * 24)) * HOUR
        needs.append(a_need(aggregation, f"si_{number}", start, end, *whose))
    whole = [draw(st.integers(0, 5)) == 0 for _ in runs]
    return World(aggregation, events), needs, [START + one * HOUR for one in runs], whole


@given(
    histories(),
    st.one_of(st.just(frozenset()), st.frozensets(st.integers(1, 40), max_size=4)),
    st.one_of(st.just(frozenset()), st.frozensets(st.integers(0, 5), max_size=1)),
)
@settings(max_examples=600, deadline=None)
def test_what_is_kept_and_what_is_asked_is_what_an_exact_query_says(
    history: tuple[World, list[Need], list[datetime], list[bool]], unanswered: frozenset[int], lost: frozenset[int]
) -> None:
    world, every, runs, whole = history
    world.unanswered = unanswered
    kept: Kept | None = None
    for number, as_of in enumerate(runs):
        world.run = number
        needs = [replace(need, end=min(need.end, as_of)) for need in every if need.start < as_of]
        if not needs:
            continue
        found = a_run(world, None if number in lost else kept, needs, as_of, is_whole=whole[number])
        kept = found.kept
        answered = {item: usage for item, usage in found.usages.items() if not isinstance(usage, Unanswered)}
        told = exact(world, needs)
        assert answered == {item: told[item] for item in answered}
        if not unanswered:
            assert answered.keys() == told.keys()
            assert found.corrected == 0


def many_needs(aggregation: Aggregation, until: datetime, how_many: int = 40) -> list[Need]:
    starts = [START + timedelta(minutes=7, seconds=number) for number in range(how_many)]
    return [a_need(aggregation, f"si_{at.second}", at, until, f"cus_{at.second}") for at in starts]


@pytest.mark.parametrize("aggregation", SHAREABLE)
def test_where_nothing_has_changed_four_queries_tell_it_of_all_needs(aggregation: Aggregation) -> None:
    as_of = START + 72 * HOUR
    needs = many_needs(aggregation, as_of)
    world = World(aggregation, [Event(need.subjects[0], START + 30 * HOUR, 5, 0) for need in needs])
    kept = a_run(world, None, needs, as_of).kept
    later = [replace(need, end=as_of + HOUR) for need in needs]
    found = a_run(world, kept, later, as_of + HOUR)
    assert (found.shared, found.parts) == (4, 0)
    assert found.usages == exact(world, later)


def test_what_came_late_to_one_subject_is_asked_for_by_that_one_alone() -> None:
    as_of = START + 72 * HOUR
    needs = many_needs(Aggregation.SUM, as_of)
    world = World(Aggregation.SUM, [Event("cus_3", START + HOUR, 8, 1)])
    kept = a_run(world, None, needs, as_of).kept
    world.run = 1
    later = [replace(need, end=as_of + HOUR) for need in needs]
    found = a_run(world, kept, later, as_of + HOUR)
    assert found.parts == 1
    assert found.usages["si_3"] == 8


def test_what_came_within_a_day_is_asked_for_by_nobody_alone() -> None:
    as_of = START + 72 * HOUR
    needs = many_needs(Aggregation.SUM, as_of)
    world = World(Aggregation.SUM, [Event(need.subjects[0], as_of - 5 * HOUR, 8, 1) for need in needs])
    kept = a_run(world, None, needs, as_of).kept
    world.run = 1
    later = [replace(need, end=as_of + HOUR) for need in needs]
    found = a_run(world, kept, later, as_of + HOUR)
    assert found.parts == 0
    assert set(found.usages.values()) == {Decimal(8)}


def test_a_period_that_ended_a_moment_ago_is_asked_for_again_by_the_next_run() -> None:
    as_of, end = START + 72 * HOUR, START + 72 * HOUR - timedelta(minutes=5)
    needs = [a_need(Aggregation.SUM, "si_1", START + HOUR, end, "a")]
    world = World(Aggregation.SUM, [Event("a", end - timedelta(minutes=2), 8, 1)])
    kept = a_run(world, None, needs, as_of).kept
    world.run = 1
    assert a_run(world, kept, needs, as_of + HOUR).usages == {"si_1": 8}


def test_a_period_that_ended_longer_ago_is_asked_for_only_where_its_usage_has_changed() -> None:
    as_of, end = START + 72 * HOUR, START + 70 * HOUR
    needs = [a_need(Aggregation.SUM, "si_1", START + HOUR, end, "a")]
    world = World(Aggregation.SUM, [Event("a", START + 2 * HOUR, 8, 0), Event("a", START + 3 * HOUR, 1, 2)])
    first = a_run(world, None, needs, as_of)
    second = a_run(world, first.kept, needs, as_of + HOUR)
    world.run = 2
    third = a_run(world, second.kept, needs, as_of + 2 * HOUR)
    assert [run.parts for run in (first, second, third)] == [1, 0, 1]
    assert [run.usages for run in (first, second, third)] == [{"si_1": 8}, {"si_1": 8}, {"si_1": 9}]


def test_usage_that_was_given_and_taken_within_one_stretch_is_seen_where_everything_is_read() -> None:
    """That is what the totals do not show: so much is taken from a customer's last period and given to this one."""
    as_of = START + 72 * HOUR
    begun = {"si_0": (START, "b"), "si_1": (START + HOUR, "a")}
    needs = [a_need(Aggregation.SUM, item, start, as_of, of) for item, (start, of) in begun.items()]
    at = [(START + 3 * HOUR, 1, 0), (START, -5, 1), (START + 2 * HOUR, 5, 1)]
    world = World(Aggregation.SUM, [Event("a", *one) for one in at])
    kept = a_run(world, None, needs, as_of).kept
    world.run = 1
    assert a_run(world, kept, needs, as_of).usages["si_1"] == 1
    whole = a_run(world, kept, needs, as_of, is_whole=True)
    assert whole.usages["si_1"] == 6
    assert whole.corrected == 5


def test_sums_that_differ_by_the_noise_of_a_double_are_the_same() -> None:
    as_of = START + 72 * HOUR
    needs = [replace(need, end=as_of + HOUR) for need in many_needs(Aggregation.SUM, as_of)]
    world = World(Aggregation.SUM, [])
    kept = a_run(world, None, [replace(need, end=as_of) for need in needs], as_of).kept
    noisy = replace(kept, totals={subject: (Decimal("0.6"), None) for subject in kept.totals})
    sharing = Sharing(series_of(needs[0]), noisy, begins=START, as_of=as_of + HOUR, is_whole=False)  # type: ignore[arg-type]
    queries = sharing.queries(needs)
    first = min(query.start for query in queries)
    noise = {need.subjects[0]: Decimal("0.6000000000000001") for need in needs}
    sharing.answered(needs, {query: noise if query.start == first else {} for query in queries})
    assert sharing.parts(needs) == []


@pytest.mark.parametrize("aggregation", [Aggregation.AVG, Aggregation.UNIQUE_COUNT])
def test_what_does_not_follow_from_parts_is_asked_for_exactly(aggregation: Aggregation) -> None:
    assert series_of(a_need(aggregation, "si_1", START, START + HOUR, "a")) is None


def test_a_meter_of_another_id_is_another_series() -> None:
    one, other = (a_need(Aggregation.SUM, "si_1", START, START + HOUR, "a", meter_id=id) for id in ("m1", "m2"))
    assert series_of(one) != series_of(other)


def test_what_is_kept_of_other_subjects_is_not_believed() -> None:
    as_of = START + 72 * HOUR
    needs = many_needs(Aggregation.SUM, as_of)
    world = World(Aggregation.SUM, [Event("cus_3", START + HOUR, 8, 0), Event("cus_4", START + HOUR, 5, 0)])
    kept = a_run(world, None, needs, as_of).kept
    later = [replace(need, end=as_of + HOUR) for need in needs]
    later[3] = replace(later[3], subjects=("cus_4", "cus_3"))
    found = a_run(world, kept, later, as_of + HOUR)
    assert found.parts == 1
    assert found.usages["si_3"] == 13


def test_where_the_totals_have_no_answer_each_is_asked_for_exactly() -> None:
    as_of = START + 72 * HOUR
    needs = many_needs(Aggregation.SUM, as_of)
    world = World(Aggregation.SUM, [Event("cus_3", START + HOUR, 8, 0)])
    kept = a_run(world, None, needs, as_of).kept
    world.unanswered = frozenset(len(world.asked) + one for one in range(1, 5))
    later = [replace(need, end=as_of + HOUR) for need in needs]
    found = a_run(world, kept, later, as_of + HOUR)
    assert found.parts == len(needs)
    assert found.usages == exact(world, later)
    assert not found.kept.usages
