"""How much of what Stripe allows is used while writing, and how many requests are refused: one run alone, and two.

    python benchmarks/rate.py [--items 100 1000]

For each number of items there is a run of all of them, with new usage of each. From 500 on, where there is time to
meet, there is another one, in the midst of which a closing run begins: it is about a fifth of the items, whose periods
are about to end. Everything runs against this project's sandbox over real HTTP, which enforces Stripe's limits as a
sliding second and takes its time, as in `speed.py`. Its counts are shown: accepted writes per second, from the first to
the last one, and the answers of status 429. A machine that is busy with other things holds up the server too, and it
shows in them.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from measure import installed
from results import Goal
from scenario import STRIPE_ENDPOINT_RATE, Account, Scenario, Traffic, served

USED, REFUSED = 0.97, 0.001
"""The least of the limit that is to be used, and the most of all requests that may be refused."""

CLOSING = ("run", "--closing", "59m", "--quiet")
_MEET_FROM = 500
_BEYOND_CLAIMS = 30
"""So many writes after those of the ending items have been made, a run has given these back to others."""


def main() -> int:
    """Measure, print what was measured and whether the goals were met; return 1 if one was missed."""
    asked = _arguments()
    load = ", ".join(f"{each:.2f}" for each in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load}\n", flush=True)
    goals: list[Goal] = []
    for items in asked.items:
        for goal in measured(items):
            print(goal, flush=True)
            goals.append(goal)
    return 0 if all(goal.met for goal in goals) else 1


def measured(items: int) -> list[Goal]:
    """Measure so many items with new usage: by a full run alone, and with a closing run beside it."""
    ending = items // 5
    scenario = Scenario(items - ending, items - ending, limited=True, ending=ending)
    with tempfile.TemporaryDirectory() as folder, served(scenario) as account:
        environment = {**account.environment, **_configuration(Path(folder))}
        _run(environment)
        account.traffic()
        account.use()
        _run(environment)
        alone = account.traffic()
        goals = [_goal(f"{items:,} items, a full run alone", alone)]
        if items < _MEET_FROM:
            return goals
        account.use()
        together = _beside_each_other(account, environment, ending)
        if wrong := account.wrong_items():
            raise RuntimeError(f"{wrong} items were left with a wrong total")
    return [
        _goal(f"{items:,} items, a full run alone", alone),
        _goal(f"{items:,} items, a closing run beside", together),
    ]


def _beside_each_other(account: Account, environment: Mapping[str, str], ending: int) -> Traffic:
    full = subprocess.Popen(_command("run", "--quiet"), env=environment, stdout=subprocess.DEVNULL)
    while account.written() < ending + _BEYOND_CLAIMS and full.poll() is None:
        time.sleep(0.05)
    account.use_ending()
    _run(environment, *CLOSING)
    if full.wait():
        raise RuntimeError(f"the full run exited {full.returncode}")
    return account.traffic()


def _run(environment: Mapping[str, str], *arguments: str) -> None:
    subprocess.run(_command(*(arguments or ("run", "--quiet"))), env=environment, stdout=subprocess.DEVNULL, check=True)


def _command(*arguments: str) -> list[str]:
    return [installed("meter-sync"), *arguments]


def _configuration(folder: Path) -> dict[str, str]:
    config = folder / "meter-sync.toml"
    config.touch()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("METER_SYNC_", "STRIPE_"))}
    return {**kept, "METER_SYNC_CONFIG": str(config), "METER_SYNC_LEDGER": str(folder / "ledger.sqlite3")}


def _goal(which: str, traffic: Traffic) -> Goal:
    used, refused = traffic.post_rate / STRIPE_ENDPOINT_RATE, traffic.refused / traffic.total
    return Goal(
        f"{which}: >= {USED:.0%} of {STRIPE_ENDPOINT_RATE} writes/s, <= {REFUSED:.1%} answered 429",
        f"{used:.1%} ({traffic.post_rate:.2f}/s, {traffic.stripe_posts:,} writes), {refused:.2%} ({traffic.refused})",
        used >= USED and refused <= REFUSED,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how much of Stripe's limit is used, and what is refused.")
    parser.add_argument("--items", type=int, nargs="+", default=[100, 1000])
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
