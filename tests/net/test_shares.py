"""Runs that ask one account at the same time: together within the limit, what is urgent first, nobody starved."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from meter_sync.net.shares import Caller, Part, Share, share
from tests.core.builders import few
from tests.net.made_up import goes_first

NAME = "post usage_records"


def caller(run: str, wants: int, holds: int = 0, *, is_urgent: bool = False) -> Caller:
    return Caller(run, is_urgent, {NAME: Part(wants, holds)})


def shares(limit: float, everybody: Sequence[Caller]) -> dict[str, float]:
    """What each has where all know of each other."""
    return {
        mine.run: share(limit, NAME, mine, [other for other in everybody if other is not mine]).at_most
        for mine in everybody
    }


callers = st.lists(st.tuples(st.integers(0, 200), st.booleans()), min_size=1, max_size=6).map(
    lambda drawn: [caller(f"{number}", wants, is_urgent=urgent) for number, (wants, urgent) in enumerate(drawn)]
)


@few
@given(limit=st.integers(1, 150), everybody=callers)
def test_together_they_take_no_more_than_the_limit_and_use_all_of_it(limit: int, everybody: list[Caller]) -> None:
    found = shares(limit, everybody)

    assert all(share > 0 for share in found.values())
    assert sum(found.values()) >= limit - 1e-9
    assert sum(found[one.run] for one in everybody if one.part(NAME).wants) <= limit + 1e-9


@few
@given(limit=st.integers(20, 150), everybody=callers)
def test_what_is_urgent_has_what_it_wants_but_for_a_tenth_of_each_other(limit: int, everybody: list[Caller]) -> None:
    found = shares(limit, everybody)
    urgent = [one for one in everybody if one.is_urgent]
    others = [one for one in everybody if not one.is_urgent]
    wanted = sum(min(one.part(NAME).wants, limit) for one in urgent)
    kept = sum(min(one.part(NAME).wants, limit // 10) for one in others)

    assert sum(found[one.run] for one in urgent) >= min(wanted, limit - kept)
    assert all(found[one.run] >= min(one.part(NAME).wants, limit // 10) for one in everybody)


def test_a_run_that_is_alone_has_all() -> None:
    assert share(25.0, NAME, caller("full", 0), []) == Share(25.0, 25.0)


def test_a_run_that_begins_waits_until_the_other_has_made_room_and_goes_on_slowly_meanwhile() -> None:
    closing = caller("closing", 25, is_urgent=True)
    assert share(25, NAME, closing, [caller("full", 25, holds=25)]) == Share(23, 1)
    assert share(25, NAME, closing, [caller("full", 25, holds=12)]) == Share(23, 13)
    assert share(25, NAME, closing, [caller("full", 25, holds=2)]) == Share(23, 23)
    assert share(25, "get subscriptions", closing, [caller("full", 25, holds=25)]) == Share(13, 13)


def test_a_run_that_the_others_know_nothing_of_takes_what_they_leave() -> None:
    reading = caller("dry", 25)
    assert share(25, NAME, reading, [caller("full", 25, holds=25)], is_seen=False).at_most == 0.25
    assert share(25, NAME, reading, [caller("full", 5, holds=5)], is_seen=False).at_most == 20


def test_a_closing_run_goes_first_beside_a_full_run_and_together_they_use_the_limit() -> None:
    goes_first(20.03, many_items=100)


def test_a_run_that_has_ended_fades_out_of_the_limit() -> None:
    ended = caller("closing", 25, holds=20)
    assert [ended.fading(rest).part(NAME).holds for rest in (5.0, 0.5, 0.1)] == [20, 10, 2]
    assert ended.fading(0.5).part(NAME).wants == 0
