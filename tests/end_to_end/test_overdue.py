"""Trouble that lasts is said: "try again later" is no answer any more once a complete run is overdue."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import filelock
import pytest

from meter_sync.config import load
from meter_sync.core.outcomes import ExitCode
from meter_sync.core.planning.selection import Selection
from meter_sync.core.text import utc
from meter_sync.ledger import Scope, run_lock
from meter_sync.net.stop import Stop
from meter_sync.sync.books import execute
from meter_sync.sync.request import Request, RunReport
from meter_sync.webhook.reporting import reporter
from tests.support.ways import end_of
from tests.support.world import NOW, World

HOUR = timedelta(hours=1)
AWAY = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True)
class Trouble:
    """What keeps runs from their work, and the code of the error that says so."""

    overrides: dict[str, str]
    code: str
    held: Callable[[World], AbstractContextManager[object]] = lambda _: nullcontext()


TROUBLES = pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(Trouble({"OPENMETER_URL": AWAY}, "openmeter_unreachable"), id="openmeter-away"),
        pytest.param(Trouble({"STRIPE_API_BASE": AWAY}, "stripe_unreachable"), id="stripe-away"),
        pytest.param(Trouble({"OPENMETER_URL": "https://openmter.invalid"}, "openmeter_unreachable"), id="mistyped"),
        pytest.param(Trouble({}, "locked", lambda world: run_lock(world.ledger, Scope("", "sandbox"))), id="locked"),
    ],
)


def at(world: World, after: timedelta, trouble: Trouble | None = None, **request: object) -> RunReport:
    """Do what `meter-sync run` does so long after the start of the test, with or without trouble."""
    world.sandbox.clock.move_to(NOW + after)
    world.sandbox.date_skew_seconds = (world.now - datetime.now(UTC)).total_seconds()
    settings = load(None, world.environment(**(trouble.overrides if trouble else {})), {})
    wanted = Request(**request)  # type: ignore[arg-type]
    with trouble.held(world) if trouble else nullcontext():
        return asyncio.run(execute(settings, wanted, world.sandbox.clock.now, Stop())).report


def message(report: RunReport) -> str:
    assert report.error
    return report.error.message


@TROUBLES
def test_over_a_week_it_is_to_be_tried_again_twice_and_then_a_failure_until_it_is_over(
    world: World, trouble: Trouble
) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    assert at(world, 0 * HOUR).exit_code is ExitCode.DONE

    reports = [at(world, hours * HOUR, trouble) for hours in (1, 1.9, 2, 3, 24, 7 * 24)]

    assert [one.exit_code for one in reports] == [75, 75, 1, 1, 1, 1]
    assert {one.error and one.error.code for one in reports} == {trouble.code}
    since = f"no complete run since {utc(NOW)}"
    assert [since in message(one) for one in reports] == [False, False, True, True, True, True]
    assert all(one.error and one.error.hint for one in reports)
    assert at(world, 7 * 24 * HOUR + HOUR).exit_code is ExitCode.DONE
    assert at(world, 7 * 24 * HOUR + 2 * HOUR, trouble).exit_code is ExitCode.TRY_AGAIN


@pytest.mark.parametrize("address", ["OPENMETER_URL", "STRIPE_API_BASE"])
def test_a_ledger_whose_runs_were_never_complete_counts_from_the_first(world: World, address: str) -> None:
    away = Trouble({address: AWAY}, "")
    world.subscribe()

    codes = [at(world, hours * HOUR, away).exit_code for hours in (0, 1, 2, 3)]

    assert codes == [75, 75, 1, 1]
    assert f"no complete run since {utc(NOW)}" in message(at(world, 4 * HOUR, away))
    assert at(world, 5 * HOUR).exit_code is ExitCode.DONE


def test_the_schedule_says_how_long_is_too_long(world: World) -> None:
    away = Trouble({"OPENMETER_URL": AWAY, "METER_SYNC_SCHEDULE": "daily"}, "")
    world.subscribe()
    at(world, 0 * HOUR)

    assert [at(world, hours * HOUR, away).exit_code for hours in (24, 47, 48)] == [75, 75, 1]


def test_a_narrowed_run_says_so_too_and_is_no_complete_one(world: World) -> None:
    away = Trouble({"OPENMETER_URL": AWAY}, "")
    one_customer = Selection(customers=(world.customer_of(world.subscribe()),))
    at(world, 0 * HOUR)

    assert at(world, HOUR, away, selection=one_customer).exit_code is ExitCode.TRY_AGAIN
    assert at(world, 2 * HOUR, selection=one_customer).exit_code is ExitCode.DONE
    assert at(world, 3 * HOUR, away, selection=one_customer).exit_code is ExitCode.FAILED


def test_the_ledger_keeps_what_a_run_ended_with(world: World) -> None:
    away = Trouble({"OPENMETER_URL": AWAY}, "")
    world.subscribe()
    for hours in range(4):
        at(world, hours * HOUR, away if hours else None)

    with world.books() as ledger:
        assert [one.exit_code for one in ledger.runs.past(None, None, 9)] == [1, 1, 75, 0]


@pytest.mark.parametrize(
    "request_", [{"dry_run": True}, {"closing": 3 * HOUR, "is_beside": True}], ids=["dry", "closing"]
)
def test_what_no_schedule_waits_for_says_as_ever_to_try_again(world: World, request_: dict[str, object]) -> None:
    """Full runs say it: a closing run would repeat it every minute."""
    away = Trouble({"OPENMETER_URL": AWAY}, "")
    subscription = world.subscribe()
    at(world, 0 * HOUR)
    before_the_end = end_of(world, subscription) - HOUR - NOW

    report = at(world, before_the_end, away, **request_)

    assert (report.exit_code, "no complete run" in message(report)) == (75, False)
    assert at(world, before_the_end, away).exit_code is ExitCode.FAILED


def test_the_webhooks_queue_goes_on_waiting(world: World) -> None:
    subscription = world.subscribe()
    at(world, 0 * HOUR)
    world.sandbox.clock.advance(9 * HOUR)
    settings = load(None, world.environment(STRIPE_API_BASE=AWAY), {})

    async def report() -> ExitCode:
        return await reporter(settings, world.sandbox.clock.now, Stop())(subscription.id)

    assert asyncio.run(report()) is ExitCode.TRY_AGAIN


def test_on_a_test_clock_nothing_is_overdue(world: World) -> None:
    clock = world.stripe.add_test_clock(NOW)
    away = Trouble({"OPENMETER_URL": AWAY}, "")
    world.subscribe(customer=world.stripe.add_customer(test_clock=clock))
    assert at(world, 0 * HOUR, test_clock=clock).exit_code is ExitCode.DONE
    world.stripe.advance_test_clock(clock, NOW + 20 * 24 * HOUR)

    assert at(world, HOUR, away, test_clock=clock).exit_code is ExitCode.TRY_AGAIN


# -- as cron sees it ---------------------------------------------------------------------------------


def let_it_be_earlier(world: World, by: timedelta) -> None:
    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        connection.execute("UPDATE runs SET started_at = started_at - ?", (int(by.total_seconds()),))


def test_the_command_says_since_when_in_words_and_in_the_document(world: World) -> None:
    world.use(world.subscribe(), 5)
    world.run()
    assert world.run(OPENMETER_URL=AWAY).code == 75
    let_it_be_earlier(world, 2 * HOUR)

    done = world.run(OPENMETER_URL=AWAY)

    assert (done.code, done.document["summary"]["exit_code"], done.error_code) == (1, 1, "openmeter_unreachable")
    assert "no complete run since 20" in done.document["error"]["message"]
    assert "no complete run since 20" in done.stderr
    assert world.meter_sync("history", "--output", "json").document["runs"][0]["exit_code"] == 1
    assert world.run("-n", OPENMETER_URL=AWAY).code == 75
    assert world.run().code == 0
    assert world.run(OPENMETER_URL=AWAY).code == 75


def test_a_lock_that_is_held_for_long_is_said_by_the_command(world: World) -> None:
    world.subscribe()
    world.run()

    with filelock.FileLock(f"{world.ledger}.lock"):
        assert world.run().code == 75
        let_it_be_earlier(world, 2 * HOUR)
        done = world.run()

    assert (done.code, done.error_code) == (1, "locked")
    assert "no complete run since" in done.document["error"]["message"]


def test_a_lock_over_a_ledger_that_cannot_be_read_is_to_be_tried_again(world: World) -> None:
    world.ledger.parent.mkdir()
    world.ledger.write_bytes(b"this is not a database, but it is long enough to look like one" * 20)

    with filelock.FileLock(f"{world.ledger}.lock"):
        assert (world.run().code, world.run().error_code) == (75, "locked")


def test_the_closing_line_repeats_nothing_of_what_full_runs_say(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.run()
    let_it_be_earlier(world, 3 * HOUR)
    as_of = (end_of(world, subscription) - timedelta(minutes=1)).isoformat()

    done = world.meter_sync("run", "--closing", "3m", "--quiet", "--as-of", as_of, OPENMETER_URL=AWAY)

    assert (done.code, done.stdout) == (75, "")
    assert "could not be asked" in done.stderr
