"""Workers on a real server: every account is billed by one of them, and never by two."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from meter_sync.ledger import Place, Scope
from meter_sync.ledger.server_lock import BOOKS, key_of
from meter_sync.ledger.turns import turns_of
from meter_sync.net.postgres_url import PostgresUrl
from meter_sync.sandbox import Fault
from tests.support.accounts import Accounts
from tests.support.postgres import server
from tests.support.workers import worker

pytestmark = pytest.mark.every_way

EU, US = "eu", "us"
BILLED = {EU: 10, US: 20}
_LOOKS = 100_000


def test_what_is_due_is_queued_and_carried_out_and_then_not_due_any_more(both: Accounts) -> None:
    with worker(both) as one:
        one.wait_for("job_ended", times=2, exit_code=0)
        assert both.billed == BILLED
        assert one.end() == 0
    assert one.jobs("job_queued") == ["full run of eu", "full run of us"]
    with worker(both, "--drain") as another:
        assert another.ended() == 0
    assert another.jobs("job_begun") == []


def test_what_somebody_queues_is_carried_out_once_and_a_drain_ends_then(both: Accounts) -> None:
    first, again = (both.meter_sync("run", "--enqueue", "--account", EU) for _ in range(2))
    assert (first.code, first.stdout) == (0, "full run of eu is queued\n")
    assert (again.code, again.stdout) == (0, "full run of eu was queued already\n")
    with worker(both, "--drain") as one:
        assert one.ended() == 0
    assert both.billed == {EU: 10, US: 0}
    assert one.jobs("job_ended") == ["full run of eu"]


def test_a_closing_run_can_be_queued_too(both: Accounts) -> None:
    queued = both.meter_sync("run", "--enqueue", "--closing", "3m", "--account", EU, "--output", "csv")
    assert (queued.code, queued.stdout) == (0, "account,kind,queued\neu,closing,True\n")
    assert both.meter_sync("run", "--enqueue", "--closing", "1h").code == 2
    with worker(both, "--drain") as one:
        assert one.ended() == 0
    assert one.jobs("job_ended") == ["closing run of eu"]


def test_a_drain_ends_with_the_worst_code_of_its_runs(both: Accounts) -> None:
    both.sandboxes[EU].stripe.keys.clear()
    assert both.meter_sync("run", "--enqueue", "--output", "json").document["jobs"] == [
        {"account": EU, "kind": "full", "queued": True},
        {"account": US, "kind": "full", "queued": True},
    ]
    with worker(both, "--drain") as one:
        assert one.ended() == 78
    assert both.billed == {EU: 0, US: 20}


def test_a_failed_run_rests_for_a_while(both: Accounts) -> None:
    both.sandboxes[EU].stripe.keys.clear()
    with worker(both) as one:
        one.wait_for("job_ended", job="full run of eu", exit_code=78)
        assert one.end() == 0
    with worker(both) as another:
        another.wait_for("worker_started")
        assert another.end() == 0
    assert another.jobs("job_begun") == []


def test_a_worker_that_is_asked_to_end_gives_back_what_it_was_at_and_another_makes_it_good(both: Accounts) -> None:
    both.sandboxes[EU].faults.add(Fault(server="openmeter", path="/query", delay_seconds=3.0))
    with worker(both) as one:
        one.wait_for("list", account=EU)
        one.wait_for("job_ended", job="full run of us", exit_code=0)
        assert one.end() == 0
    assert one.wait_for("job_ended", job="full run of eu")["exit_code"] is None
    both.sandboxes[EU].faults.clear()
    with worker(both, "--drain") as another:
        assert another.ended() == 0
    assert (both.billed, another.jobs("job_ended")) == (BILLED, ["full run of eu"])


def test_a_drain_that_is_asked_to_end_gives_back_what_it_was_at_and_takes_nothing_more(both: Accounts) -> None:
    both.sandboxes[EU].faults.add(Fault(server="openmeter", path="/query", delay_seconds=3.0))
    assert both.meter_sync("run", "--enqueue").code == 0
    with worker(both, "--drain", "--concurrency", "1") as one:
        one.wait_for("list", account=EU)
        assert one.end() == 0
    assert [(job["job"], job["exit_code"]) for job in one.events if job["event"] == "job_ended"] == [
        ("full run of eu", None)
    ]
    with worker(both, "--drain") as another:
        assert another.ended() == 0
    assert both.billed == BILLED


def test_what_was_under_way_on_a_machine_that_is_lost_is_left_to_another(both: Accounts) -> None:
    toml = "".join(map(both.row, both.sandboxes)) + "[worker]\nstalled_after_seconds = 2\n"
    both.sandboxes[EU].faults.add(Fault(server="openmeter", path="/query", delay_seconds=60.0))
    with worker(both, toml=toml) as one:
        one.wait_for("list", account=EU)
        one.wait_for("job_ended", job="full run of us", exit_code=0)
        one.lose()
    both.sandboxes[EU].faults.clear()
    with worker(both, toml=toml) as another:
        another.wait_for("job_lost", job="full run of eu")
        another.wait_for("job_ended", job="full run of eu", exit_code=0)
        assert another.end() == 0
    assert both.billed == BILLED


def test_a_run_whose_worker_was_killed_goes_on_and_no_other_one_comes_between(both: Accounts) -> None:
    toml = "".join(map(both.row, both.sandboxes)) + "[worker]\nstalled_after_seconds = 1\n"
    both.sandboxes[EU].faults.add(Fault(server="openmeter", path="/query", delay_seconds=5.0))
    with worker(both, toml=toml) as one:
        one.wait_for("list", account=EU)
        one.kill()
        with worker(both, toml=toml) as another:
            another.wait_for("job_lost", job="full run of eu")
            another.wait_for("job_ended", job="full run of eu", exit_code=75)
            one.wait_for("record", account=EU)
            assert another.end() == 0
    assert both.billed == BILLED


def test_an_outage_of_the_database_ends_no_worker(both: Accounts) -> None:
    with worker(both, "--listen", "127.0.0.1:0") as one:
        one.wait_for("job_ended", times=2, exit_code=0)
        with server().stopped():
            one.wait_for("worker_cut_off")
            away = one.asked("/healthz")
        one.wait_for("worker_started", times=2)
        well, _ = one.asked("/healthz")
        assert (away[0], "no connection to the ledger's server" in away[1], well) == (503, True, 200)
        assert both.meter_sync("run", "--enqueue", "--account", US).code == 0
        one.wait_for("job_ended", times=3, exit_code=0)
        assert one.end() == 0
    assert both.billed == BILLED


def test_a_worker_that_looks_for_no_jobs_any_more_says_so_and_ends_to_be_started_anew(both: Accounts) -> None:
    toml = "".join(map(both.row, both.sandboxes)) + "[worker]\nstalled_after_seconds = 1\n"
    with worker(both, "--listen", "127.0.0.1:0", toml=toml) as one:
        one.wait_for("job_ended", times=2, exit_code=0)
        with locked_queue(both.ledger):
            one.wait_for("worker_stalled")
            assert one.asked("/healthz")[0] == 503
            assert one.ended() == 1


@contextmanager
def locked_queue(place: Place) -> Iterator[None]:
    """Hold a lock on the table of jobs, so that whoever looks for one waits without end."""
    assert isinstance(place, PostgresUrl)
    with psycopg.connect(place.url) as other:
        ((schema,),) = other.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'meter_sync_jobs_%'"
        ).fetchall()
        other.execute(SQL("LOCK TABLE {}.procrastinate_jobs").format(Identifier(schema)))
        yield


def test_a_worker_ends_though_a_thread_of_it_waits_for_the_ledger(both: Accounts) -> None:
    """The thread that looks for what is due waits for the books, and Python for that thread."""
    toml = "".join(map(both.row, both.sandboxes)) + "[worker]\nstalled_after_seconds = 1\n"
    with worker(both, toml=toml) as one:
        one.wait_for("job_ended", times=2, exit_code=0)
        with locked_books(both.ledger, turns_of("")):
            assert one.end() == 0
    one.wait_for("worker_ended_anyway")


@contextmanager
def locked_books(place: Place, scope: Scope) -> Iterator[None]:
    """Hold the lock on books, from when somebody waits for it, and let nobody else have it."""
    assert isinstance(place, PostgresUrl)
    waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with psycopg.connect(place.url, autocommit=True) as other:
        other.execute("SET lock_timeout = 0")
        other.execute("SELECT pg_advisory_lock(%s)", (key_of(BOOKS, scope),))
        for _ in range(_LOOKS):
            if other.execute(waiting).fetchone():
                break
        yield


def test_a_worker_says_over_http_whether_it_is_well_and_what_it_has_done(both: Accounts) -> None:
    with worker(both, "--listen", "127.0.0.1:0") as one:
        one.wait_for("job_ended", times=2, exit_code=0)
        assert one.asked("/healthz") == (200, '{"status": "ok", "jobs": []}')
        _, figures = one.asked("/metrics")
        assert one.end() == 0
    assert "meter_sync_worker_up 1.0" in figures
    assert 'meter_sync_worker_runs_total{account="eu",exit_code="0",kind="full"} 1.0' in figures
    assert 'meter_sync_run_last_complete_timestamp_seconds{account="us"}' in figures


def test_a_ledger_that_is_a_file_is_refused(both: Accounts, tmp_path: Path) -> None:
    both.ledger = tmp_path / "ledger.sqlite3"
    for arguments in (("worker",), ("run", "--enqueue")):
        done = both.meter_sync(*arguments)
        assert (done.code, "workers share one on a server" in done.stderr) == (78, True)


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--customer", "cus_x"), ("--full",), ("--schedule", "daily")])
def test_only_whole_runs_are_queued(both: Accounts, arguments: tuple[str, ...]) -> None:
    done = both.meter_sync("run", "--enqueue", *arguments)
    assert (done.code, "--enqueue is about whole runs" in done.stderr) == (2, True)
