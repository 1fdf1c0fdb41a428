"""`meter-sync statement` as who calls it meets it: files, words, exit codes, and what it refuses."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.world import Outcome, World

JULY = ("--month", "2025-07")


def statement(world: World, *arguments: str) -> Outcome:
    return world.meter_sync("statement", *arguments)


def as_json(world: World, *arguments: str) -> dict[str, Any]:
    found = statement(world, *(arguments or JULY), "--output-format", "json", "--output", "-")
    document: dict[str, Any] = json.loads(found.stdout)
    return document


def test_it_asks_no_server_and_says_what_waits_and_where_the_page_is(world: World, ended: SubscriptionView) -> None:
    asked = len(world.sandbox.requests)

    found = statement(world, *JULY)

    assert (found.code, found.stderr) == (4, "")
    assert "1 matter of 1 customer" in found.stdout
    assert "wrote statement-2025-07.html" in found.stdout
    assert world.customer_of(ended) in (world.folder / "statement-2025-07.html").read_text()
    assert len(world.sandbox.requests) == asked


def test_csv_has_a_line_for_each_period_that_adds_up(world: World, ended: SubscriptionView) -> None:
    found = statement(world, *JULY, "--output-format", "csv", "--output", "-")

    (line,) = csv.DictReader(io.StringIO(found.stdout))
    assert [line[name] for name in ("used", "billed", "unbilled", "difference")] == ["35", "30", "5", "0"]


def test_invoices_are_asked_for_only_where_that_is_wished_and_a_difference_is_told(
    world: World, ended: SubscriptionView
) -> None:
    assert as_json(world)["made"]["invoices_asked"] is False
    (invoice,) = [one for one in world.stripe.invoices if one.lines]
    invoice.lines[0].quantity += 2

    found = as_json(world, *JULY, "--check-invoices")

    kinds = [one["kind"] for one in found["matters"]]
    assert kinds == ["invoice_differs", "unbilled"]
    assert found["customers"][0]["items"][0]["invoiced"] == "32"


def test_who_has_signed_which_digest_is_kept_and_told(world: World, ended: SubscriptionView) -> None:
    found = statement(world, *JULY, "--sign", "Ann Example")

    assert "signed by Ann Example" in found.stdout
    (signature,) = as_json(world)["signatures"]
    assert signature["signed_by"] == "Ann Example"
    assert signature["is_of_this"] is True
    assert as_json(world, "--month", "2025-08")["changed_since"] == []


def test_a_later_change_to_a_signed_time_is_named_on_the_next_statement(world: World, ended: SubscriptionView) -> None:
    statement(world, *JULY, "--sign", "Ann Example")
    (item,) = ended.items
    start = datetime.fromtimestamp(world.stripe.state.items[item].closed[0].period.start, UTC).isoformat()
    assert world.meter_sync("history", "--settle", item, start, "--note", "credit note 7").code == 0

    (changed,) = as_json(world, "--month", "2025-08")["changed_since"]
    assert (changed["before"]["unbilled"], changed["now"]["unbilled"]) == ("5", "0")
    assert (changed["before"]["settled"], changed["now"]["settled"]) == ("0", "5")
    (signature,) = as_json(world)["signatures"]
    assert signature["is_of_this"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--month", "2999-01"), "2999-01 has not begun yet"),
        (("--month", "2025-07", "--since", "2025-07-01"), "two ways to name a time"),
        (("--until", "2025-07-01"), "--until belongs to --since"),
        (("--since", "2025-07-02", "--until", "2025-07-02"), "has no day in it"),
        (("--sign", "  "), "the name is empty"),
        (("--sign", "Ann\nBob"), "in at most 200 characters"),
        (("--sign", "Ann", "--customer", "cus_1"), "cannot be signed"),
        (("--locale", "xx-YY"), "there is no locale"),
        (("--account", "eu"), "there is no account"),
    ],
)
def test_what_cannot_be_followed_is_said_and_nothing_is_written(
    world: World, arguments: tuple[str, ...], said: str
) -> None:
    found = statement(world, *arguments)

    assert (found.code, found.stdout) == (2, "")
    assert said in found.stderr
    assert [*world.folder.glob("*.html")] == []


def test_an_account_that_never_ran_has_no_statement(world: World) -> None:
    found = statement(world, *JULY)

    assert found.code == 1
    assert "it says nothing of what was billed" in found.stderr


def test_a_ledger_of_the_version_before_has_a_statement_too(world: World, ended: SubscriptionView) -> None:
    from tests.support.tables import make_older

    now = as_json(world)
    make_older(world.ledger)

    found = as_json(world)

    assert found["whole"]["bridge"] == now["whole"]["bridge"]
