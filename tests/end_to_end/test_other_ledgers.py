"""A ledger that is not the one that the runs use, or not of this version: it never answers as if all were well."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from meter_sync.ledger import Scope, open_ledger
from tests.support.tables import NEW_COLUMNS
from tests.support.ways import end_of
from tests.support.world import Outcome, World

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
PERIOD = "2025-06-01T09:30:17Z"
QUESTIONS = pytest.mark.parametrize(
    "question",
    [
        (),
        ("--unbilled",),
        ("--explain", "cus_1"),
        ("--customer", "cus_1"),
        ("--settle", "si_1", PERIOD, "--note", "by hand"),
        ("--prune", "400d"),
    ],
    ids=lambda question: " ".join(question[:1]) or "runs",
)


def history(world: World, *question: str, **overrides: str) -> Outcome:
    return world.meter_sync("history", "--output", "json", *question, **overrides)


def made_but_not_used(path: Path) -> None:
    with open_ledger(path, Scope("", "sandbox")):
        pass


@QUESTIONS
def test_a_missing_ledger_is_an_error_of_history_and_is_not_made(world: World, question: tuple[str, ...]) -> None:
    done = history(world, *question)

    assert (done.code, done.error_code) == (1, "ledger_missing")
    assert f"{world.ledger} is missing" in done.document["error"]["message"]
    assert "METER_SYNC_LEDGER" in done.document["error"]["hint"]
    assert not world.ledger.parent.exists()


@QUESTIONS
@pytest.mark.parametrize("make", [Path.touch, made_but_not_used], ids=["empty", "unused"])
def test_so_is_one_that_no_run_has_used(world: World, question: tuple[str, ...], make: Callable[[Path], None]) -> None:
    world.ledger.parent.mkdir()
    make(world.ledger)
    before = world.ledger.read_bytes()

    done = history(world, *question)

    assert (done.code, done.error_code) == (1, "ledger_missing")
    assert f"{world.ledger} knows of no run" in done.document["error"]["message"]
    assert world.ledger.read_bytes() == before


def test_a_person_reads_what_to_do(world: World) -> None:
    done = world.meter_sync("history", "--unbilled")

    assert (done.code, done.stdout) == (1, "")
    assert "another user" in done.stderr


# -- of an older version -----------------------------------------------------------------------------


def make_older(path: Path) -> None:
    """Take back the last migrations, as if an earlier version had written the ledger."""
    with closing(sqlite3.connect(path)) as connection, connection:
        kept = "kept_series", "kept_totals", "kept_usages"
        packed = "past_writes", "past_parts", "past_additions", "run_numbers"
        for table in ("falls", *kept, *packed, "callers", "run_locks", "turns", "signatures"):
            connection.execute(f"DROP TABLE {table}")
        connection.execute("DROP INDEX webhook_events_waiting")
        for index in ("customer", "subscription", "late_usage"):
            connection.execute(f"DROP INDEX seen_periods_by_{index}")
        connection.execute("DROP INDEX item_periods_by_customer")
        for column in ("grouping", "events_from"):
            connection.execute(f'ALTER TABLE item_periods DROP COLUMN "{column}"')
        for table, column in NEW_COLUMNS:
            connection.execute(f'ALTER TABLE {table} DROP COLUMN "{column}"')
        connection.execute("UPDATE alembic_version SET version_num = '0012'")


def used_world(world: World) -> str:
    """Let a period end with usage that came too late, and return the item."""
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.execute()
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    world.use(subscription, 3, at=end - HOUR)
    world.execute()
    (item,) = subscription.items
    assert world.unbilled() == {item: 3}
    return item


@pytest.mark.parametrize("question", [(), ("--unbilled",), ("--explain",), ("--item",)], ids=" ".join)
def test_history_reads_an_older_ledger_as_it_is_and_changes_nothing_in_it(
    world: World, question: tuple[str, ...]
) -> None:
    item = used_world(world)
    asked = (*question, *([item] if question in (("--explain",), ("--item",)) else ()))
    as_of_now = history(world, *asked)
    make_older(world.ledger)
    before = world.ledger.read_bytes()

    done = history(world, *asked)

    assert (done.code, done.document) == (as_of_now.code, as_of_now.document)
    assert done.code == (4 if question == ("--unbilled",) else 0)
    assert world.ledger.read_bytes() == before
    assert sorted(one.name for one in world.ledger.parent.iterdir() if "journal" in one.name) == []


def test_a_dry_run_and_verify_know_what_an_older_ledger_knows_and_the_next_run_brings_it_up_to_date(
    world: World,
) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.run()
    world.use(subscription, 2)
    make_older(world.ledger)
    before = world.ledger.read_bytes()

    planned, verified = world.run("--dry-run"), world.meter_sync("verify", "--output", "json")

    assert (planned.item["outcome"], planned.item["previous"], planned.item["quantity"]) == ("planned", "5", "7")
    assert "no run since the one for 2025-06-10T12:00:00Z" in verified.item["message"]
    assert world.ledger.read_bytes() == before
    assert world.run().verdict == ("reported", None)
    assert world.billed(subscription) == 7


def test_a_closing_run_finds_in_an_older_ledger_what_ends(world: World) -> None:
    """Before the next full run, which may be an hour away, periods end."""
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.run()
    make_older(world.ledger)
    world.sandbox.clock.move_to(end_of(world, subscription) - MINUTE)
    world.use(subscription, 2, at=world.now - MINUTE)

    done = world.run("--closing", "3m")

    assert (done.code, done.item["quantity"]) == (0, "7")
    assert world.billed(subscription) == 7
