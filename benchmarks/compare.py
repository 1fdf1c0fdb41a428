"""Two revisions of this program, run in turn: each over an account of its own, and both accounts alike."""

import statistics
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from results import PROGRAM, SCALE, Run, print_header, print_row
from scale import ALL_NEW, BEFORE, CPU, FIRST, LISTS, PEAK, POSTS, QUERIES, SOME_LATE, WALL
from scenario import Scenario
from trial import Program, Trial, program_in, trial

ROOT = Path(__file__).parents[1]
COLUMNS = (PROGRAM, *SCALE)
MEASURES: dict[str, Callable[[Run], float]] = {
    "wall s": WALL, "CPU s": CPU, "peak MB": PEAK, "lists": LISTS, "POSTs": POSTS, "queries": QUERIES,
}  # fmt: skip
IN_TURN = (*(kind for kind in BEFORE if kind != SOME_LATE), SOME_LATE)
"""Late usage last: a program that leaves it for another day would be behind in the rest of the round."""

Pair = tuple[Run, Run]


def compare(revision: str, scenarios: Sequence[Scenario], rounds: int) -> None:
    """Run a revision and this tree in turn, so many rounds of each kind, and print what both cost.

    Raise RuntimeError if git has no such revision, if one of the two cannot be run here, or a run does not end well.
    """
    with checked_out(revision) as tree:
        before, after = program_in(tree, short_name(revision)), program_in(ROOT, "this tree")
        print(f"before: {_described(tree)}, checked out at {tree}")
        print(f"after:  this tree, {_described(ROOT)}{_changes()}")
        print(
            f"Both with this interpreter's packages, over accounts and ledgers of their own; {rounds} rounds, in which"
        )
        print(
            "one runs right after the other, and each begins in turn. First runs, and those in which all is new, have"
        )
        print("no limits.\n", flush=True)
        for scenario in scenarios:
            print_header(COLUMNS)
            pairs = list(_pairs(scenario, before, after, rounds))
            print()
            _print_ratios(scenario.items, pairs)


def _pairs(scenario: Scenario, before: Program, after: Program, rounds: int) -> Iterator[Pair]:
    with trial(scenario, before) as one, trial(scenario, after) as other:
        yield _both(one, other, FIRST, 0)
        for number in range(rounds):
            for kind in IN_TURN:
                for each in (one, other):
                    each.limit(kind != ALL_NEW)
                    BEFORE[kind](each.account)
                yield _both(one, other, kind, number)


def _both(one: Trial, other: Trial, kind: str, number: int) -> Pair:
    runs: dict[Trial, Run] = {}
    for each in (one, other) if number % 2 == 0 else (other, one):
        runs[each] = each.run(kind)
        print_row(runs[each], COLUMNS)
    return runs[one], runs[other]


def _print_ratios(items: int, pairs: Sequence[Pair]) -> None:
    """Print medians, and the median of the ratios within pairs: what slows both of a pair down is in neither."""
    print(f"{items:,} items: before -> after, and how many times as much that is, in the median of pairs")
    for kind in dict.fromkeys(before.kind for before, _ in pairs):
        of_kind = [pair for pair in pairs if pair[0].kind == kind]
        cells = [f"{name} {ratio(of_kind, of)}" for name, of in MEASURES.items()]
        print(f"{kind:>13} ({len(of_kind)}x): {'; '.join(cells)}")
        wrong = [max(run.wrong_items for run in runs) for runs in zip(*of_kind, strict=True)]
        if any(wrong):
            print(f"{'':>13} left with another total than their usage: {wrong[0]:,} -> {wrong[1]:,} items")
    print(flush=True)


def ratio(pairs: Sequence[Pair], of: Callable[[Run], float]) -> str:
    """Return what a measure was before and is after, and how many times as much that is."""
    before, after = (statistics.median(map(of, runs)) for runs in zip(*pairs, strict=True))
    ratios = [of(later) / of(earlier) for earlier, later in pairs if of(earlier)]
    return f"{before:,.4g} -> {after:,.4g}" + (f" ({statistics.median(ratios):.2f}x)" if ratios else "")


@contextmanager
def checked_out(revision: str) -> Iterator[Path]:
    """Give a folder with the files of a revision, as a worktree of this repository that is removed afterwards."""
    commit = _git(ROOT, "rev-parse", "--verify", f"{revision}^{{commit}}")
    with TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        _git(ROOT, "worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            _git(ROOT, "worktree", "remove", "--force", str(tree))


def short_name(revision: str) -> str:
    """Return how git abbreviates a revision. Raise RuntimeError if it has none such."""
    return _git(ROOT, "rev-parse", "--short", revision)


def _described(tree: Path) -> str:
    return _git(tree, "log", "-1", "--format=%h (%s)")


def _changes() -> str:
    changed = len(_git(ROOT, "status", "--porcelain").splitlines())
    return f" with {changed} files that are not committed" if changed else ""


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.strip()
