"""Many accounts and several workers, any of which may be lost, stand still or be cut off: all are billed exactly."""

import random
import signal
from collections.abc import Callable, Iterator
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

Serve = Callable[[int], Platform]

STALLED = "[worker]\nstalled_after_seconds = 2\n"
ACCOUNTS = 40
_LOOKS = 500


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves a platform with so many accounts, for which it is now as for the command."""
    with ExitStack() as serving:

        def served(shops: int) -> Platform:
            made = Platform(tmp_path, shops, now=datetime.now(UTC).replace(microsecond=0))
            made.ledger = new_ledger()
            serving.enter_context(made.sandbox.in_background())
            return made

        yield served


def start(platform: Platform, stack: ExitStack) -> StartedWorker:
    return stack.enter_context(worker(platform, "--concurrency", "3", toml=STALLED + platform.toml))


def wait_until_all_are_complete(platform: Platform) -> None:
    """Until no account lacks a complete run; after so many looks, one that does starves."""
    for _ in range(_LOOKS):
        document = platform.meter_sync("status", "--output", "json", toml=STALLED + platform.toml).document
        lacking = [row["account"] for row in document["accounts"] if not row.get("last_complete_at")]
        if not lacking:
            return
    raise AssertionError(f"no complete run of {lacking}")


def check(platform: Platform) -> None:
    """Each account is billed exactly, and no job of one waits twice."""
    assert platform.billed == [10 * number for number, _ in enumerate(platform.shops, start=1)]
    ((schema,),) = carry_out(platform.ledger, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'meter_sync_jobs_%'")
    waiting = f"SELECT queueing_lock FROM {schema}.procrastinate_jobs WHERE status = 'todo'"  # noqa: S608
    jobs = carry_out(platform.ledger, waiting)
    assert len(jobs) == len({*jobs})


def written(platform: Platform) -> int:
    """How many requests were made that write to Stripe."""
    return sum(one.method == "POST" and one.server == "stripe" for one in platform.sandbox.requests)


@pytest.mark.parametrize("workers", [2, 4])
def test_each_account_is_billed_exactly_however_many_machines_are_lost(serve: Serve, workers: int) -> None:
    many, chance = serve(ACCOUNTS), random.Random(workers)  # noqa: S311
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


def test_a_server_that_is_away_for_a_while_costs_nobody_anything(serve: Serve) -> None:
    some = serve(10)
    with ExitStack() as stack:
        started = [start(some, stack) for _ in range(2)]
        started[0].wait_for("job_ended", times=2)
        with server().stopped():
            for each in started:
                each.wait_for("worker_cut_off")
        wait_until_all_are_complete(some)
        assert [each.end() for each in started] == [0, 0]
    check(some)


def test_a_machine_that_stood_still_while_another_took_its_place_writes_nothing_more(serve: Serve) -> None:
    one = serve(1)
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
        before = written(one)
        frozen.signal_all(signal.SIGCONT)
        frozen.wait_for("error", code="lock_lost")
        assert [each.end() for each in (frozen, other)] == [0, 0]
    assert written(one) == before == 1
    check(one)
