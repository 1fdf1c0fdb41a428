"""Many accounts and several workers, any of which may be lost, stand still or be cut off: all are billed exactly."""

import json
import queue
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from meter_sync.ledger.server_lock import OVERDUE_AFTER_SECONDS
from meter_sync.net.postgres_url import PostgresUrl
from meter_sync.sandbox import Fault
from tests.support.platform import Platform
from tests.support.postgres import new_ledger, server
from tests.support.tables import carry_out
from tests.support.workers import PATIENCE_SECONDS, StartedWorker, how_many, wait_for_more, worker

pytestmark = pytest.mark.simulation

Serve = Callable[[int], tuple[Platform, "SeenByStripe"]]

STALLED = "[worker]\nstalled_after_seconds = 2\n"
ACCOUNTS = 40
_LOOKS = 200


@dataclass(frozen=True)
class SeenWrite:
    """What the ledger said of a write's item while Stripe had just carried the write out, and had not answered."""

    item: str
    run: str
    """The run that had the item to itself, and so has sent the write: it renews that just before."""
    account: str
    epoch: int
    """The newest epoch of the account's run lock then."""


class SeenByStripe:
    """Looks, at every write that reaches Stripe, for who sends it and which epoch is the newest."""

    def __init__(self, ledger: PostgresUrl) -> None:
        self._ledger = ledger
        self._is_holding = threading.Semaphore(0)
        self._held: queue.Queue[tuple[str, threading.Event]] = queue.Queue()
        self.writes: list[SeenWrite] = []

    def __call__(self, body: str) -> bytes:
        item = json.loads(body)["subscription_item"]
        with suppress(psycopg.OperationalError):  # the server is away
            ((run, account, epoch),) = carry_out(self._ledger, _SENDER, item)
            self.writes.append(SeenWrite(item, run, account, epoch))
            if self._is_holding.acquire(blocking=False):
                goes_on = threading.Event()
                self._held.put((account, goes_on))
                assert goes_on.wait(PATIENCE_SECONDS)
        return body.encode()

    @contextmanager
    def held_back(self) -> Iterator[str]:
        """Hold back the answer to the next write while the block lasts, and yield the account that it is for."""
        self._is_holding.release()
        account, goes_on = self._held.get(timeout=PATIENCE_SECONDS)
        try:
            yield account
        finally:
            goes_on.set()

    def check(self) -> None:
        """Each run has written under one epoch, its own, each item once, and no other run under that one.

        So what is sent by a run while another one has begun is seen: under the newer epoch it is beside that one's, or
        the second one of the item.
        """
        assert self.writes
        runs = {(one.account, one.epoch, one.run) for one in self.writes}
        assert len({run for *_, run in runs}) == len(runs)
        assert len({(account, epoch) for account, epoch, _ in runs}) == len(runs)
        assert max(Counter((one.run, one.item) for one in self.writes).values()) == 1


_SENDER = """
SELECT claims.run, run_locks.account, run_locks.epoch
FROM claims JOIN run_locks ON run_locks.account = claims.account AND run_locks.mode = claims.mode WHERE claims.item = ?
"""
_WAITING_TWICE = """
SELECT args ->> 'account', args ->> 'kind' FROM {}.procrastinate_jobs
WHERE status = 'todo' GROUP BY 1, 2 HAVING count(*) > 1
"""
_OVERTAKEN = """
WITH taken AS (
    SELECT jobs.id, jobs.queue_name, min(events.at) FILTER (WHERE events.type = 'deferred') AS queued_at,
        coalesce(min(events.at) FILTER (WHERE events.type = 'started'), now()) AS begun_at
    FROM {0}.procrastinate_jobs AS jobs JOIN {0}.procrastinate_events AS events ON events.job_id = jobs.id
    GROUP BY jobs.id
)
SELECT first.id, later.id FROM taken AS first
JOIN taken AS later ON later.queue_name = first.queue_name AND later.queued_at > first.queued_at
WHERE first.begun_at > later.begun_at + interval '5 seconds'
"""
"""Jobs that had to wait while one that was queued later was taken. Workers take several at once, at the same moment."""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serves a platform with so many accounts, for which it is now as for the command."""
    with ExitStack() as serving:

        def served(shops: int) -> tuple[Platform, SeenByStripe]:
            made = Platform(tmp_path, shops, now=datetime.now(UTC).replace(microsecond=0))
            made.ledger = new_ledger()
            seen = SeenByStripe(made.ledger)
            made.sandbox.faults.add(Fault(server="stripe", method="POST", times=None, rewrite=seen))
            serving.enter_context(made.sandbox.in_background())
            return made, seen

        yield served


def start(platform: Platform, stack: ExitStack) -> StartedWorker:
    return stack.enter_context(worker(platform, "--concurrency", "3", toml=STALLED + platform.toml))


def wait_until_all_are_complete(platform: Platform, workers: Sequence[StartedWorker]) -> None:
    """Until no account lacks a complete run; after so many looks, one that does starves.

    A look is due whenever a job has ended, and sees to it that the queue is in order then too.
    """
    for _ in range(_LOOKS):
        ended = how_many(workers, "job_ended")
        check_queue(platform)
        document = platform.meter_sync("status", "--output", "json", toml=STALLED + platform.toml).document
        lacking = [row["account"] for row in document["accounts"] if not row.get("last_complete_at")]
        if not lacking:
            return
        wait_for_more(workers, "job_ended", ended)
    raise AssertionError(f"no complete run of {lacking}")


def check_queue(platform: Platform) -> None:
    """No job of an account waits twice, and none waits while those who came later are taken."""
    ((schema,),) = carry_out(platform.ledger, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'meter_sync_jobs_%'")
    assert carry_out(platform.ledger, _WAITING_TWICE.format(schema)) == []
    assert carry_out(platform.ledger, _OVERTAKEN.format(schema)) == []


def check(platform: Platform, stripe: SeenByStripe) -> None:
    """Each account is billed exactly, no run wrote while another had begun, and the queue is in order."""
    assert platform.billed == [10 * number for number, _ in enumerate(platform.shops, start=1)]
    stripe.check()
    check_queue(platform)


def written(platform: Platform) -> int:
    """How many requests were made that write to Stripe."""
    return sum(one.method == "POST" and one.server == "stripe" for one in platform.sandbox.requests)


@pytest.mark.parametrize("workers", [2, 4])
def test_each_account_is_billed_exactly_however_many_machines_are_lost(serve: Serve, workers: int) -> None:
    """Each is lost just when Stripe has carried out a write of one of its runs, and it has not heard of that."""
    many, stripe = serve(ACCOUNTS)
    with ExitStack() as stack:
        started = [start(many, stack) for _ in range(workers)]
        for _ in range(workers):
            with stripe.held_back() as account:
                lost = next(one for one in started if f"full run of {account}" in one.jobs("job_begun"))
                lost.lose()
            started.remove(lost)
            started.append(start(many, stack))
        wait_until_all_are_complete(many, started)
        assert [one.end() for one in started] == [0] * workers
    check(many, stripe)
    assert len(stripe.writes) > ACCOUNTS


def test_a_server_that_is_away_for_a_while_costs_nobody_anything(serve: Serve) -> None:
    """Each worker has found it away three times, which takes some 10 s: what it does then, it does each time alike."""
    some, stripe = serve(10)
    with ExitStack() as stack:
        started = [start(some, stack) for _ in range(2)]
        started[0].wait_for("job_ended", times=2)
        with server().stopped():
            for each in started:
                each.wait_for("worker_cut_off", times=3)
        wait_until_all_are_complete(some, started)
        assert [each.end() for each in started] == [0, 0]
    check(some, stripe)


def test_a_machine_that_stood_still_while_another_took_its_place_writes_nothing_more(serve: Serve) -> None:
    one, stripe = serve(1)
    one.sandbox.faults.add(Fault(server="openmeter", path="/query", times=1, delay_seconds=5.0))
    with ExitStack() as stack:
        frozen = start(one, stack)
        frozen.wait_for("list")
        frozen.signal_all(signal.SIGSTOP)
        carry_out(one.ledger, "UPDATE run_locks SET beat_at = beat_at - ?", int(OVERDUE_AFTER_SECONDS) + 1)
        other = start(one, stack)
        other.wait_for("run_lock_taken_over")
        other.wait_for("job_ended", exit_code=0)
        check(one, stripe)
        before = written(one)
        frozen.signal_all(signal.SIGCONT)
        frozen.wait_for("error", code="lock_lost")
        assert [each.end() for each in (frozen, other)] == [0, 0]
    assert written(one) == before == 1
    check(one, stripe)
