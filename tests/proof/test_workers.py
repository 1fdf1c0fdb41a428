"""Many accounts and several workers, of which any may be lost, stand still or be cut off: each account is billed exactly."""

import random
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meter_sync.ledger.server_lock import OVERDUE_AFTER_SECONDS
from meter_sync.sandbox import Fault
from tests.support.platform import Platform
from tests.support.postgres import new_ledger, server
from tests.support.tables import carry_out
from tests.support.workers import StartedWorker, worker

pytestmark = pytest.mark.simulation

STALLED = "[worker]\nstalled_after_seconds = 2\n"
ACCOUNTS = 40


def platform(folder: Path, shops: int) -> Platform:
    made = Platform(folder, shops, now=datetime.now(UTC).replace(microsecond=0))
    made.ledger = new_ledger()
    return made


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Platform]:
    made = platform(tmp_path, ACCOUNTS)
    with made.sandbox.in_background():
        yield made


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Platform]:
    made = platform(tmp_path, 1)
    with made.sandbox.in_background():
        yield made


def start(platform: Platform, stack: ExitStack) -> StartedWorker:
    return stack.enter_context(worker(platform, "--concurrency", "3", toml=STALLED + platform.toml))


def wait_until_all_are_complete(platform: Platform) -> None:
    """Until no account lacks a complete run, or a hundred looks have found one that does: then it starves."""
    for _ in range(200):
        rows = platform.meter_sync("status", "--output", "json", toml=STALLED + platform.toml).document["accounts"]
        lacking = [row["account"] for row in rows if not row.get("last_complete_at")]
        if not lacking:
            return
    raise AssertionError(f"no complete run of {lacking}")


def check(platform: Platform) -> None:
    """Each account is billed exactly, and no job of one waits twice."""
    assert platform.billed == [10 * number for number, _ in enumerate(platform.shops, start=1)]
    found = carry_out(platform.ledger, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'meter_sync_jobs_%'")
    waiting = (
        f"SELECT count(*), count(DISTINCT queueing_lock) FROM {found[0][0]}.procrastinate_jobs WHERE status = 'todo'"  # noqa: S608
    )
    every, distinct = carry_out(platform.ledger, waiting)[0]
    assert every == distinct


@pytest.mark.parametrize("workers", [2, 4])
def test_each_account_is_billed_exactly_however_many_machines_are_lost(many: Platform, workers: int) -> None:
    chance = random.Random(workers)  # noqa: S311
    with ExitStack() as stack:
        started = [start(many, stack) for _ in range(workers)]
        for _ in range(workers):
            lost = started.pop(chance.randrange(len(started)))
            lost.wait_for("job_ended", times=chance.randrange(1, 4))
            lost.lose()
            started.append(start(many, stack))
        wait_until_all_are_complete(many)
        assert [one.end() for one in started] == [0] * workers
    check(many)


def test_a_server_that_is_away_for_a_while_costs_nobody_anything(many: Platform) -> None:
    with ExitStack() as stack:
        started = [start(many, stack) for _ in range(2)]
        started[0].wait_for("job_ended", times=5)
        with server().stopped():
            for each in started:
                each.wait_for("worker_cut_off")
        wait_until_all_are_complete(many)
        assert [each.end() for each in started] == [0, 0]
    check(many)


def test_a_machine_that_stood_still_while_another_took_its_place_writes_nothing_more(one: Platform) -> None:
    one.sandbox.faults.add(Fault(server="openmeter", path="/query", times=1, delay_seconds=5.0))
    with ExitStack() as stack:
        frozen = start(one, stack)
        frozen.wait_for("list")
        frozen.signal_all(signal.SIGSTOP)
        carry_out(one.ledger, "UPDATE run_locks SET beat_at = beat_at - ?", int(OVERDUE_AFTER_SECONDS) + 1)
        other = start(one, stack)
        other.wait_for("run_lock_taken_over")
        other.wait_for("job_ended", exit_code=0)
        check(one)
        written = len(
            [request for request in one.sandbox.requests if request.method == "POST" and request.server == "stripe"]
        )
        frozen.signal_all(signal.SIGCONT)
        frozen.wait_for("record")
        assert frozen.end() == 0
        assert other.end() == 0
    posts = [request for request in one.sandbox.requests if request.method == "POST" and request.server == "stripe"]
    assert len(posts) == written == 1
    check(one)
