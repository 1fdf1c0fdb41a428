"""Least privilege: what the program needs of a restricted key, and that it needs nothing else."""

import re
from pathlib import Path

import pytest

from meter_sync.core.outcomes import ExitCode, Outcome
from meter_sync.sandbox import Fault
from tests.support.permissions import EXACTLY, PERMISSIONS, READ_ONLY, Permission
from tests.support.runs import KINDS, Life, executed
from tests.support.ways import one_fast

NEEDED = [permission for permission in PERMISSIONS if not permission.is_optional]
OPTIONAL = [permission for permission in PERMISSIONS if permission.is_optional]
MISSED_BY_THE_CLOCK = {"run_missed"}
"""The runs of these tests are weeks apart."""


def lacking(life: Life) -> set[str]:
    """Live, and return the permissions for which runs were ended by Stripe's refusal."""
    errors = [step.error for step in life.lived() if step.error]
    assert {error.code for error in errors} <= {"stripe_permission"}
    return {name for error in errors for name in re.findall(r"'rak_(\w+)'", error.message)}


def test_with_exactly_these_permissions_every_way_of_running_does_its_work(tmp_path: Path) -> None:
    life = Life(tmp_path, EXACTLY)

    steps = life.lived()

    assert [step.error for step in steps] == [None] * 4
    assert {outcome for step in steps for outcome in step.outcomes} <= {
        Outcome.PLANNED,
        Outcome.REPORTED,
        Outcome.UNCHANGED,
    }
    assert steps[1].outcomes == {Outcome.REPORTED: len(KINDS)}
    assert frozenset[str]().union(*(step.warnings for step in steps)) <= MISSED_BY_THE_CLOCK
    assert not [request for request in life.world.sandbox.requests if request.status == 403]


def test_with_exactly_these_permissions_the_webhook_reports(tmp_path: Path) -> None:
    life = Life(tmp_path, EXACTLY)
    with life.world.sandbox.in_background():
        assert executed(life.world).exit_code is ExitCode.DONE
        life.use(life.world.now)
        life.world.sandbox.clock.advance(life.end - life.world.now)

        codes = [life.webhook(subscription) for subscription in (*life.subscriptions, None)]

    assert codes == [ExitCode.DONE] * (len(KINDS) + 1)
    assert not [request for request in life.world.sandbox.requests if request.status == 403]


@pytest.mark.parametrize("permission", one_fast(NEEDED, NEEDED[0]), ids=lambda one: one.name)
def test_without_one_that_is_needed_a_run_ends_and_names_it(tmp_path: Path, permission: Permission) -> None:
    named = lacking(Life(tmp_path, EXACTLY - {permission.name}))

    assert named
    assert named <= {permission.in_messages, permission.in_messages.replace("_write", "_read")}


@pytest.mark.parametrize("permission", [one for one in PERMISSIONS if one.access == "write"], ids=lambda one: one.name)
def test_where_write_is_needed_read_is_not_enough(tmp_path: Path, permission: Permission) -> None:
    downgraded = EXACTLY - {permission.name} | {permission.name.replace(":write", ":read")}

    assert lacking(Life(tmp_path, downgraded)) == {permission.in_messages}


@pytest.mark.parametrize("permission", one_fast(OPTIONAL, OPTIONAL[0]), ids=lambda one: one.name)
def test_without_one_that_is_optional_the_bill_is_the_same_and_the_log_says_what_is_unread(
    tmp_path: Path, permission: Permission
) -> None:
    whole, narrow = (
        Life(folder(tmp_path, name), permissions)
        for name, permissions in (("whole", EXACTLY), ("narrow", EXACTLY - {permission.name}))
    )

    expected, steps = whole.lived(), narrow.lived()

    assert [step.outcomes for step in steps] == [step.outcomes for step in expected]
    assert [step.error for step in steps] == [None] * 4
    assert frozenset[str]().union(*(step.warnings for step in steps)) - MISSED_BY_THE_CLOCK == {*permission.unread}
    assert narrow.invoiced == whole.invoiced > 0


def test_without_reading_the_account_the_ledger_of_another_one_is_not_noticed(tmp_path: Path) -> None:
    for name, permissions, noticed in (("whole", EXACTLY, True), ("narrow", EXACTLY - {"accounts:read"}, False)):
        life = Life(folder(tmp_path, name), permissions)
        with life.world.sandbox.in_background():
            assert life.run().error is None
            life.world.stripe.account = "acct_1Other"
            error = life.run().error

        assert (error is not None and error.code == "ledger_bound") is noticed


def folder(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir()
    return made


def test_customers_are_read_only_where_subjects_come_from_their_metadata(tmp_path: Path) -> None:
    life = Life(tmp_path, EXACTLY - {"customers:read"}, subject="customer.id")

    assert [step.error for step in life.lived()] == [None] * 4


def test_a_dry_run_needs_no_permission_to_write(tmp_path: Path) -> None:
    life = Life(tmp_path, READ_ONLY)
    with life.world.sandbox.in_background():
        planned = life.run(dry_run=True)
        written = life.run()

    assert planned.error is None
    assert planned.outcomes == {Outcome.PLANNED: len(KINDS)}
    assert written.error
    assert written.error.code == "stripe_permission"
    assert life.world.writes
    assert not [request for request in life.world.writes if request.status != 403]


NEWER = """{"error": {"code": "more_permissions_required", "type": "invalid_request_error", "message":
"Permission denied. The provided key 'rk_test_******WXYZ' does not have the required permissions for this endpoint on
account 'acct_1'. Enabling \\"Events Read\\" ('event_read') permissions on this key would allow this request to
continue."}}""".replace("\n", " ")
"""The other wording that users have reported, with a code."""


def test_it_is_the_status_that_counts_and_not_the_wording(tmp_path: Path) -> None:
    life = Life(tmp_path, EXACTLY)
    life.world.sandbox.faults.add(
        Fault(server="stripe", path="/events$", method="GET", times=None, status=403, text=NEWER)
    )
    with life.world.sandbox.in_background():
        unread = life.run()
        life.world.sandbox.faults.add(Fault(server="stripe", path="/prices$", times=None, status=403, text=NEWER))
        ended = life.run()

    assert unread.error is None
    assert unread.warnings == {"error_events_unread", "events_unread"}
    assert ended.error
    assert ended.error.code == "stripe_permission"
    assert "Enabling" in ended.error.message
