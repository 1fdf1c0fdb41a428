"""What kept an item from being reported is kept: runs in a row that say the same share a row."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from meter_sync.core.billing.item import Period
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.stages import Findings, Result
from meter_sync.core.telling.history import Held, Sought
from meter_sync.ledger import Ledger, Place, RunRecord, Scope, open_ledger
from tests.core.builders import AS_OF, END, HOUR, make_item, make_metered


@pytest.fixture
def ledger(place: Place) -> Iterator[Ledger]:
    with open_ledger(place, Scope("", "live")) as ledger:
        yield ledger


def held(
    quantity: int | None = 7,
    reason: Reason = Reason.DECREASE,
    outcome: Outcome = Outcome.HELD,
    message: str = "it fell",
    found: Findings | None = None,
) -> Result:
    usage = None if quantity is None else Decimal(quantity)
    told = replace(found or make_metered().found, usage=usage, quantity=quantity, standing=10)
    return Result(told, outcome, reason, message)


def failed(quantity: int) -> Result:
    return held(quantity, Reason.STRIPE_ERROR, Outcome.FAILED)


def record(ledger: Ledger, *results: Result) -> list[Held]:
    """Record the results of runs one hour after the other, and return what the ledger has then."""
    for number, one in enumerate(results):
        at = AS_OF + number * HOUR
        ledger.listed.record([one.item], at)
        ledger.holds.record(RunRecord(f"run {number}", at, at, "hourly", True), [one], at)
    found = ledger.history.entries(Sought(), with_parts=False)
    return [one for one in found if isinstance(one, Held)]


def test_a_hold_is_kept_with_its_numbers_and_its_words(ledger: Ledger) -> None:
    (one,) = record(ledger, held())
    assert (one.outcome, one.reason, one.message) == ("held", "decrease", "it fell")
    assert (one.usage, one.quantity, one.previous) == (Decimal(7), 7, 10)
    assert (one.first_run, one.first_at, one.times) == ("run 0", AS_OF, 1)
    assert (one.whose.item, one.whose.customer) == ("si_1", "cus_1")


def test_runs_in_a_row_that_say_the_same_share_a_row_with_the_newest_words(ledger: Ledger) -> None:
    (one,) = record(ledger, held(), held(message="it still is less"), held(message="it still is less"))
    assert (one.first_run, one.last_run, one.times) == ("run 0", "run 2", 3)
    assert (one.first_at, one.last_at) == (AS_OF, AS_OF + 2 * HOUR)
    assert one.message == "it still is less"


@pytest.mark.parametrize(
    "other",
    [held(8), held(None), held(reason=Reason.JUMP), held(outcome=Outcome.FAILED)],
    ids=["another quantity", "no quantity", "another reason", "another outcome"],
)
def test_what_says_something_else_has_a_row_of_its_own(ledger: Ledger, other: Result) -> None:
    assert [one.times for one in record(ledger, held(), other, held())] == [1, 1, 1]


def test_nothing_that_is_not_known_differs_from_nothing(ledger: Ledger) -> None:
    failed = held(None, Reason.STRIPE_ERROR, Outcome.FAILED)
    assert [one.times for one in record(ledger, failed, failed)] == [2]


def test_another_period_has_a_row_of_its_own(ledger: Ledger) -> None:
    following = make_item(start=END, end=END + timedelta(days=31))
    later = Findings(following)
    assert [one.whose.period for one in record(ledger, held(), held(found=later))] == [
        make_item().period,
        Period(END, END + timedelta(days=31)),
    ]


@pytest.mark.parametrize(
    ("outcome", "reason", "is_kept"),
    [
        (Outcome.HELD, Reason.DUPLICATE_USAGE, True),
        (Outcome.FAILED, Reason.OPENMETER_ERROR, True),
        (Outcome.SKIPPED, Reason.NO_METER_MAPPING, True),
        (Outcome.SKIPPED, Reason.INTERRUPTED, True),
        (Outcome.SKIPPED, Reason.IGNORED, False),
        (Outcome.SKIPPED, Reason.NOT_STARTED, False),
        (Outcome.SKIPPED, Reason.SUBSCRIPTION_PAUSED, False),
        (Outcome.REPORTED, None, False),
        (Outcome.UNCHANGED, None, False),
    ],
)
def test_what_does_no_harm_is_not_kept(ledger: Ledger, outcome: Outcome, reason: Reason | None, is_kept: bool) -> None:
    assert bool(record(ledger, Result(make_metered().found, outcome, reason))) is is_kept


def test_more_items_than_fit_into_one_query_are_kept(ledger: Ledger) -> None:
    results = [held(found=make_metered(make_item(f"si_{number}")).found) for number in range(1201)]
    ledger.listed.record([one.item for one in results], AS_OF)
    for _ in range(2):
        ledger.holds.record(RunRecord("run", AS_OF, AS_OF, "hourly", True), results, AS_OF)
    found = [one for one in ledger.history.entries(Sought(), with_parts=False) if isinstance(one, Held)]
    assert (len(found), {one.times for one in found}) == (1201, {2})


@pytest.mark.parametrize(
    ("before", "now", "is_known"),
    [
        (held(), held(message="it fell further"), True),
        (held(7), held(6), True),
        (held(7, Reason.PERIOD_CLOSED), held(7, Reason.PERIOD_CLOSED), True),
        (held(7, Reason.PERIOD_CLOSED), held(8, Reason.PERIOD_CLOSED), False),
        (held(), held(reason=Reason.JUMP), False),
        (held(), held(outcome=Outcome.FAILED), False),
        (failed(7), failed(8), True),
        (Result(make_metered().found, Outcome.UNCHANGED), held(), False),
    ],
    ids=[
        "the same",
        "a brake holds more",
        "as little is billed",
        "less is billed",
        "reason",
        "outcome",
        "more fails",
        "well",
    ],
)
def test_what_was_said_before_is_told_from_what_is_new(
    ledger: Ledger, before: Result, now: Result, is_known: bool
) -> None:
    ledger.listed.record([now.item], AS_OF)
    first, second = (
        RunRecord(f"run {number}", at, at, "hourly", True) for number, at in ((1, AS_OF), (2, AS_OF + HOUR))
    )
    assert ledger.holds.record(first, [before], AS_OF) == frozenset()
    ledger.runs.begin(first)
    ledger.runs.finish(first.id, AS_OF, 4, {})

    known = ledger.holds.record(second, [now], second.as_of, ledger.runs.newest_complete())

    assert known == ({now.item.key} if is_known else frozenset())


def test_what_was_well_meanwhile_is_new_again(ledger: Ledger) -> None:
    ledger.listed.record([held().item], AS_OF)
    runs = [RunRecord(f"run {number}", at, at, "hourly", True) for number in range(3) for at in [AS_OF + number * HOUR]]
    for run, became in zip(runs, (held(), Result(held().found, Outcome.REPORTED), held()), strict=True):
        ledger.runs.begin(run)
        known = ledger.holds.record(run, [became], run.as_of, ledger.runs.newest_complete())
        ledger.runs.finish(run.id, run.as_of, 0, {})

    assert known == frozenset()
