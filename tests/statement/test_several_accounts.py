"""Statements of several accounts: one for each, and what goes wrong with one is its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.accounts import Accounts, accounts

MONTH = ("--month", "2025-06")


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Accounts]:
    with accounts(tmp_path, "eu", "us") as made:
        made.run()
        yield made


def names(of: Accounts) -> list[str]:
    return sorted(one.name for one in of.folder.glob("*.html"))


def test_there_is_a_page_for_each_or_for_those_that_are_named(both: Accounts) -> None:
    assert both.meter_sync("statement", *MONTH, "--account", "us").code == 0
    assert names(both) == ["statement-us-2025-06.html"]

    found = both.meter_sync("statement", *MONTH)

    assert names(both) == ["statement-eu-2025-06.html", "statement-us-2025-06.html"]
    assert [line.partition(":")[0] for line in found.stdout.splitlines()] == ["eu", "eu", "us", "us"]
    assert "acct_1Eu" in (both.folder / "statement-eu-2025-06.html").read_text()


def test_one_that_never_ran_keeps_no_other_from_its_page(both: Accounts) -> None:
    later = both.row("eu") + both.row("us").replace('"us"', '"new"')

    found = both.meter_sync("statement", *MONTH, toml=later)

    assert found.code == 1
    assert names(both) == ["statement-eu-2025-06.html"]
    assert "account new: the ledger" in found.stderr


def test_one_file_is_for_one_account(both: Accounts) -> None:
    found = both.meter_sync("statement", *MONTH, "--output", "x.html")

    assert (found.code, names(both)) == (2, [])
    assert "there are several accounts" in found.stderr


def test_who_has_signed_is_listed_by_account(both: Accounts) -> None:
    for name in ("eu", "us"):
        both.meter_sync("statement", "--month", "2025-05", "--account", name, "--sign", f"Ann of {name}")

    found = both.meter_sync("history", "--signed", "--output", "json").document["signatures"]

    assert [(one["account"], one["signed_by"], one["since"]) for one in found] == [
        ("eu", "Ann of eu", "2025-05-01T00:00:00Z"),
        ("us", "Ann of us", "2025-05-01T00:00:00Z"),
    ]
    assert "Ann of eu" in both.meter_sync("history", "--signed").stdout
