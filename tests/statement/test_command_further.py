"""What else `meter-sync statement` promises: in the slow tier, since each needs a month of its own."""

import json
import os
import stat
from datetime import UTC, datetime

import pytest

from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.statement.test_command import JULY, as_json, statement
from tests.statement.test_figures import DAY, close
from tests.support.tables import carry_out
from tests.support.ways import end_of
from tests.support.world import NOW, World

pytestmark = pytest.mark.every_way


def test_the_same_ledger_gives_the_same_bytes(world: World, ended: SubscriptionView) -> None:
    pages = []
    for name in ("one.html", "other.html"):
        statement(world, *JULY, "--output", name)
        pages.append((world.folder / name).read_bytes())

    assert pages[0] == pages[1]


def test_what_waits_for_nobody_ends_with_0(world: World) -> None:
    one = world.subscribe()
    world.use(one, 30, at=NOW - DAY)
    world.execute()
    close(world, end_of(world, one))

    assert statement(world, *JULY).code == 0


def test_a_month_that_is_not_over_can_be_read_and_not_signed(world: World, ended: SubscriptionView) -> None:
    this_month = f"{datetime.now(UTC):%Y-%m}"

    assert statement(world, "--month", this_month).code == 0
    found = statement(world, "--month", this_month, "--sign", "Ann Example")

    assert (found.code, found.stdout) == (2, "")
    assert "is not over yet" in found.stderr


def test_a_time_in_which_no_period_ended_has_a_page_that_says_so(world: World, ended: SubscriptionView) -> None:
    found = statement(world, "--month", "2025-05")

    assert found.code == 0
    assert "No billing period ended" in found.stdout
    assert "No billing period ended" in (world.folder / "statement-2025-05.html").read_text()


def test_what_cannot_be_written_is_said_and_what_was_there_stays(world: World, ended: SubscriptionView) -> None:
    folder = world.folder / "a folder"
    folder.mkdir()
    page = world.folder / "page.html"
    page.write_text("what was there")

    found = statement(world, *JULY, "--output", str(folder))

    assert found.code == 1
    assert "could not be written: it is a folder; nothing of it is there" in found.stderr
    assert "Traceback" not in found.stderr
    found = statement(world, *JULY, "--output", f"{page}/below.html")
    assert (found.code, page.read_text()) == (1, "what was there")
    assert sorted(one.name for one in world.folder.iterdir() if one.name.startswith(".")) == []


def test_a_page_is_written_with_the_usual_permissions(world: World, ended: SubscriptionView) -> None:
    statement(world, *JULY)
    mask = os.umask(0)
    os.umask(mask)

    assert stat.S_IMODE((world.folder / "statement-2025-07.html").stat().st_mode) == 0o666 & ~mask


def test_statements_are_kept_in_the_folder_that_is_configured(world: World, ended: SubscriptionView) -> None:
    kept = world.folder / "kept" / "of finance"
    world.configure(f'[statement]\nfolder = "{kept}"\n')

    statement(world, *JULY)

    assert [one.name for one in kept.iterdir()] == ["statement-2025-07.html"]


def test_only_a_customer_is_shown_where_one_is_named(world: World, ended: SubscriptionView) -> None:
    other = world.subscribe()
    world.execute()

    found = as_json(world, "--month", "2025-07", "--customer", world.customer_of(ended))

    assert [one["customer"] for one in found["customers"]] == [world.customer_of(ended)]
    assert found["only_customers"] == [world.customer_of(ended)]
    assert world.customer_of(other) not in json.dumps(found)


def test_a_customer_of_whom_the_ledger_has_nothing_is_an_error(world: World, ended: SubscriptionView) -> None:
    found = statement(world, *JULY, "--customer", "cus_unknown")

    assert found.code == 1
    assert "--customer cus_unknown matches nothing in the ledger; nothing was written" in found.stderr


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE seen_periods SET usage = 'x' WHERE item = ?",
        "UPDATE item_periods SET scale = 'x' WHERE item = ?",
        "UPDATE item_periods SET way = 'x' WHERE item = ?",
        "UPDATE item_periods SET subjects = '[' WHERE item = ?",
        "UPDATE writes SET usage = 'x' WHERE item = ?",
    ],
)
def test_what_cannot_be_read_is_named_and_in_none_of_the_figures_and_not_signed(
    world: World, ended: SubscriptionView, damage: str
) -> None:
    other = world.subscribe()
    world.execute()
    (item,) = ended.items
    carry_out(world.ledger, damage, item)

    found = as_json(world)

    assert found["verdict"]["judgement"] == "attention"
    assert "cannot be read" in found["verdict"]["sentence"]
    assert [one.partition(":")[0] for one in found["unread"]] == [item]
    assert item not in json.dumps(found["customers"])
    assert other.items[0] not in json.dumps(found["unread"])
    signed = statement(world, *JULY, "--sign", "Ann Example")
    assert (signed.code, "nothing was signed" in signed.stderr) == (1, True)
