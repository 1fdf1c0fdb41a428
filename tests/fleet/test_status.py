"""What status says of workers: who is at work, what waits, and what is stuck."""

import pytest

from meter_sync.sandbox import Fault
from tests.support.accounts import Accounts
from tests.support.workers import worker

pytestmark = pytest.mark.every_way

EU, US = "eu", "us"


def test_who_is_at_work_is_named_with_the_account(both: Accounts) -> None:
    both.sandboxes[EU].faults.add(Fault(server="openmeter", path="/query", delay_seconds=60.0))
    with worker(both) as one:
        one.wait_for("job_ended", job="full run of us", exit_code=0)
        one.wait_for("list", account=EU)
        document = both.meter_sync("status", "--output", "json").document
        shown = both.meter_sync("status").stdout
        one.lose()
    assert (document["workers"]["heard"], document["workers"]["jobs"]) == (1, {"waiting": 0, "under_way": 1})
    of_eu, of_us = document["accounts"]
    assert (of_eu["holds_the_run_lock"] is not None, of_us["holds_the_run_lock"]) == (True, None)
    assert of_us["worker"] == of_eu["worker"] == one.wait_for("worker_started")["worker"]
    assert "at work   1\n  eu: process " in shown


def test_jobs_of_a_worker_that_is_lost_are_stuck_until_another_takes_them(both: Accounts) -> None:
    toml = "".join(map(both.row, both.sandboxes)) + "[worker]\nstalled_after_seconds = 1\n"
    both.sandboxes[EU].faults.add(Fault(server="openmeter", path="/query", delay_seconds=60.0))
    with worker(both, toml=toml) as one:
        one.wait_for("list", account=EU)
        one.wait_for("job_ended", job="full run of us", exit_code=0)
        one.lose()
    both.sandboxes[EU].faults.clear()
    looks = (both.meter_sync("status", "--output", "json", toml=toml).document["workers"]["heard"] for _ in range(200))
    assert 0 in looks, "it counts as silent after a second"
    done = both.meter_sync("status", toml=toml)
    assert done.code == 4
    assert "0 at work, 1 not heard of any more: NOBODY takes jobs" in done.stdout
    assert "STUCK: full run of eu, queued 0 min ago: its worker is lost" in done.stdout
    assert workers_of(both, toml)[EU] == "problem"
    with worker(both, toml=toml) as another:
        another.wait_for("job_ended", job="full run of eu", exit_code=0)
        assert both.meter_sync("status", toml=toml).stdout.endswith("All is well.\n")
        assert another.end() == 0


def workers_of(both: Accounts, toml: str) -> dict[str, str]:
    """What doctor finds of workers, by account."""
    checks = both.meter_sync("doctor", "--only", "runs", "--output", "json", toml=toml).document["checks"]
    return {row["account"]: row["status"] for row in checks if row["id"] == "workers"}


def test_doctor_says_whether_workers_are_at_work_and_which_accounts_job_is_stuck(both: Accounts) -> None:
    toml = "".join(map(both.row, both.sandboxes)) + "[worker]\nstalled_after_seconds = 1\n"
    with worker(both, toml=toml) as one:
        one.wait_for("job_ended", times=2, exit_code=0)
        assert workers_of(both, toml) == {EU: "ok", US: "ok"}
        assert one.end() == 0
    assert workers_of(both, toml) == {EU: "warning", US: "warning"}, "nobody queues what is due any more"
    assert both.meter_sync("status", toml=toml).code == 0, "a drain now and then may do the work"


def test_doctor_says_nothing_of_workers_where_there_never_were_any(both: Accounts) -> None:
    toml = "".join(map(both.row, both.sandboxes))
    assert both.meter_sync("run", toml=toml).code == 0
    assert workers_of(both, toml) == {}
