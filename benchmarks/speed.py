"""How fast `meter-sync run` is, against the naive algorithm and on billing meters, and what it costs.

    python benchmarks/speed.py [--items 100 1000] [--naive-items N] [--customers 10000] [--event-rate 300]
                               [--quick] [--part speed scale meters memory help] [--markdown]
    python benchmarks/speed.py --compare REV [--items 100 1000] [--rounds 3]

The parts: `speed` compares runs over usage records with the naive algorithm; `scale` says what each kind of run
costs in accounts of these sizes, how that grows, and what it comes to in one of 1,000,000; `meters` measures a first
run, one with new usage of 1 % of the customers, and one without any, where the price is on an hourly billing meter;
`memory` looks at the peak memory of many items; `help` at how soon `meter-sync --help` is there.
With `--compare` nothing else is done than running another revision and this tree in turn, over accounts as in `scale`.

Everything runs against this project's sandbox over real HTTP, served by another process that takes
120 ms for a write to Stripe, 250 ms for a read from it and 40 ms for a query to OpenMeter. The two
programs are processes of their own; what they cost is what the kernel says. After every run of
meter-sync Stripe's totals are compared with OpenMeter's: a fast wrong bill would count for nothing.
"""

import argparse
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from compare import compare
from measure import cost_of, installed
from results import METERS, RECORDS, SCALE, Goal, Run, as_markdown, print_header, print_row
from scale import scale
from scenario import STRIPE_ENDPOINT_RATE, Scenario, served
from trial import checked, this_program, trial

NAIVE = Path(__file__).with_name("naive.py")
PARTS = ("speed", "scale", "meters", "memory", "help")
SHARED_STARTS = 50

FIRST, NEW_USAGE, SOME_NEW_USAGE, UNCHANGED = "first run", "all new usage", "1 % new usage", "all unchanged"
LATE_USAGE = "all late usage"
"""New usage is of the second before, as an hourly run finds it; late usage is of hours after each period's start."""

LATENCIES = "120 ms per Stripe write, 250 ms per Stripe read, 40 ms per query"


def main() -> int:
    """Measure what was asked for, print the tables and the goals; return 1 if a goal was missed."""
    asked = _arguments()
    load = ", ".join(f"{each:.2f}" for each in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load}\n", flush=True)
    if asked.compare:
        compare(asked.compare, [Scenario(items, items) for items in sorted(asked.items)], asked.rounds)
        return 0
    goals: list[Goal] = []
    if "speed" in asked.part:
        for items in asked.items:
            goals += speed(items, min(items, asked.naive_items or items))
    if "scale" in asked.part:
        runs, found = scale(asked.items)
        goals += found
        if asked.markdown:
            print(as_markdown(runs, SCALE), end="\n\n")
    if "meters" in asked.part:
        goals += meters(asked.customers, asked.event_rate)
    if "memory" in asked.part:
        goals += memory(asked.memory_items)
    if "help" in asked.part:
        goals.append(help_time(asked.pairs))
    for goal in goals:
        print(goal)
    return 0 if all(goal.met for goal in goals) else 1


# -- speed ------------------------------------------------------------------------------------------


def speed(items: int, naive_items: int) -> list[Goal]:
    """Measure the naive algorithm once and meter-sync in every configuration of so many items."""
    print(f"{items:,} items, {LATENCIES}")
    print_header(RECORDS)
    naive = measure_naive(naive_items)
    print_row(naive, RECORDS)
    naive_seconds = naive.cost.wall_seconds * items / naive_items
    if naive_items != items:
        print(f"  naive: extrapolated from {naive_items:,} items to {naive_seconds:.1f} s")
    runs: list[Run] = []
    for period_starts in sorted({min(SHARED_STARTS, items), items}):
        for limited in (False, True):
            scenario = Scenario(items, period_starts, limited=limited)
            for run in measure_meter_sync(scenario):
                runs.append(replace(run, naive_seconds=naive_seconds))
                print_row(runs[-1], RECORDS)
    print("  The naive algorithm is measured once: it does one thing at a time, two requests per item,")
    print("  whatever the period starts, and never comes near a rate limit; nor does it know of what")
    print("  is unchanged. The last column is its wall time over the row's.\n")
    return _speed_goals(items, runs)


def measure_naive(items: int) -> Run:
    """Measure the naive algorithm over so many items."""
    scenario = Scenario(items, min(SHARED_STARTS, items))
    with served(scenario) as account:
        cost = cost_of([sys.executable, str(NAIVE)], account.environment)
        return Run(scenario, FIRST, cost, account.traffic(), program="naive")


def measure_meter_sync(
    scenario: Scenario, kinds: Sequence[str] = (FIRST, NEW_USAGE, LATE_USAGE, UNCHANGED)
) -> Iterable[Run]:
    """Run meter-sync over a new account with a new ledger, once for each kind, and measure each.

    Raise RuntimeError if a run leaves any item with another total than its usage.
    """
    with trial(scenario, this_program()) as one:
        for kind in kinds:
            if kind == NEW_USAGE:
                one.account.use_now()
            if kind == LATE_USAGE:
                one.account.use()
            changed = one.account.use_some() if kind == SOME_NEW_USAGE else 0
            yield replace(checked(one.run(kind)), changed_windows=changed)


def _speed_goals(items: int, runs: Sequence[Run]) -> list[Goal]:
    changed = [run for run in runs if run.kind == NEW_USAGE]
    free = [run for run in changed if not run.scenario.limited]
    limited = [run for run in changed if run.scenario.limited]
    unchanged = [run for run in runs if run.kind == UNCHANGED]
    goals = [_faster(items, run) for run in free] if items >= 1000 else []
    if items >= 1000:
        goals += [_limit_used(items, run) for run in limited]
    return [*goals, _nothing_per_item(f"{items:,} unchanged items", unchanged)]


def _faster(items: int, run: Run) -> Goal:
    all_distinct = run.scenario.period_starts == items
    wanted = 35 if all_distinct else 20
    ratio = run.times_faster or 0
    over = "all-distinct" if all_distinct else f"{run.scenario.period_starts}"
    return Goal(
        f"{items:,} items with new usage over {over} period starts: {wanted}x faster than naive",
        f"{ratio:.1f}x",
        ratio >= wanted,
    )


def _limit_used(items: int, run: Run) -> Goal:
    used = run.traffic.post_rate / STRIPE_ENDPOINT_RATE
    refused = run.traffic.refused / run.traffic.total
    return Goal(
        f"{items:,} items, {run.scenario.period_starts:,} starts, Stripe's limits: >= 97 % of 25/s"
        " while reporting, <= 0.1 % answered 429",
        f"{used:.1%} ({run.traffic.post_rate:.2f}/s), {refused:.1%}",
        used >= 0.97 and refused <= 0.001,
    )


def _nothing_per_item(which: str, runs: Sequence[Run]) -> Goal:
    posts = max(run.traffic.stripe_posts for run in runs)
    reads = max(run.traffic.stripe_summaries for run in runs)
    return Goal(
        f"{which}: no POST and no GET for any of them",
        f"{posts} POSTs, {reads} GETs",
        posts == reads == 0,
    )


# -- meters -----------------------------------------------------------------------------------------


def meters(customers: int, event_rate: int) -> list[Goal]:
    """Measure runs over so many customers on an hourly billing meter that takes so many events per second."""
    print(f"{customers:,} customers on an hourly billing meter, {event_rate} meter events/s, {LATENCIES}")
    print_header(METERS)
    # Each has a period start of its own, as in real accounts: whole hours are all that their queries can share.
    scenario = Scenario(customers, customers, meter_event_rate=event_rate)
    runs: dict[str, Run] = {}
    for run in measure_meter_sync(scenario, (FIRST, SOME_NEW_USAGE, UNCHANGED)):
        runs[run.kind] = run
        print_row(run, METERS)
    (streamed,) = measure_meter_sync(replace(scenario, streams=True), (FIRST,))
    streamed = replace(streamed, kind="by the stream")
    print_row(streamed, METERS)
    print("  The last row is the first run with the meter event stream, where a POST has up to 100 events.")
    print("  Only meter events are limited. A first run reads what Stripe holds for each customer, which at")
    print(f"  Stripe's {STRIPE_ENDPOINT_RATE} reads/s alone takes {customers / STRIPE_ENDPOINT_RATE:.0f} s.\n")
    return [
        _event_rate_used(runs[FIRST], event_rate),
        _few_requests(runs[FIRST], streamed),
        _only_what_changed(runs[SOME_NEW_USAGE]),
        _one_query(runs[SOME_NEW_USAGE]),
        _nothing_per_item(f"{customers:,} unchanged customers on a meter", [runs[UNCHANGED]]),
    ]


def _event_rate_used(run: Run, event_rate: int) -> Goal:
    used = run.traffic.post_rate / event_rate
    refused = run.traffic.refused / run.traffic.total
    return Goal(
        f"{run.scenario.items:,} customers on a meter, {run.kind}: >= 90 % of {event_rate} events/s while sending,"
        " <= 1 % answered 429",
        f"{used:.1%} ({run.traffic.post_rate:.1f}/s), {refused:.1%}",
        used >= 0.9 and refused <= 0.01,
    )


def _few_requests(singly: Run, streamed: Run) -> Goal:
    events, posts = singly.traffic.stripe_posts, streamed.traffic.stripe_posts
    return Goal(
        f"{singly.scenario.items:,} customers on a meter, {singly.kind} by the stream: a request for 100 events, and"
        " one for the session",
        f"{posts:,} POSTs for {events:,} events",
        posts <= events / 100 + 2,
    )


def _only_what_changed(run: Run) -> Goal:
    sent, reads = run.traffic.stripe_posts, run.traffic.stripe_summaries
    return Goal(
        f"{run.scenario.items:,} customers on a meter, {run.kind}: only the {run.changed_windows:,} changed windows are"
        " sent, no GET for any customer",
        f"{sent:,} events, {reads:,} GETs",
        sent == run.changed_windows and reads == 0,
    )


def _one_query(run: Run) -> Goal:
    queries = run.traffic.openmeter_queries
    promise = f"{run.scenario.items:,} customers on a meter, {run.kind}: one OpenMeter query"
    return Goal(promise, f"{queries:,}", queries == 1)


# -- memory -----------------------------------------------------------------------------------------


def memory(items: int) -> list[Goal]:
    """Measure the peak memory of runs over many items, without latency and limits."""
    print(f"{items:,} items, no latency, no limits")
    print_header(RECORDS)
    goals: list[Goal] = []
    for period_starts in (SHARED_STARTS, items):
        scenario = Scenario(items, period_starts, latency=False)
        for run in measure_meter_sync(scenario, (FIRST, UNCHANGED)):
            print_row(run, RECORDS)
            goals.append(
                Goal(
                    f"{items:,} items, {period_starts:,} starts, {run.kind}: <= 300 MB",
                    f"{run.cost.peak_mb:.0f} MB",
                    run.cost.peak_mb <= 300,
                )
            )
    print()
    return goals


# -- help -------------------------------------------------------------------------------------------


def help_time(pairs: int) -> Goal:
    """Measure `meter-sync --help` against importing click alone, in alternation."""
    click, shown = [sys.executable, "-c", "import click"], [installed("meter-sync"), "--help"]
    for command in (click, shown):
        cost_of(command)
    measured = [(cost_of(click).wall_seconds, cost_of(shown).wall_seconds) for _ in range(pairs)]
    ratio = statistics.median(ours / theirs for theirs, ours in measured)
    theirs, ours = (1000 * statistics.median(each) for each in zip(*measured, strict=True))
    print(f"median of {pairs} pairs: import click {theirs:.0f} ms, meter-sync --help {ours:.0f} ms\n")
    return Goal("meter-sync --help within 2.5x of python -c 'import click'", f"{ratio:.2f}x", ratio <= 2.5)


# -- arguments --------------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how fast meter-sync is, and what it costs.")
    parser.add_argument("--items", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--compare", metavar="REV", help="run that revision and this tree in turn over such accounts")
    parser.add_argument("--rounds", type=int, default=3, help="of --compare")
    parser.add_argument("--markdown", action="store_true", help="print the table of `scale` as Markdown, too")
    parser.add_argument("--naive-items", type=int, help="run the naive algorithm over fewer items and extrapolate")
    parser.add_argument("--customers", type=int, default=10_000, help="on an hourly billing meter, over 1,000")
    parser.add_argument("--event-rate", type=int, default=300, help="meter events per second that Stripe takes")
    parser.add_argument("--memory-items", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=15, help="of --help and import click")
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="little of everything: three minutes")
    asked = parser.parse_args()
    if asked.quick:
        asked.items, asked.customers, asked.memory_items, asked.pairs = [100], 2000, 1000, 5
    return asked


if __name__ == "__main__":
    sys.exit(main())
