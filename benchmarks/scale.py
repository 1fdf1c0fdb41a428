"""What a run costs as the account grows, where each item's period starts at a second of its own, as nearly all do.

An account of each size is built once, and all kinds of runs go over it with one ledger. Limits are Stripe's, but for
the two kinds that write every item: these are limited in the smallest account alone, and what limits make of them in
the others is said as extrapolated from it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter

from results import SCALE, Goal, Run, print_header, print_row
from scenario import OPENMETER_QUERY_SECONDS, STRIPE_ENDPOINT_RATE, Account, Scenario
from trial import Program, Trial, checked, this_program, trial

FIRST, NOTHING_NEW, SOME_NEW, SOME_LATE, SOME_BEGUN, ALL_NEW = (
    "first run", "nothing new", "1 % new", "1 % late", "1 % begun", "all new",
)  # fmt: skip

BEFORE: Mapping[str, Callable[[Account], object]] = {
    NOTHING_NEW: lambda account: None,
    SOME_NEW: Account.use_one_in_100_now,
    SOME_LATE: Account.use_one_in_100_late,
    SOME_BEGUN: Account.begin_one_in_100,
    ALL_NEW: Account.use_now,
}
"""The kinds of runs after the first one, and what has happened before each."""

WRITES_ALL = (FIRST, ALL_NEW)
QUERIES_AT_ONCE = 4
"""`openmeter.concurrency`, by default."""
ON_PAPER = 1_000_000


def scale(sizes: Sequence[int]) -> tuple[list[Run], list[Goal]]:
    """Measure every kind of run at every size, print what was found, and return it with the goals."""
    runs: list[Run] = []
    for items in sorted(sizes):
        print(f"{items:,} items, each with a period start of its own")
        print_header(SCALE)
        began_on = datetime.now(UTC).date()
        is_smallest = items == min(sizes)
        for run in measure(Scenario(items, items, limited=is_smallest), this_program()):
            runs.append(run)
            print_row(run, SCALE)
        if datetime.now(UTC).date() != began_on:
            print("  A day (UTC) has begun meanwhile: the first run after that reads everything.")
        for line in extrapolated(runs, items):
            print(f"  {line}")
        print(flush=True)
    if len(sizes) > 1:
        _print_growth(runs)
        print(*on_paper(runs, ON_PAPER), "", sep="\n")
    return runs, [goal for run in runs for goal in _goals(run)]


def measure(scenario: Scenario, program: Program) -> Iterable[Run]:
    """Run a program over a new account, once for each kind.

    Stripe's limits hold for what does not write every item; for what does, only where the scenario is limited. Raise
    RuntimeError if a run leaves an item with another total than its usage, save late usage: of that the run says so.
    """
    with trial(scenario, program) as one:
        yield checked(one.run(FIRST))
        for kind in BEFORE:
            yield measured(one, kind, limited=scenario.limited or kind not in WRITES_ALL)


def measured(one: Trial, kind: str, *, limited: bool) -> Run:
    """Let something happen, and run once after that. Raise as `measure` does."""
    one.limit(limited)
    BEFORE[kind](one.account)
    run = one.run(kind)
    return run if kind == SOME_LATE else checked(run)


# -- what follows from it ---------------------------------------------------------------------------


def extrapolated(runs: Sequence[Run], items: int) -> list[str]:
    """Say how long the runs of so many items take within Stripe's limits that were measured without them."""
    limited = {run.kind: run for run in runs if run.scenario.limited}
    free = [run for run in runs if run.scenario.items == items and not run.scenario.limited and run.kind in limited]
    lines = []
    for run in free:
        smaller = limited[run.kind]
        seconds = smaller.cost.wall_seconds * items / smaller.scenario.items
        lines.append(
            f"{run.kind}, with limits: about {seconds:,.0f} s, extrapolated from {smaller.cost.wall_seconds:.1f} s for"
            f" {smaller.scenario.items:,} items"
        )
    return lines


@dataclass(frozen=True, slots=True)
class Slope:
    """What a kind of run costs, as a line through the smallest and the largest account that were measured."""

    smallest: Run
    largest: Run

    def at(self, items: int, of: Callable[[Run], float]) -> float:
        """Return what the line says of an account of so many items."""
        fewest, most = self.smallest.scenario.items, self.largest.scenario.items
        per_item = (of(self.largest) - of(self.smallest)) / (most - fewest)
        return max(of(self.largest) + per_item * (items - most), 0)

    def times(self, of: Callable[[Run], float]) -> str:
        """Return how many times as much the largest takes as the smallest."""
        return f"{of(self.largest) / of(self.smallest):.1f}" if of(self.smallest) else "-"


WALL = attrgetter("cost.wall_seconds")
CPU = attrgetter("cost.cpu_seconds")
PEAK = attrgetter("cost.peak_mb")
LISTS = attrgetter("traffic.stripe_lists")
LOOKS = attrgetter("traffic.stripe_summaries")
POSTS = attrgetter("traffic.stripe_posts")
QUERIES = attrgetter("traffic.openmeter_queries")


def slopes(runs: Sequence[Run]) -> list[Slope]:
    """Return the line of each kind of run."""
    of_kind = {kind: [run for run in runs if run.kind == kind] for kind in (FIRST, *BEFORE)}
    ordered = [sorted(some, key=lambda run: run.scenario.items) for some in of_kind.values() if len(some) > 1]
    return [Slope(some[0], some[-1]) for some in ordered]


def _print_growth(runs: Sequence[Run]) -> None:
    found = slopes(runs)
    fewest, most = found[0].smallest.scenario.items, found[0].largest.scenario.items
    print(f"How many times as much {most:,} items take as {fewest:,}, which are {most / fewest:g} times as many")
    print(f"{'run':>13} {'wall':>7} {'lists':>7} {'looks':>7} {'POSTs':>7} {'queries':>7} {'CPU':>7} {'peak':>7}")
    for slope in found:
        same_limits = slope.smallest.scenario.limited == slope.largest.scenario.limited
        cells = [slope.times(of) for of in (LISTS, LOOKS, POSTS, QUERIES, CPU, PEAK)]
        cells.insert(0, slope.times(WALL) if same_limits else "-")
        print(f"{slope.smallest.kind:>13} " + " ".join(f"{cell:>7}" for cell in cells))
    print(flush=True)


def on_paper(runs: Sequence[Run], items: int) -> list[str]:
    """Return what an account costs that was not measured: by the lines, and what Stripe's limits make of requests."""
    found = slopes(runs)
    fewest, most = found[0].smallest.scenario.items, found[0].largest.scenario.items
    lines = [
        f"{items:,} items, on paper: by how the above grows from {fewest:,} to {most:,}, with {STRIPE_ENDPOINT_RATE}"
        f" requests/s of a kind, {QUERIES_AT_ONCE} queries at once",
        f"of {1000 * OPENMETER_QUERY_SECONDS:.0f} ms, and CPU, one after the other",
        f"{'run':>13} {'about':>9} {'listing':>9} {'looks':>9} {'writes':>9} {'queries':>9} {'CPU s':>7} {'MB':>7}",
    ]
    for slope in found:
        of_stripe = [slope.at(items, of) / STRIPE_ENDPOINT_RATE for of in (LISTS, LOOKS, POSTS)]
        queries = slope.at(items, QUERIES) * OPENMETER_QUERY_SECONDS / QUERIES_AT_ONCE
        cpu, peak = slope.at(items, CPU), slope.at(items, PEAK)
        parts = " ".join(f"{seconds:>7,.0f} s" for seconds in (sum(of_stripe) + queries + cpu, *of_stripe, queries))
        lines.append(f"{slope.smallest.kind:>13} {parts} {cpu:>7,.0f} {peak:>7,.0f}")
    return lines


# -- goals ------------------------------------------------------------------------------------------


def _goals(run: Run) -> list[Goal]:
    items = f"{run.scenario.items:,} items, {run.kind}"
    queries, posts, looks = (round(of(run)) for of in (QUERIES, POSTS, LOOKS))
    goals = []
    if run.kind in (NOTHING_NEW, SOME_NEW):
        goals.append(Goal(f"{items}: at most 4 queries", f"{queries:,}", queries <= 4))
    if run.kind == NOTHING_NEW:
        measured = f"{posts:,} POSTs, {looks:,} GETs"
        goals.append(Goal(f"{items}: no POST and no GET for any of them", measured, posts == looks == 0))
    if run.kind == SOME_BEGUN:
        begun = run.scenario.items // 100
        goals.append(Goal(f"{items}: at most 4 queries and 2 for each", f"{queries:,}", queries <= 4 + 2 * begun))
    if run.kind == SOME_LATE:
        goals.append(Goal(f"{items}: billed by the next run", f"{run.wrong_items:,} are not", not run.wrong_items))
    if run.kind == ALL_NEW and run.scenario.limited:
        goals.append(_limit_used(items, run))
    return goals + [_within(items, run, *one) for one in _LIMITS.get((run.scenario.items, run.kind), ())]


def _limit_used(items: str, run: Run) -> Goal:
    used, refused = run.traffic.post_rate / STRIPE_ENDPOINT_RATE, run.traffic.refused / run.traffic.total
    promise = f"{items}: >= 97 % of {STRIPE_ENDPOINT_RATE}/s while writing, <= 0.1 % answered 429"
    return Goal(promise, f"{used:.1%}, {refused:.2%}", used >= 0.97 and refused <= 0.001)


def _within(items: str, run: Run, of: Callable[[Run], float], most: float, unit: str) -> Goal:
    return Goal(f"{items}: at most {most:g} {unit}", f"{of(run):.1f}", of(run) <= most)


_Limit = tuple[Callable[[Run], float], float, str]
_LIMITS: Mapping[tuple[int, str], Sequence[_Limit]] = {
    (1_000, NOTHING_NEW): [(WALL, 3, "s")],
    (100_000, NOTHING_NEW): [(PEAK, 400, "MB")],
    (100_000, SOME_NEW): [(WALL, 110, "s"), (CPU, 40, "s of CPU"), (PEAK, 400, "MB")],
}
