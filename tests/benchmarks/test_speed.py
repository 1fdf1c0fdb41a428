"""What the benchmark of speed says of accounts of several sizes, and of two revisions."""

import subprocess
from pathlib import Path

import pytest
from compare import ROOT, checked_out, compare, ratio, short_name
from measure import Cost
from results import SCALE, Run, as_markdown
from scale import ALL_NEW, BEFORE, CPU, FIRST, NOTHING_NEW, SOME_LATE, WALL, Slope, extrapolated, measure, on_paper
from scenario import Scenario, Traffic
from trial import program_in, this_program

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""A hundred items, over and over: what the runs do, other tests hold one by one."""

IS_CLONE = ROOT.joinpath(".git").exists()


def run_of(kind: str, items: int, seconds: float, *, limited: bool = True, posts: int = 0) -> Run:
    traffic = Traffic(items // 100, 0, posts, 2, 0, items // 100 + posts + 2, 25.0)
    return Run(Scenario(items, items, limited=limited), kind, Cost(seconds, seconds / 2, 100 + items / 1000), traffic)


def test_each_kind_of_run_writes_what_has_changed_and_leaves_nothing_wrong() -> None:
    runs = list(measure(Scenario(100, 100, latency=False), this_program()))

    assert [run.kind for run in runs] == [FIRST, *BEFORE]
    assert [run.traffic.stripe_posts for run in runs] == [100, 0, 1, 1, 1, 101]
    assert [run.scenario.limited for run in runs] == [False, True, True, True, True, False]
    assert not any(run.wrong_items for run in runs)
    assert all(run.cost.cpu_seconds > 0 and run.cost.peak_mb > 0 for run in runs)


def test_what_limits_would_make_of_a_run_is_said_as_extrapolated() -> None:
    small, large = run_of(FIRST, 100, 8), run_of(FIRST, 1000, 5, limited=False)

    assert extrapolated([small, large, run_of(NOTHING_NEW, 1000, 3)], 1000) == [
        "first run, with limits: about 80 s, extrapolated from 8.0 s for 100 items"
    ]
    assert extrapolated([small], 100) == []


def test_on_paper_a_larger_account_costs_what_the_line_through_two_says_and_limits_make_of_requests() -> None:
    runs = [run_of(ALL_NEW, 1000, 44, posts=1000), run_of(ALL_NEW, 10_000, 440, posts=10_000)]
    slope = Slope(*runs)

    assert slope.at(100_000, WALL) == pytest.approx(4400)
    assert slope.times(CPU) == "10.0"
    of_paper = on_paper(runs, 100_000)[-1].split()
    # 100,000 writes and 1,000 lists at 25/s each, two queries, and 2,200 s of CPU.
    assert of_paper == [*ALL_NEW.split(), "6,240", "s", "40", "s", "0", "s", "4,000", "s", "0", "s", "2,200", "200"]


def test_a_ratio_is_that_of_pairs_and_not_of_what_slowed_one_pair_down() -> None:
    pairs = [(run_of(NOTHING_NEW, 100, before), run_of(NOTHING_NEW, 100, before / 2)) for before in (1, 20, 2)]

    assert ratio(pairs, WALL) == "2 -> 1 (0.50x)"


def test_runs_are_a_table_in_markdown() -> None:
    heading, rule, row = as_markdown([run_of(NOTHING_NEW, 100, 1)], SCALE).splitlines()

    assert heading.startswith("| run | items | limits | wall s |")
    assert heading.count("|") == rule.count("|") == row.count("|")
    assert row.startswith("| nothing new | 100 | on | 1.00 |")


@pytest.mark.skipif(not IS_CLONE, reason="there are no revisions where this is no clone")
def test_another_revision_is_run_from_files_of_its_own_that_are_gone_afterwards(tmp_path: Path) -> None:
    with checked_out("HEAD") as tree:
        program = program_in(tree, "before")
        where = [program.command[0], "-P", "-c", "import meter_sync; print(meter_sync.__file__)"]
        found = subprocess.run(
            where, cwd=ROOT, env=dict(program.environment), capture_output=True, text=True, check=True
        )
        assert Path(found.stdout.strip()) == tree / "meter_sync" / "__init__.py"
    assert not tree.exists()
    with pytest.raises(RuntimeError, match="no_such_revision"), checked_out("no_such_revision"):
        pass


@pytest.mark.skipif(not IS_CLONE, reason="there are no revisions where this is no clone")
def test_two_revisions_run_in_turn_and_what_both_did_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    compare("HEAD", [Scenario(10, 10, latency=False)], rounds=1)

    said, head = capsys.readouterr().out, short_name("HEAD")
    lines = [line.split() for line in said.splitlines() if " first run " in line or f" {SOME_LATE} " in line]
    assert [line[0] for line in lines] == [head, "this", head, "this", "first", "1"]
    assert "before: " in said
    assert "POSTs 10 -> 10 (1.00x)" in said
