"""The pace of requests against a server that counts them: nearly all that it allows, and hardly one too many."""

from itertools import pairwise
from random import Random

import pytest

from meter_sync.net.pace import Pace
from tests.net.made_up import Program, Server, always, played, rate


def test_97_percent_of_the_limit_is_used_and_no_more_than_1_in_1000_refused() -> None:
    random = Random(1)  # noqa: S311
    program = Program(
        1000,
        on_the_way=lambda: random.gauss(0.12, 0.003),
        wakes_late=lambda: 0.05 if random.random() < 0.04 else 0.001,
    )
    played(program, Server(always(25)))

    assert rate(program.taken) >= 0.97 * 25
    assert len(program.refused) <= 1


def test_what_a_server_has_held_up_is_known_by_its_answer_which_was_late() -> None:
    """It stands still for a tenth of a second at times, and finds all that has come meanwhile at once."""
    random = Random(3)  # noqa: S311
    program = Program(5000, on_the_way=lambda: 0.12 + (random.uniform(0, 0.1) if random.random() < 0.03 else 0.0))
    played(program, Server(always(25)))

    assert len(program.refused) <= 5
    assert rate(program.taken) >= 0.97 * 25


def test_where_others_use_half_of_the_limit_few_are_refused_and_nearly_all_is_used_again_later() -> None:
    def allowed(at: float) -> int:
        return 12 if 20 <= at < 80 else 25

    program = played(Program(6000), Server(allowed))
    meanwhile = [at for at in program.taken if 20 <= at < 80]
    afterwards = [at for at in program.taken if at >= 180]

    assert len([at for at in program.refused if at < 22]) <= 20
    assert len([at for at in program.refused if at >= 22]) <= 0.05 * len(meanwhile)
    assert rate(meanwhile) >= 0.85 * 12
    assert rate(afterwards) >= 0.95 * 25


@pytest.mark.parametrize("lasts_seconds", [5, 120])
def test_after_a_storm_of_refusals_all_is_used_again_within_half_a_minute(lasts_seconds: int) -> None:
    over = 20 + lasts_seconds

    program = played(Program(2500), Server(lambda at: 0 if 20 <= at < over else 25))

    later = [at for at in program.taken if over + 30 <= at < over + 50]
    assert len(later) >= 0.9 * 25 * 20
    assert len([at for at in program.refused if at >= over]) <= 5
    assert len(program.refused) <= 60 + 4 * lasts_seconds


def test_what_refuses_all_is_known_by_how_long_until_anything_is_taken() -> None:
    pace = Pace(25)
    assert pace.refuses_all_for(5.0) == 0.0
    for at in (10.0, 12.0, 40.0):
        pace.refused(at, 0.0)
    assert pace.refuses_all_for(41.0) == 31.0
    pace.taken()
    assert pace.refuses_all_for(42.0) == 0.0
    pace.refused(50.0, 0.0)
    pace.refused(500.0, 0.0)
    assert pace.refuses_all_for(501.0) == 1.0


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
