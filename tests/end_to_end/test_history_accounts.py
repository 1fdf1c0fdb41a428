"""`history` of several accounts: what the ledger knows of each, also of those that no row names any more."""

import csv
import io
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meter_sync.core.text import utc
from meter_sync.ledger import Scope, run_lock
from meter_sync.sandbox.stripe.world import StripeWorld
from tests.support.accounts import Accounts, accounts
from tests.support.platform import Platform
from tests.support.postgres import new_ledger
from tests.support.world import METER, NOW, PERIOD_START, Outcome

EU, US = "eu", "us"
END = datetime(2025, 7, 1, 9, 30, 17, tzinfo=UTC)
"""The end of each account's period."""
CUSTOMER = "cus_1Sandbox00000001"
"""Has the same id in both."""


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Accounts]:
    with accounts(tmp_path, EU, US) as made:
        yield made


def told(made: Accounts | Platform, key: str, *arguments: str, toml: str = "") -> list[dict[str, Any]]:
    """What `meter-sync history` says for programs."""
    done = made.meter_sync("history", "--output", "json", *arguments, toml=toml)
    assert done.document["error"] is None, done
    return list(done.document[key])


def change(both: Accounts, statement: str) -> None:
    with closing(sqlite3.connect(str(both.ledger))) as connection, connection:
        connection.execute(statement)


def test_the_last_runs_of_all_accounts_are_listed_the_newest_first(both: Accounts) -> None:
    both.run()
    both.run("--account", US)
    newest, *others = told(both, "runs")
    assert sorted(one["account"] for one in (newest, *others)) == [EU, US, US]
    assert newest["started_at"] >= others[0]["started_at"] >= others[1]["started_at"]  # in whole seconds
    assert [one["run"] for one in told(both, "runs", "--limit", "1")] == [newest["run"]]
    as_csv = csv.DictReader(io.StringIO(both.meter_sync("history", "--output", "csv").stdout))
    assert [row["account"] for row in as_csv] == [newest["account"], *(one["account"] for one in others)]
    heading, first, *_ = both.meter_sync("history").stdout.splitlines()
    assert (heading.split()[0], first.split()[0]) == ("account", newest["account"])


@pytest.mark.parametrize("on_server", [False, pytest.param(True, marks=pytest.mark.every_way)])
def test_what_was_written_of_a_customer_is_told_of_each_account(both: Accounts, on_server: bool) -> None:
    if on_server:
        both.ledger = new_ledger()
    both.run()
    entries = told(both, "entries", "--customer", CUSTOMER)
    assert [(row["account"], row["quantity"]) for row in entries] == [(EU, "10"), (US, "20")]
    explained = told(both, "explanations", "--explain", CUSTOMER)
    assert [(row["account"], row["quantity"]) for row in explained] == [(EU, "10"), (US, "20")]
    words = both.meter_sync("history", "--explain", CUSTOMER).stdout
    assert [line.split()[1] for line in words.splitlines() if line.startswith("account:")] == [EU, US]
    table = both.meter_sync("history", "--customer", CUSTOMER).stdout.splitlines()
    assert [line.split()[0] for line in table[:3]] == ["account", EU, US]


def test_one_account_that_is_named_is_told_of_as_if_it_were_the_only_one(both: Accounts) -> None:
    both.run()
    done = both.meter_sync("history", "--account", EU, "--customer", CUSTOMER, "--output", "json").document
    assert {*done} == {"version", "entries", "error"}
    assert [row["quantity"] for row in done["entries"]] == ["10"]
    assert "account" not in done["entries"][0]
    assert both.meter_sync("history", "--account", EU).stdout.startswith("began")
    several = both.meter_sync("history", "--account", EU, "--account", US, "--output", "json").document
    assert several["accounts"] == [{"name": EU, "error": None}, {"name": US, "error": None}]
    unknown = both.meter_sync("history", "--account", "use")
    assert (unknown.code, "did you mean us?" in unknown.stderr) == (2, True)


def test_a_customer_of_one_account_is_no_failure_of_the_others(both: Accounts) -> None:
    world: StripeWorld = both.sandboxes[US].stripe
    world.add_subscription(world.add_customer(id="cus_extra"), [next(iter(world.state.prices)).id], period_start=NOW)
    both.run()
    extra = both.meter_sync("history", "--customer", "cus_extra", "--output", "json")
    assert (extra.code, extra.stderr, [row["error"] for row in extra.document["accounts"]]) == (0, "", [None, None])
    nobody = both.meter_sync("history", "--customer", "cus_nobody", "--output", "json")
    assert (nobody.code, nobody.error_code) == (1, "nothing_selected")


def test_an_account_of_which_the_ledger_knows_no_run_is_named_and_the_others_are_shown(both: Accounts) -> None:
    both.run("--account", EU)
    done = both.meter_sync("history", "--output", "json")
    assert (done.code, [row["account"] for row in done.document["runs"]]) == (1, [EU])
    assert [row["error"] and row["error"]["code"] for row in done.document["accounts"]] == [None, "ledger_missing"]
    assert "account us: the ledger " in done.stderr
    missing = both.meter_sync("history", METER_SYNC_LEDGER=str(both.folder / "other.sqlite3"))
    assert (missing.code, missing.stderr.count("is missing")) == (1, 1)


def test_books_that_no_row_names_any_more_are_told_of(both: Accounts) -> None:
    both.run()
    rows = told(both, "entries", "--customer", CUSTOMER, toml=both.row(US))
    assert [(row["account"], row["quantity"]) for row in rows] == [(EU, "10"), (US, "20")]
    gone = both.meter_sync("history", "--account", EU, toml=both.row(US))
    assert (gone.code, "1 reported" in gone.stdout) == (0, True)


def test_books_without_a_name_are_told_of_too(both: Accounts) -> None:
    both.meter_sync("run", "--as-of", NOW.isoformat(), toml="\n", **both.sandboxes[EU].environment())
    done = both.meter_sync("history", "--output", "json")
    assert ([row["account"] for row in done.document["runs"]], done.code) == ([None], 1)
    assert [row["name"] for row in done.document["accounts"]] == [EU, US, None]


def test_connected_accounts_are_told_of_without_asking_stripe(tmp_path: Path) -> None:
    platform, toml = Platform(tmp_path), "[connect]\nall = true\n"
    with platform.sandbox.in_background():
        before = platform.meter_sync("history", toml=toml)
        platform.run(toml=toml)
        platform.sandbox.requests.clear()
        runs = told(platform, "runs", toml=toml)
    assert (before.code, "is missing" in before.stderr) == (1, True)
    assert platform.sandbox.requests == []
    assert {row["account"] for row in runs} == {shop.account for shop in platform.shops}


def test_a_damaged_row_of_one_account_is_named_and_the_others_are_shown(both: Accounts) -> None:
    both.run()
    change(both, "UPDATE runs SET counts = 'none' WHERE account = 'eu'")
    done = both.meter_sync("history", "--output", "json")
    assert (done.code, [row["account"] for row in done.document["runs"]]) == (1, [US])
    assert [row["error"] is None for row in done.document["accounts"]] == [False, True]
    assert "account eu: the ledger " in done.stderr


# -- what was left unbilled --------------------------------------------------------------------------


@pytest.fixture
def left(both: Accounts) -> Accounts:
    """Of each account's last period 5 came too late to be billed."""
    both.run()
    both.now = END + timedelta(hours=2)
    for sandbox in both.sandboxes.values():
        sandbox.openmeter.add_event(METER, CUSTOMER, END - timedelta(days=1), value=5)
        sandbox.clock.move_to(both.now)
    both.run()
    return both


def settle(left: Accounts, *arguments: str) -> Outcome:
    item = left.items[EU]
    return left.meter_sync("history", "--settle", item, utc(PERIOD_START), "--note", "by hand", *arguments)


def unbilled(left: Accounts) -> tuple[int, list[tuple[str, str]]]:
    done = left.meter_sync("history", "--unbilled", "--output", "json")
    return done.code, [(row["account"], row["unbilled"]) for row in done.document["unbilled"]]


def test_what_is_unbilled_is_listed_of_all_accounts_and_settled_in_the_one_that_has_it(left: Accounts) -> None:
    """The items have the same id in these two sandboxes, so that both have what is open."""
    assert unbilled(left) == (4, [(EU, "5"), (US, "5")])
    assert "us  cus_1Sandbox00000001  " in left.meter_sync("history", "--unbilled").stdout
    ambiguous = settle(left)
    assert (ambiguous.code, "is open in the accounts eu, us" in ambiguous.stderr) == (2, True)
    assert unbilled(left) == (4, [(EU, "5"), (US, "5")])
    assert settle(left, "--account", US).code == 0
    assert unbilled(left) == (4, [(EU, "5")])
    found = settle(left)
    assert (found.code, "of account eu" in found.stdout) == (0, True)
    assert unbilled(left) == (0, [])
    nothing = settle(left, "--output", "json")
    assert (nothing.code, nothing.error_code) == (1, "nothing_open")


def test_all_accounts_are_pruned_but_for_those_whose_run_is_at_work(both: Accounts) -> None:
    both.run()
    with run_lock(both.ledger, Scope(EU, "sandbox")):
        done = both.meter_sync("history", "--prune", "90d", "--output", "json")
    assert (done.code, {row["account"] for row in done.document["pruned"]}) == (75, {US})
    assert [row["error"] is None for row in done.document["accounts"]] == [False, True]
    words = both.meter_sync("history", "--prune", "90d").stdout.splitlines()
    assert [line.partition(": Forgotten")[0] for line in words] == [EU, US]
