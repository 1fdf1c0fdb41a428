"""Thousands of requests against a server that counts them, over networks of every kind, and several runs at once."""

import math
from collections.abc import Callable
from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.builders import few
from tests.net.made_up import Play, Program, Server, always, goes_first, played, rate

pytestmark = pytest.mark.simulation

Delays = Callable[[Random], float]

PHASES = st.one_of(st.none(), st.floats(0, 1))
"""None: the server counts in any second; else in seconds of a row that begins anywhere."""

WAYS: dict[str, Delays] = {
    "even": lambda _: 0.12,
    "uneven": lambda random: random.gauss(0.12, 0.004),
}
ANSWERS: dict[str, Delays] = {
    "at once": lambda random: random.uniform(0.001, 0.003),
    "after any time": lambda random: 0.2 * math.exp(random.gauss(0, 0.4)),
}


@few
@given(limit=st.sampled_from([1, 2, 3, 7, 25, 100]), requests=st.integers(1, 300), phase=PHASES, random=st.randoms())
def test_nothing_is_refused_that_arrives_nearly_evenly_however_busy_this_machine_is(
    limit: int, requests: int, phase: float | None, random: Random
) -> None:
    """It wakes up to half a second late, takes up to half a second to connect, and the way varies by 10 ms."""
    program = Program(
        min(requests, 20 * limit),
        limit,
        on_the_way=lambda: random.uniform(0.05, 0.06),
        wakes_late=lambda: random.choice([0.0, 0.001, random.uniform(0, 0.5)]),
        connects=lambda: random.choice([0.0, 0.001, random.uniform(0, 0.5)]),
        is_answered_after=lambda: random.uniform(0.01, 2),
    )

    assert not played(program, Server(always(limit), phase)).refused


@pytest.mark.parametrize("answers", ANSWERS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("limit", [25, 100])
def test_97_percent_of_the_limit_is_used_and_no_more_than_1_in_1000_refused(limit: int, way: str, answers: str) -> None:
    random = Random(f"{limit} {way} {answers}")  # noqa: S311

    def plays(requests: int) -> Program:
        program = Program(
            requests,
            limit,
            on_the_way=lambda: WAYS[way](random),
            is_answered_after=lambda: ANSWERS[answers](random),
            wakes_late=lambda: random.uniform(0, 0.002),
        )
        return played(program, Server(always(limit)))

    small, large = [plays(4 * limit) for _ in range(10)], plays(10_000)

    # Of few requests the first and the last one say little: each may have been on its way for longer than usual.
    assert median(rate(one.taken) for one in small) >= 0.97 * limit
    assert rate(large.taken) >= 0.97 * limit
    assert sum(len(one.refused) for one in [*small, large]) <= 10


def test_where_much_arrives_unevenly_the_room_grows_until_1_in_1000_is_refused() -> None:
    random = Random(7)  # noqa: S311
    program = played(
        Program(40_000, 100, on_the_way=lambda: random.gauss(0.12, 0.01)),
        Server(always(100)),
    )
    late = [at for at in program.refused if at > program.taken[20_000]]

    assert len(late) <= 20
    assert rate(program.taken) >= 95


@pytest.mark.parametrize("many_items", [1, 10, 400, 2000])
@pytest.mark.parametrize("begins", [5.0, 20.03])
def test_a_closing_run_of_any_size_goes_first_and_both_use_the_limit(begins: float, many_items: int) -> None:
    goes_first(begins, many_items)


def test_three_runs_share_and_what_a_run_has_asked_counts_until_a_second_after_its_end() -> None:
    random = Random(5)  # noqa: S311
    programs = [
        Program(600, begins=begins, is_urgent=urgent, name=f"{begins}")
        for begins, urgent in [(0.0, False), (3.0, True), (6.0, True)]
    ]
    for one in programs:
        one.on_the_way = lambda: random.gauss(0.12, 0.003)

    Play(Server(lambda _: 25), programs).play()

    taken = [at for one in programs for at in one.taken]
    assert len(taken) == 1800
    assert sum(len(one.refused) for one in programs) <= 4
    assert rate(taken) >= 0.95 * 25
