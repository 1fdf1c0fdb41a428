"""What the benchmark of accuracy says of each way of reporting, in a few weeks of a few customers."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import accuracy
import pytest
from three_months.bills import Account, Accuracy, Bill
from three_months.play import CARRYING, OTHER_WAYS, OWN_WAYS, THIS_PROGRAM, Play
from three_months.scenario import BEGIN, DAY, HOUR, RUN_AT, WHATS, Scenario, draw, draw_changing, next_run
from three_months.troubles import TROUBLES, Trouble, draw_troubles

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""What a simulation runs through is covered by other tests; measuring it would double its time."""

CUSTOMERS, DAYS, SEED = 6, 36, 1
SHORT_DAYS, SHORT_SEED = 20, 12
"""Of these customers there is one of each kind at least, and each sees one period end."""
SET_AT_ANCHOR, SET_NOW, HOURLY, DELTAS = OTHER_WAYS


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return draw(SEED, CUSTOMERS, DAYS)


@pytest.fixture(scope="module")
def short() -> Scenario:
    return draw(SHORT_SEED, CUSTOMERS, SHORT_DAYS)


def billed(scenario: Scenario, way: str, folder: Path, *faults: Trouble) -> Accuracy:
    return Play(scenario, draw_troubles(SEED, scenario, faults), way, folder).accuracy()


def test_under_all_faults_this_program_leaves_no_unit_unexplained(tmp_path: Path, short: Scenario) -> None:
    found = billed(short, THIS_PROGRAM, tmp_path, *TROUBLES)

    assert len(found.bills) == CUSTOMERS
    assert (found.over, found.unexplained) == (0, 0)
    assert found.under == found.named > 0
    assert [account for account in found.accounts if account.unexplained] == []


def test_under_all_faults_carried_usage_is_billed_once_for_who_lives_on_and_only_what_ended_is_named(
    tmp_path: Path, short: Scenario
) -> None:
    found = billed(short, CARRYING, tmp_path, *TROUBLES)
    living = {one.id for one in short.customers if not one.cancels_at and not one.move}

    assert living
    assert found.carried > 0
    for one in found.accounts:
        assert one.billed + one.still_open + one.named == one.used
        assert one.named == 0 or one.customer not in living
    assert (found.over, found.unexplained) == (0, 0)
    assert accuracy.is_explained(found)


@pytest.mark.parametrize("way", OWN_WAYS)
def test_under_all_faults_who_changes_has_each_unit_billed_or_named_once(tmp_path: Path, way: str) -> None:
    """Prices, items and subscriptions change in the midst of periods, and overlap, in both billing modes."""
    scenario = draw_changing(SEED, CUSTOMERS, DAYS)
    whats = {change.what for one in scenario.customers for change in one.changes}
    found = billed(scenario, way, tmp_path, *TROUBLES)

    assert (whats, {one.billing_mode for one in scenario.customers}) == ({*WHATS}, {"classic", "flexible"})
    assert len(found.accounts) == CUSTOMERS
    assert [account for account in found.accounts if account.unexplained] == []


def test_without_faults_this_program_bills_exactly_what_was_used_in_time(tmp_path: Path, short: Scenario) -> None:
    """Closing runs come right after the end: nothing but late events, and an end without a next period, is left."""
    found = billed(short, THIS_PROGRAM, tmp_path)
    going_on = {one.id for one in short.customers if not one.is_tardy and not one.cancels_at}

    assert going_on
    assert [bill for bill in found.bills if bill.customer in going_on and bill.billed != bill.used] == []


def test_set_at_the_anchor_loses_what_comes_after_the_last_run(tmp_path: Path, scenario: Scenario) -> None:
    found = billed(scenario, SET_AT_ANCHOR, tmp_path)

    assert found.over == 0
    assert 0 < found.under < 0.05 * sum(bill.used for bill in found.bills)


def test_set_at_now_bills_the_running_totals_of_legacy_prices(tmp_path: Path, scenario: Scenario) -> None:
    found = billed(scenario, SET_NOW, tmp_path)
    legacy = {one.id for one in scenario.customers if one.kind == "record"}

    assert found.billed_percent > 120
    assert {bill.customer for bill in found.bills if bill.over} == legacy


def test_additions_by_the_hour_are_billed_again_when_their_identifiers_are_forgotten(
    tmp_path: Path, scenario: Scenario
) -> None:
    """What a run that was killed had sent, and the first one sends again that comes after more than a day."""
    found = billed(scenario, HOURLY, tmp_path, "missed")

    assert max(bill.over for bill in found.bills) > 100


@pytest.mark.parametrize("fault", ["lost", "together"])
def test_deltas_are_billed_again_when_an_answer_is_lost_or_two_runs_start_at_once(
    tmp_path: Path, scenario: Scenario, fault: Trouble
) -> None:
    found = billed(scenario, DELTAS, tmp_path, fault)

    assert max(bill.over for bill in found.bills) > 100


def test_the_same_seed_draws_the_same_for_all(scenario: Scenario) -> None:
    assert draw(SEED, CUSTOMERS, DAYS) == scenario
    assert draw(SEED + 1, CUSTOMERS, DAYS) != scenario
    alone = draw_troubles(SEED, scenario, ["outage"])
    assert alone == draw_troubles(SEED, scenario, ["outage"])
    together = draw_troubles(SEED, scenario, list(TROUBLES))
    assert all(spell in together.spells for spell in alone.spells)


@pytest.mark.parametrize("seconds", [-1, 0, 1, 3600])
def test_the_next_full_run_is_the_first_one_that_is_not_before(seconds: int) -> None:
    instant = BEGIN + 5 * DAY + RUN_AT + timedelta(seconds=seconds)

    assert timedelta() <= next_run(instant) - instant < HOUR
    assert (next_run(instant) - BEGIN - RUN_AT) % HOUR == timedelta()


def bill(used: int, billed: int, named: int = 0, *, into: int = 0, on: int = 0, is_followed: bool = False) -> Bill:
    start = datetime(2025, 3, 1, tzinfo=UTC)
    return Bill("cus_1", "price_1", start, start + 30 * DAY, used, billed, named, into, on, is_followed)


def test_what_is_over_in_one_period_and_under_in_another_does_not_cancel_out() -> None:
    found = Accuracy("way", [bill(10, 12), bill(10, 8), bill(10, 7, 3), bill(10, 11, -1)])

    assert (found.over, found.under, found.named, found.unexplained) == (3, 5, 4, 4)
    assert found.billed_percent == 95.0


def test_what_is_carried_is_due_in_the_period_that_has_it_and_in_no_other() -> None:
    exact = Accuracy("way", [bill(10, 7, on=3), bill(10, 13, into=3), bill(10, 12, on=-2), bill(10, 7, 1, into=-2)])
    twice, nowhere = Accuracy("way", [bill(10, 10, on=3)]), Accuracy("way", [bill(10, 10, into=3)])

    assert (exact.over, exact.under, exact.carried, exact.named, exact.unexplained) == (0, 1, 5, 1, 0)
    assert (twice.over, twice.under, twice.unexplained) == (3, 0, 3)
    assert (nowhere.over, nowhere.under, nowhere.unexplained) == (0, 3, 3)


@pytest.mark.parametrize(
    ("way", "found", "expected"),
    [
        (THIS_PROGRAM, bill(10, 9, 1), True),
        (THIS_PROGRAM, bill(10, 9, 1, is_followed=True), True),
        (THIS_PROGRAM, bill(10, 9), False),
        (CARRYING, bill(10, 9, 1), True),
        (CARRYING, bill(10, 9, on=1, is_followed=True), True),
        (CARRYING, bill(10, 9, 1, is_followed=True), False),
        (CARRYING, bill(10, 9), False),
        (DELTAS, bill(10, 9), True),
    ],
)
def test_only_this_program_must_name_what_it_does_not_bill_and_what_goes_on_must_be_carried_if_that_is_set(
    capsys: pytest.CaptureFixture[str], way: str, found: Bill, expected: bool
) -> None:
    assert accuracy.is_explained(Accuracy(way, [found])) is expected
    assert ("unexplained" in capsys.readouterr().err) is not expected


@pytest.mark.parametrize("way", OWN_WAYS)
@pytest.mark.parametrize(("named", "expected"), [(1, True), (0, False), (2, False)])
def test_over_all_each_unit_is_on_an_invoice_or_open_or_named_once(way: str, named: int, expected: bool) -> None:
    account = Account("cus_1", used=10, billed=6, still_open=3, named=named)

    assert accuracy.is_explained(Accuracy(way, [bill(10, 10)], [account])) is expected


def test_the_command_prints_a_table_for_each_choice_of_faults() -> None:
    command = [sys.executable, accuracy.__file__, "--customers=6", "--days=20", "--faults", "none", "lost"]

    done = subprocess.run(
        [*command, "--ways", DELTAS, SET_AT_ANCHOR, "--markdown"], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    tables = done.stdout.strip().split("\n\n")[1::2]
    assert [[line.split(" | ")[0] for line in table.splitlines()] for table in tables] == [
        ["| way", "| ---", f"| {DELTAS}", f"| {SET_AT_ANCHOR}"]
    ] * 2
    assert tables[0] != tables[1]
