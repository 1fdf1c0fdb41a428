"""Stripe's events for a fleet: who receives them stores them and answers, and workers report."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.accounts import METER, Accounts
from tests.support.webhook import SECRET, about, serving
from tests.support.workers import worker

pytestmark = pytest.mark.every_way

EU, US = "eu", "us"
CUSTOMER = "cus_1Sandbox00000001"
"""The only one of each account."""


def a_moment_ago() -> datetime:
    """An instant that whoever reports next includes: it reports until the second that it is."""
    return datetime.now(UTC) - timedelta(seconds=2)


def test_an_event_is_stored_and_answered_at_once_and_a_worker_reports_its_account(both: Accounts) -> None:
    assert both.meter_sync("run").code == 0  # so that no full run is due, which would come between
    both.sandboxes[US].openmeter.add_event(METER, CUSTOMER, a_moment_ago(), value=1)
    with serving(both, "--enqueue") as served:
        assert served.deliver(about(both.subscriptions[US]), SECRET, to="/webhook/us") == 200
        served.logged("webhook_queued", account=US)
        assert (both.billed, served.health["queued"]) == ({EU: 10, US: 20}, 1)
        with worker(both) as one:
            one.wait_for("job_ended", job="webhook run of us", exit_code=0)
            assert both.billed == {EU: 10, US: 21}
            assert one.end() == 0
        assert served.health["queued"] == 0
    assert "webhook run of eu" not in one.jobs("job_ended")


def test_an_event_that_comes_while_workers_are_at_work_is_reported_at_once(both: Accounts) -> None:
    with serving(both, "--enqueue") as served, worker(both) as one:
        one.wait_for("job_ended", times=2, exit_code=0)
        for times in (1, 2):
            both.sandboxes[EU].openmeter.add_event(METER, CUSTOMER, a_moment_ago(), value=1)
            assert served.deliver(about(both.subscriptions[EU], f"evt_{times}"), SECRET, to="/webhook/eu") == 200
            one.wait_for("job_ended", times=times, job="webhook run of eu", exit_code=0)
        assert (both.billed, one.end()) == ({EU: 12, US: 20}, 0)


def test_what_fails_stays_stored_and_ends_the_drain_with_its_code(both: Accounts) -> None:
    with serving(both, "--enqueue") as served:
        assert served.deliver(about(both.subscriptions[EU]), SECRET, to="/webhook/eu") == 200
        both.sandboxes[EU].stripe.keys.clear()
        failed = both.meter_sync("webhook", "--drain", "--account", EU)
        assert (failed.code, served.health["queued"]) == (78, 1)
        both.sandboxes[EU].stripe.keys["sk_test_eu"] = None
        done = both.meter_sync("webhook", "--drain", "--account", EU, STRIPE_WEBHOOK_SECRET="")
        assert (done.code, served.health["queued"], both.billed[EU]) == (0, 0, 10)


def test_to_receive_only_and_to_report_only_are_two_things(both: Accounts) -> None:
    done = both.meter_sync("webhook", "--drain", "--enqueue")
    assert (done.code, "give one" in done.stderr) == (2, True)
