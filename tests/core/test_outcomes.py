"""The exit code that cron and a monitoring system see, against the table of the documents."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.core.outcomes import LIFTABLE, ExitCode, Outcome, Reason, exit_code

from .builders import many

HARMLESS = {"ignored", "not_started", "subscription_paused"}
WORKED = {"reported", "planned", "unchanged"}

Seen = tuple[Outcome, Reason | None]

worked = st.sampled_from([Outcome.REPORTED, Outcome.PLANNED, Outcome.UNCHANGED])
stopped = st.sampled_from([Outcome.HELD, Outcome.SKIPPED, Outcome.FAILED])
results = st.lists(
    st.one_of(
        st.tuples(worked, st.none()),
        st.tuples(stopped, st.sampled_from(Reason)),
    ),
    max_size=6,
)


def by_the_table(seen: list[Seen]) -> int:
    """Return the first of 1, 3, 4 that holds, each stated on its own, else 0."""
    texts = [(outcome.value, reason.value if reason else "") for outcome, reason in seen]
    failed = sum(outcome == "failed" for outcome, _ in texts)
    done = sum(outcome in WORKED for outcome, _ in texts)
    cut_short = any(reason == "interrupted" for _, reason in texts)
    holds = {
        1: cut_short or (failed > 0 and done == 0),
        3: failed > 0 and done > 0,
        4: any(outcome == "held" or (outcome == "skipped" and reason not in HARMLESS) for outcome, reason in texts),
    }
    return next((code for code in (1, 3, 4) if holds[code]), 0)


@many
@given(results)
def test_the_exit_code_is_the_first_of_the_table_that_holds(seen: list[Seen]) -> None:
    assert exit_code(seen) == by_the_table(seen)


def test_every_pair_of_results_has_the_exit_code_of_the_table() -> None:
    every: list[Seen] = [(outcome, None) for outcome in Outcome if outcome.value in WORKED]
    every += product([Outcome.HELD, Outcome.SKIPPED, Outcome.FAILED], Reason)
    for one, other in product(every, every):
        assert exit_code([one, other]) == by_the_table([one, other])


def test_nothing_to_do_is_done() -> None:
    assert exit_code([]) == 0


@pytest.mark.parametrize("outcome", [Outcome.REPORTED, Outcome.PLANNED, Outcome.UNCHANGED])
def test_one_failed_item_beside_any_that_worked_is_partial(outcome: Outcome) -> None:
    failed = (Outcome.FAILED, Reason.STRIPE_ERROR)
    assert exit_code([failed, (outcome, None)]) == 3
    assert exit_code([failed, (Outcome.HELD, Reason.DECREASE), (outcome, None)]) == 3


def test_when_all_that_was_attempted_failed_the_run_failed() -> None:
    failed = (Outcome.FAILED, Reason.OPENMETER_ERROR)
    assert exit_code([failed, failed]) == 1
    assert exit_code([failed, (Outcome.SKIPPED, Reason.IGNORED)]) == 1
    assert exit_code([failed, (Outcome.HELD, Reason.DECREASE)]) == 1


@pytest.mark.parametrize("reason", [one for one in Reason if one.value not in HARMLESS])
def test_a_skipped_item_that_may_be_unbilled_is_never_a_success(reason: Reason) -> None:
    assert exit_code([(Outcome.REPORTED, None), (Outcome.SKIPPED, reason)]) in (1, 4)


@pytest.mark.parametrize("reason", sorted(HARMLESS))
def test_an_item_that_is_rightly_left_out_alarms_nobody(reason: str) -> None:
    assert exit_code([(Outcome.SKIPPED, Reason(reason)), (Outcome.UNCHANGED, None)]) == 0


def test_an_interrupted_run_failed_whatever_else_it_did() -> None:
    interrupted = (Outcome.SKIPPED, Reason.INTERRUPTED)
    for outcome in (Outcome.REPORTED, Outcome.HELD, Outcome.FAILED):
        assert exit_code([(outcome, None), interrupted]) == 1


def test_only_brakes_can_be_lifted_never_facts() -> None:
    assert {reason.value for reason in LIFTABLE} == {
        "decrease",
        "jump",
        "all_zero",
        "too_many_held",
        "foreign_usage",
        "mapping_changed",
        "meter_starts_later",
    }


def test_the_codes_are_those_that_monitoring_relies_on() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "ARGUMENTS": 2,
        "PARTIAL": 3,
        "ATTENTION": 4,
        "TRY_AGAIN": 75,
        "CONFIGURATION": 78,
    }
    assert {outcome.value for outcome in Outcome} == WORKED | {"held", "skipped", "failed"}
