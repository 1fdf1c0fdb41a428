"""What workers do with many accounts, and what a ledger on a server costs beside one that is a file.

    python benchmarks/fleet.py --server 'postgresql://postgres@/postgres?host=/run/postgresql'
                               [--accounts 200] [--items 50 500] [--workers 1 2 4] [--ledger-items 1000]

Accounts are connected to one platform, each with a number of items of its own between the two that are given, all with
new usage. For each number of workers there is a new sandbox and a new database, in which the runs of all accounts are
queued; then so many workers are started, each with one account at a time, and drain the queue. Servers take their time
as in `speed.py`, and set no limits. What is measured is the time until the last worker has ended.

Then one account of so many items is run with a ledger of either kind, one run after the other, without any latency. The
server is one where this user may make databases.
"""

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from measure import Cost, cost_of, installed
from results import Goal
from scenario import OPENMETER_QUERY_SECONDS, STRIPE_READ_SECONDS, STRIPE_WRITE_SECONDS, Scenario, served

from meter_sync.sandbox import Latency, Sandbox
from meter_sync.sandbox.stripe.world import StripeWorld

METER = "api_requests"
USAGE = 7
NEAR_LINEAR = 0.8
"""So much of what workers would do if each did as much as one alone they are to do, while there are cores for them."""
_CORES_OF_ONE = 2
"""So many a worker wants, with its run, the database and the sandbox."""
_RUNS = ("first run", "nothing new", "all new")
_UNLIMITED = {
    f"METER_SYNC_STRIPE_{name}": "100000" for name in ("RATE", "ENDPOINT_RATE", "METER_EVENT_RATE")
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform in the sandbox, and the items of each of its connected accounts."""

    sandbox: Sandbox
    items: Mapping[str, tuple[StripeWorld, Sequence[str]]]
    """By the names of the accounts."""

    @property
    def wrong(self) -> int:
        """For how many items Stripe holds another total than what was used."""
        return sum(world.total(item) != USAGE for world, items in self.items.values() for item in items)


def main() -> int:
    """Measure, print what was measured and whether the goals were met; return 1 if one was missed."""
    asked = _arguments()
    load = ", ".join(f"{each:.2f}" for each in os.getloadavg())
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load}\n", flush=True)
    goals = list(of_workers(asked.server, asked.accounts, asked.items, asked.workers))
    print(flush=True)
    for line in of_ledgers(asked.server, asked.ledger_items):
        print(line, flush=True)
    print(*goals, sep="\n")
    return 0 if all(goal.met for goal in goals) else 1


def of_workers(server: str, accounts: int, items: Sequence[int], workers: Sequence[int]) -> Iterator[Goal]:
    """Print how many accounts an hour so many workers do, and yield whether that grows with them."""
    print(f"{accounts:,} accounts of {items[0]} to {items[1]} items, one at a time by each worker")
    of_one = 0.0
    for many in sorted(workers):
        an_hour = accounts / drained(server, accounts, items, many) * 3600
        of_one = of_one or an_hour / many
        name = "worker" if many == 1 else "workers"
        print(f"  {many} {name}: {an_hour:,.0f} accounts an hour, {an_hour / of_one:.2f} x one worker", flush=True)
        if 1 < many <= (os.cpu_count() or 1) // _CORES_OF_ONE:
            share = an_hour / of_one / many
            yield Goal(
                f"{many} workers do >= {NEAR_LINEAR:.0%} of what each does alone", f"{share:.0%}", share >= NEAR_LINEAR
            )


def drained(server: str, accounts: int, items: Sequence[int], workers: int) -> float:
    """Return how many seconds so many workers take for the runs of all accounts.

    Raise RuntimeError where one of them failed, or an item was left with a wrong total.
    """
    made = _platform(accounts, items)
    with tempfile.TemporaryDirectory() as folder, database(server) as ledger, made.sandbox.in_background():
        config = Path(folder, "meter-sync.toml")
        config.write_text("".join(_row(name, world) for name, (world, _) in made.items.items()), encoding="utf-8")
        environment = _environment({**made.sandbox.environment(), "METER_SYNC_LEDGER": ledger}, config)
        subprocess.run(_command("run", "--enqueue"), env=environment, stdout=subprocess.DEVNULL, check=True)
        began = time.perf_counter()
        draining = _command("worker", "--drain", "--concurrency", "1")
        started = [subprocess.Popen(draining, env=environment, stdout=subprocess.DEVNULL) for _ in range(workers)]
        codes = [one.wait() for one in started]
        took = time.perf_counter() - began
    if any(codes) or made.wrong:
        raise RuntimeError(f"the workers ended with {codes}, and {made.wrong} items were left with a wrong total")
    return took


def of_ledgers(server: str, items: int) -> Iterator[str]:
    """Yield, line by line, what each kind of run costs with a ledger of each kind, and how much of it is an item's."""
    with tempfile.TemporaryDirectory() as folder, database(server) as on_server:
        of_file = _costs(items, str(Path(folder, "ledger.sqlite3")), folder)
        of_server = _costs(items, on_server, folder)
    yield f"{items:,} items, one account: wall and CPU of a run, in microseconds an item"
    for run, file, other in zip(_RUNS, of_file, of_server, strict=True):
        walls, cpus = (f"{1e6 * each / items:,.0f}" for each in (file.wall_seconds, file.cpu_seconds))
        wall, cpu = (f"{1e6 * each / items:,.0f}" for each in (other.wall_seconds, other.cpu_seconds))
        times = other.wall_seconds / file.wall_seconds
        yield f"  {run}: file {walls} ({cpus} CPU), server {wall} ({cpu} CPU), {times:.2f} x"
    yield ""


def _costs(items: int, ledger: str, folder: str) -> list[Cost]:
    config = Path(folder, "empty.toml")
    config.touch()
    costs = []
    with served(Scenario(items, items, latency=False)) as account:
        environment = _environment({**account.environment, "METER_SYNC_LEDGER": ledger}, config)
        for run in _RUNS:
            if run == "all new":
                account.use()
            costs.append(cost_of(_command("run", "--quiet"), environment))
    return costs


def _platform(accounts: int, items: Sequence[int]) -> Platform:
    """Make a platform whose accounts have so many items, drawn between two numbers, each with the same usage."""
    now, chance = datetime.now(UTC).replace(microsecond=0), random.Random(1)  # noqa: S311 - nothing is secret here
    sandbox = Sandbox(now=now)
    sandbox.latency = Latency(
        stripe_read=STRIPE_READ_SECONDS, stripe_write=STRIPE_WRITE_SECONDS, openmeter_query=OPENMETER_QUERY_SECONDS
    )
    sandbox.openmeter.add_meter(METER, aggregation="SUM")
    made: dict[str, tuple[StripeWorld, Sequence[str]]] = {}
    for number in range(accounts):
        world = sandbox.connect_account()
        price = world.add_price(metadata={"om_meter_id": METER})
        start = now - timedelta(days=5, seconds=number)
        made[f"a{number}"] = world, [_item(sandbox, world, price, start) for _ in range(chance.randint(*items))]
    return Platform(sandbox, made)


def _item(sandbox: Sandbox, world: StripeWorld, price: str, start: datetime) -> str:
    customer = world.add_customer()
    sandbox.openmeter.add_event(METER, customer, start + timedelta(hours=1), value=USAGE)
    return world.add_subscription(customer, [price], period_start=start).items[0]


def _row(name: str, world: StripeWorld) -> str:
    return f'[[accounts]]\nname = "{name}"\n[accounts.stripe]\naccount = "{world.account}"\n'


@contextmanager
def database(server: str) -> Iterator[str]:
    """Make a database on a server while the block lasts, and yield its address."""
    name = f"meter_sync_benchmark_{os.getpid()}_{time.monotonic_ns()}"
    with psycopg.connect(server, autocommit=True) as administrator:
        administrator.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        finally:
            administrator.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def _environment(own: Mapping[str, str], config: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("METER_SYNC_", "STRIPE_"))}
    return {**kept, **own, **_UNLIMITED, "METER_SYNC_CONFIG": str(config)}


def _command(*arguments: str) -> list[str]:
    return [installed("meter-sync"), *arguments]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure workers over many accounts, and ledgers of either kind.")
    parser.add_argument("--server", required=True, help="the URL of the database `postgres` of a PostgreSQL server")
    parser.add_argument("--accounts", type=int, default=200)
    parser.add_argument("--items", type=int, nargs=2, default=[50, 500], metavar=("LEAST", "MOST"))
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--ledger-items", type=int, default=1000)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
