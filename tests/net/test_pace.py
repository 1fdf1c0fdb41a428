"""The pace of requests against a server that counts them: nearly all that it allows, and hardly one too many."""

import math
from collections.abc import Callable
from itertools import pairwise
from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.net.pace import Pace
from tests.core.builders import few
from tests.net.made_up import Play, Program, Server, rate

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


def always(limit: int) -> Callable[[float], int]:
    return lambda _: limit


def played(program: Program, server: Server) -> Program:
    Play(server, [program]).play()
    return program


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


def test_what_a_server_has_held_up_is_known_by_its_answer_which_was_late() -> None:
    """It stands still for a tenth of a second at times, and finds all that has come meanwhile at once."""
    random = Random(3)  # noqa: S311
    program = Program(5000, on_the_way=lambda: 0.12 + (random.uniform(0, 0.1) if random.random() < 0.03 else 0.0))
    played(program, Server(always(25)))

    assert len(program.refused) <= 5
    assert rate(program.taken) >= 0.97 * 25


def test_where_much_arrives_unevenly_the_room_grows_until_1_in_1000_is_refused() -> None:
    random = Random(7)  # noqa: S311
    program = played(
        Program(40_000, 100, on_the_way=lambda: random.gauss(0.12, 0.01)),
        Server(always(100)),
    )
    late = [at for at in program.refused if at > program.taken[20_000]]

    assert len(late) <= 20
    assert rate(program.taken) >= 95


def test_where_others_use_half_of_the_limit_few_are_refused_and_all_of_it_is_used_again_later() -> None:
    def allowed(at: float) -> int:
        return 12 if 20 <= at < 80 else 25

    program = played(Program(6000), Server(allowed))
    meanwhile = [at for at in program.taken if 20 <= at < 80]
    afterwards = [at for at in program.taken if at >= 180]

    assert len([at for at in program.refused if at < 22]) <= 20
    assert len([at for at in program.refused if at >= 22]) <= 0.05 * len(meanwhile)
    assert rate(meanwhile) >= 0.85 * 12
    assert rate(afterwards) >= 0.97 * 25


def test_a_single_refusal_holds_nobody_up() -> None:
    pace = Pace(25)
    pace.take(10.0, 10.0)
    due = pace.due()
    pace.refused(10.02, 0.0)
    assert pace.due() == pytest.approx(due, abs=0.001)
    assert pace.per_second > 0.97 * 25


def test_a_server_that_says_how_long_to_wait_is_left_alone_so_long() -> None:
    pace = Pace(25)
    pace.refused(10.0, 3.0)
    assert pace.due() == 13.0


def test_what_nobody_asked_for_is_not_made_up_for() -> None:
    """After a rest requests leave evenly: many at once are what limits are for."""
    pace = Pace(25)
    left: list[float] = []
    for _ in range(5):
        now = max(100.0, pace.due())
        pace.take(now, 100.0 if not left else left[-1])
        left.append(now)
    assert [later - one for one, later in pairwise(left)] == pytest.approx([1.023 / 25] * 4)


def test_a_slot_that_was_missed_is_made_up_for() -> None:
    pace = Pace(25)
    pace.take(10.0, 10.0)
    due = pace.due()
    pace.take(due + 0.1, 10.0)
    assert pace.due() < due + 0.1
