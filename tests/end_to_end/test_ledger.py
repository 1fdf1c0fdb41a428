"""The ledger and its lock: every trouble has one clear message, and nothing is half-written."""

import json
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import filelock
import pytest

from meter_sync.ledger.migrate import REVISIONS
from tests.support.tables import make_older
from tests.support.ways import one_fast
from tests.support.world import World, interrupt


def test_a_run_waits_for_no_other_and_says_to_try_again(world: World) -> None:
    world.subscribe()
    world.run()

    with filelock.FileLock(f"{world.ledger}.lock"):
        done = world.run()

    assert (done.code, done.error_code) == (75, "locked")


def test_a_dry_run_takes_no_lock(world: World) -> None:
    world.subscribe()
    world.run()

    with filelock.FileLock(f"{world.ledger}.lock"):
        assert world.run("-n").code == 0


def test_a_damaged_ledger_is_named_with_the_remedy(world: World) -> None:
    world.ledger.parent.mkdir()
    world.ledger.write_bytes(b"this is not a database, but it is long enough to look like one" * 20)

    done = world.run()

    assert (done.code, done.error_code) == (1, "ledger_damaged")
    assert str(world.ledger) in done.document["error"]["message"]
    assert "move the file away" in done.document["error"]["hint"]
    assert not world.writes


def test_a_ledger_from_a_newer_version_is_left_alone(world: World) -> None:
    world.subscribe()
    world.run()
    with sqlite3.connect(world.ledger) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    for flags in ((), ("-n",)):
        done = world.run(*flags)
        assert (done.code, done.error_code) == (78, "ledger_newer")


def test_another_programs_database_is_not_taken_for_a_ledger(world: World) -> None:
    world.ledger.parent.mkdir()
    with sqlite3.connect(world.ledger) as connection:
        connection.execute("CREATE TABLE diary (entry TEXT)")
    connection.close()

    assert world.run().error_code == "ledger_foreign"


def test_a_state_folder_that_cannot_be_made_is_a_matter_of_configuration(world: World) -> None:
    world.folder.joinpath("file").touch()

    done = world.run(METER_SYNC_LEDGER=str(world.folder / "file" / "ledger.sqlite3"))

    assert (done.code, done.error_code) == (78, "ledger_unwritable")
    assert "METER_SYNC_LEDGER" in done.document["error"]["hint"]


def test_a_ledger_that_is_a_folder_is_a_matter_of_configuration(world: World) -> None:
    world.ledger.mkdir(parents=True)

    assert world.run().code == 78


def test_only_its_user_may_read_the_ledger(world: World) -> None:
    world.subscribe()
    world.run()

    assert stat.S_IMODE(world.ledger.stat().st_mode) == 0o600
    assert stat.S_IMODE(world.ledger.parent.stat().st_mode) == 0o700


def run_with_file_limit(world: World, limit_bytes: int) -> "subprocess.CompletedProcess[str]":
    """Run with files that cannot grow beyond a size: to SQLite that is a full disk."""
    return subprocess.run(
        world.command("run", "--output", "json", "--as-of", world.now.isoformat()),
        env=world.environment(PYTHONDONTWRITEBYTECODE="1"),
        cwd=world.folder,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes)),
    )


def test_a_full_disk_is_the_ledgers_trouble_and_not_stripes(world: World) -> None:
    subscriptions = [world.subscribe() for _ in range(100)]
    for subscription in subscriptions:
        world.use(subscription, 5)
    world.run("--customer", world.customer_of(subscriptions[0]))
    books, copy = world.ledger.parent, world.folder / "copy"
    shutil.copytree(books, copy)
    world.sandbox.requests.clear()
    rows: list[dict[str, str]] = []
    for room in range(80, 512, 8):  # enough for all that is written before the first item is claimed, and not for that
        shutil.rmtree(books)
        shutil.copytree(copy, books)
        done = run_with_file_limit(world, world.ledger.stat().st_size + room * 1024)
        rows = [row for row in json.loads(done.stdout)["items"] if row["outcome"] == "failed"]
        if rows:
            break

    assert {row["reason"] for row in rows} == {"ledger_error"}
    assert not world.writes


def test_a_full_disk_writes_nothing_that_is_not_in_the_ledger(world: World) -> None:
    subscriptions = [world.subscribe() for _ in range(100)]
    for subscription in subscriptions:
        world.use(subscription, 5)
    world.run("--customer", world.customer_of(subscriptions[0]))
    world.sandbox.requests.clear()

    done = run_with_file_limit(world, world.ledger.stat().st_size + 8192)

    assert done.returncode == 1, done.stderr
    assert "ledger_full" in done.stdout
    assert not world.writes
    assert world.run().code == 0
    assert all(world.billed(subscription) == 5 for subscription in subscriptions)


KILLED_WHILE_WRITING = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")  # so that what is changed is in the file before it is committed
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE alembic_version SET version_num = '9999'")
connection.execute("CREATE TABLE large (i)")
connection.executemany("INSERT INTO large VALUES (?)", ((i,) for i in range(50_000)))
os._exit(1)
"""


def test_a_ledger_whose_writer_was_killed_is_put_right_by_the_next_run_and_readers_say_so(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    assert world.run().code == 0
    subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(world.ledger)], check=False)
    journal = world.ledger.with_name(world.ledger.name + "-journal")
    assert journal.exists()

    for command in (("run", "-n"), ("verify",), ("history",)):
        done = world.meter_sync(*command, "--output", "json")
        assert (done.code, done.error_code) == (75, "ledger_unfinished")
        assert "the next run" in done.document["error"]["hint"]
    assert journal.exists()
    world.use(subscription, 2)
    assert world.run().verdict == ("reported", None)
    assert not journal.exists()
    assert world.meter_sync("history").code == 0
    assert world.billed(subscription) == 7


def test_a_run_that_was_missed_is_warned_about(world: World) -> None:
    world.subscribe()
    world.run()
    with sqlite3.connect(world.ledger) as connection:
        connection.execute("UPDATE runs SET started_at = started_at - 7201")
    connection.close()

    warned = world.meter_sync("--log-format", "json", "run", "--as-of", world.now.isoformat())
    assert '"run_missed"' in warned.stderr
    quiet = world.meter_sync("--log-format", "json", "run", "--as-of", world.now.isoformat(), "--schedule", "daily")
    assert quiet.stderr == ""


def test_an_older_instant_than_the_newest_is_refused_but_may_be_looked_at(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.run()
    earlier = (world.now - timedelta(seconds=1)).isoformat()

    refused = world.run("--as-of", earlier)

    assert (refused.code, refused.error_code) == (2, "arguments")
    assert world.run("-n", "--as-of", earlier).code == 0


def test_a_clock_that_went_back_ends_the_run(world: World) -> None:
    world.use(world.subscribe(), 5)
    world.run()
    with sqlite3.connect(world.ledger) as connection:
        in_an_hour = int((datetime.now(UTC) + timedelta(hours=1)).timestamp())
        connection.execute("UPDATE item_periods SET as_of = ?", (in_an_hour,))
    connection.close()
    world.sandbox.requests.clear()

    done = world.meter_sync("run", "--output", "json")

    assert (done.code, done.error_code) == (78, "clock")
    assert not world.writes


@pytest.mark.parametrize("seconds", [90, -90])
def test_a_clock_that_stripe_disagrees_with_ends_the_run(world: World, seconds: int) -> None:
    world.use(world.subscribe(), 5)
    world.sandbox.date_skew_seconds = seconds

    done = world.run()

    assert (done.code, done.error_code) == (78, "clock")
    assert not world.writes


def test_a_run_with_a_wrong_clock_does_not_stand_in_the_way_of_the_next(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.sandbox.date_skew_seconds = -90
    later = world.now + timedelta(minutes=5)
    assert world.run("--as-of", later.isoformat()).error_code == "clock"
    world.sandbox.date_skew_seconds = 0

    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 5


@pytest.mark.parametrize("how", one_fast(["SIGTERM", "SIGINT", "SIGKILL"], "SIGKILL"))
def test_an_ended_run_knows_what_it_sent_and_the_next_one_finishes(world: World, how: str) -> None:
    subscriptions = [world.subscribe() for _ in range(20)]
    for subscription in subscriptions:
        world.use(subscription, 5)
    slowly = {"METER_SYNC_STRIPE_ENDPOINT_RATE": "10"}
    process = world.start("run", "--output", "json", "--as-of", world.now.isoformat(), **slowly)
    world.sandbox.wait_for("POST", "/usage_records")

    ended = interrupt(process, signal.Signals[how])

    if how != "SIGKILL":
        outcomes = [(row["outcome"], row["reason"]) for row in ended.items.values()]
        assert ended.code == 1
        assert set(outcomes) == {("reported", None), ("skipped", "interrupted")}
        sent = [item for item, row in ended.items.items() if row["outcome"] == "reported"]
        assert {item for item in sent if world.stripe.total(item) != 5} == set()
    assert world.run().code == 0
    assert all(world.billed(subscription) == 5 for subscription in subscriptions)


def test_the_ledger_is_where_the_configuration_says(world: World, tmp_path: Path) -> None:
    world.subscribe()
    environment = world.environment(STATE_DIRECTORY=str(tmp_path / "lib"))
    del environment["METER_SYNC_LEDGER"]

    subprocess.run(
        world.command("run", "--as-of", world.now.isoformat()), env=environment, check=True, capture_output=True
    )

    assert (tmp_path / "lib" / "ledger.sqlite3").exists()


def test_a_ledger_is_made_and_brought_up_to_date_before_any_run(world: World) -> None:
    made = world.meter_sync("ledger", "upgrade", "--output", "json").document
    assert (made["before"], made["after"], world.ledger.exists()) == (None, REVISIONS[-1], True)
    make_older(world.ledger)
    said = [world.meter_sync("ledger", "upgrade").stdout for _ in range(2)]
    now = f"{world.ledger} has revision {REVISIONS[-1]}"
    assert said == [f"{now}; it had 0019.\n", f"{now}, as it was.\n"]
    world.subscribe()
    assert world.run().code == 0
