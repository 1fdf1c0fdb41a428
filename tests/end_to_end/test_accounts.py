"""Several accounts in one configuration: each is billed its own usage, and what goes wrong in one is its own."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.ledger import Scope, run_lock
from meter_sync.sandbox.http.faults import Fault
from tests.support.accounts import Accounts, accounts
from tests.support.world import METER, NOW

EU, US = "eu", "us"


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Accounts]:
    with accounts(tmp_path, EU, US) as made:
        yield made


def codes(done: dict[str, object]) -> dict[str, int]:
    """The exit code of each account."""
    rows = done["accounts"]
    assert isinstance(rows, list)
    return {row["name"]: row["summary"]["exit_code"] for row in rows}


def test_each_account_is_billed_its_own_usage_by_one_command(both: Accounts) -> None:
    done = both.run()
    assert (done.code, both.billed) == (0, {EU: 10, US: 20})
    document = done.document
    assert [(row["account"], row["quantity"], row["outcome"]) for row in document["items"]] == [
        (EU, "10", "reported"),
        (US, "20", "reported"),
    ]
    assert (document["summary"]["items"], document["summary"]["reported"], document["run"]["id"]) == (2, 2, None)
    assert len({row["run"]["id"] for row in document["accounts"]}) == 2
    assert [row["outcome"] for row in both.run().document["items"]] == ["unchanged"] * 2


def test_a_table_says_whose_each_item_is(both: Accounts) -> None:
    done = both.meter_sync("run", "--dry-run")
    assert (done.code, both.billed) == (0, {EU: 0, US: 0})
    heading, *rows = done.stdout.splitlines()
    assert heading.startswith("account")
    assert [row.split()[0] for row in rows[:2]] == [EU, US]
    assert "2 accounts, 2 items" in done.stdout


def test_runs_that_could_not_begin_have_ids_of_their_own_too(both: Accounts) -> None:
    toml = both.row(EU) + both.row(US)
    (both.folder / "eu.stripe").unlink()
    (both.folder / "us.stripe").unlink()
    done = both.run(toml=toml)
    assert codes(done.document) == {EU: 78, US: 78}
    assert len({row["run"]["id"] for row in done.document["accounts"]}) == 2


def test_a_wrong_key_of_one_account_changes_nothing_for_another(both: Accounts) -> None:
    both.sandboxes[EU].stripe.keys.clear()
    done = both.run()
    assert (done.code, both.billed) == (78, {EU: 0, US: 20})
    assert codes(done.document) == {EU: 78, US: 0}
    assert "account eu: Stripe does not accept the API key" in done.stderr


def test_a_key_file_that_lacks_is_the_matter_of_its_account(both: Accounts) -> None:
    toml = both.row(EU) + both.row(US)
    (both.folder / "eu.stripe").unlink()
    done = both.run(toml=toml)
    assert (codes(done.document), both.billed) == ({EU: 78, US: 0}, {EU: 0, US: 20})
    assert "account eu: the configuration is wrong" in done.stderr


def test_an_unknown_setting_in_a_row_is_the_matter_of_its_account(both: Accounts) -> None:
    toml = both.row(EU) + "[accounts.brakes]\njump_facto = 3\n" + both.row(US)
    done = both.run(toml=toml)
    assert (codes(done.document), both.billed) == ({EU: 78, US: 0}, {EU: 0, US: 20})
    assert "[[accounts]] eu: brakes.jump_facto: is not a setting" in done.stderr


def test_an_outage_of_one_account_leaves_the_others_alone(both: Accounts) -> None:
    both.sandboxes[EU].faults.add(Fault(server="stripe", status=503, times=100))
    done = both.run()
    assert (done.code, codes(done.document), both.billed) == (75, {EU: 75, US: 0}, {EU: 0, US: 20})


def test_a_run_of_one_account_does_not_wait_for_that_of_another(both: Accounts) -> None:
    with run_lock(both.ledger, Scope(EU, "sandbox")):
        done = both.run()
    assert (codes(done.document), both.billed) == ({EU: 75, US: 0}, {EU: 0, US: 20})


def test_a_held_item_is_its_own_accounts(both: Accounts) -> None:
    both.run()
    both.sandboxes[EU].openmeter.meters.clear()
    both.sandboxes[EU].openmeter.add_meter("another", aggregation="SUM")
    done = both.run()
    assert codes(done.document) == {EU: 4, US: 0}
    assert both.billed == {EU: 10, US: 20}


def test_only_the_accounts_that_are_named_are_worked_on(both: Accounts) -> None:
    done = both.run("--account", US)
    assert (done.code, both.billed) == (0, {EU: 0, US: 20})
    assert both.sandboxes[EU].requests == []
    unknown = both.meter_sync("run", "--account", "use")
    assert (unknown.code, "did you mean us?" in unknown.stderr) == (2, True)


def test_a_customer_is_looked_for_in_all_accounts(both: Accounts) -> None:
    extra = both.sandboxes[US].stripe.add_customer()
    price = next(iter(both.sandboxes[US].stripe.state.prices)).id
    both.sandboxes[US].stripe.add_subscription(extra, [price], period_start=None)
    done = both.run("--customer", extra, "--dry-run")
    assert (done.code, [row["account"] for row in done.document["items"]]) == (0, [US])
    nobody = both.run("--customer", "cus_nobody", "--dry-run")
    assert (nobody.code, {row["error"]["code"] for row in nobody.document["accounts"]}) == (1, {"nothing_selected"})


def test_two_rows_of_one_key_are_refused_before_anything_is_asked(both: Accounts) -> None:
    both.file("us.stripe", "sk_test_eu")
    toml = both.row(EU) + both.row(US).replace("us.stripe", "eu.stripe")
    done = both.run(toml=toml)
    assert (done.code, both.billed) == (78, {EU: 0, US: 0})
    assert "eu and us are of one Stripe key" in done.stderr
    assert both.sandboxes[EU].requests == []


def test_two_keys_of_one_account_are_found_out_and_it_is_billed_once(both: Accounts) -> None:
    both.sandboxes[US].stripe.account = both.sandboxes[EU].stripe.account
    assert both.run("--account", EU).code == 0
    done = both.run()
    assert codes(done.document) == {EU: 0, US: 78}
    assert "account_twice" in {row["error"]["code"] for row in done.document["accounts"] if row["error"]}
    assert both.billed == {EU: 10, US: 0}


def test_a_key_in_the_environment_does_not_take_the_place_of_an_accounts_own(both: Accounts) -> None:
    done = both.run(STRIPE_API_KEY="sk_test_us", OPENMETER_API_KEY="other", OPENMETER_URL="http://127.0.0.1:1")
    assert (done.code, both.billed) == (0, {EU: 10, US: 20})


def test_meters_of_a_row_are_its_own(both: Accounts) -> None:
    """Both prices have the same id in these two sandboxes: a row that is one account's is about its own alone."""
    price = "price_1Sandbox00000001"
    rows = f"[[accounts.meters]]\nprice = '{price}'\nignore = true\n"
    done = both.run(toml=both.row(EU) + rows + both.row(US))
    found = [(row["account"], row["price"], row["outcome"], row["reason"]) for row in done.document["items"]]
    assert found == [(EU, price, "skipped", "ignored"), (US, price, "reported", None)]
    assert both.billed == {EU: 0, US: 20}


def test_brakes_of_a_row_are_its_own(both: Accounts) -> None:
    both.run()
    for sandbox in both.sandboxes.values():
        sandbox.openmeter.add_event(METER, "cus_1Sandbox00000001", NOW - timedelta(minutes=5), value=-5)
    brakes = "[accounts.brakes]\ndecrease_percent = 100\ndecrease_units = 100\n"
    done = both.run(toml=both.row(EU) + both.row(US) + brakes)
    assert [(row["account"], row["outcome"]) for row in done.document["items"]] == [(EU, "held"), (US, "reported")]
    assert both.billed == {EU: 10, US: 15}


def test_verify_history_and_status_may_be_about_one_account(both: Accounts) -> None:
    both.run()
    verified = both.meter_sync("verify", "--account", US, "--output", "json")
    assert [(row["account"], row["actual"]) for row in verified.document["items"]] == [(US, "20")]
    history = both.meter_sync("history", "--account", EU, "--customer", "cus_1Sandbox00000001", "--output", "json")
    assert [row["quantity"] for row in history.document["entries"]] == ["10"]
    status = both.meter_sync("status", "--account", EU, "--output", "json").document
    assert status["runs"]["last_complete_at"] is not None


def test_status_of_all_accounts_has_a_line_for_each_that_somebody_should_look_at(both: Accounts) -> None:
    toml = both.row(EU) + both.row(US)
    assert "account us: " not in both.run("--account", EU).stderr
    done = both.meter_sync("status", toml=toml)
    assert done.code == 4
    assert "accounts  2: 1 well, 1 for somebody to look at\n  us: " in done.stdout
    document = both.meter_sync("status", "--output", "json", toml=toml).document
    assert [(row["account"], row["exit_code"]) for row in document["accounts"]] == [(EU, 0), (US, 4)]
    assert document["workers"] is None
    both.run("--account", US)
    assert both.meter_sync("status", toml=toml).stdout.endswith("All is well.\n")


def test_doctor_examines_each_account_and_what_is_wrong_with_one_is_its_own(both: Accounts) -> None:
    both.run()
    both.sandboxes[EU].stripe.keys.clear()
    done = both.meter_sync("doctor", "--only", "stripe", "--output", "json")
    keys = {row["account"]: row["status"] for row in done.document["checks"] if row["id"] == "stripe_key"}
    assert (done.code, keys) == (78, {EU: "problem", US: "ok"})
    table = both.meter_sync("doctor", "--only", "runs", "--account", US).stdout
    assert ("account us" in table, "account eu" in table) == (True, False)


def test_a_closing_run_reports_what_ends_in_each_account(both: Accounts) -> None:
    both.run()
    soon = datetime(2025, 7, 1, 9, 29, tzinfo=UTC)
    for sandbox in both.sandboxes.values():
        sandbox.clock.move_to(soon)
        sandbox.openmeter.add_event(METER, "cus_1Sandbox00000001", soon - timedelta(minutes=5), value=1)
    done = both.meter_sync("run", "--closing", "3m", "--as-of", soon.isoformat(), "--output", "json")
    assert [(row["account"], row["outcome"]) for row in done.document["items"]] == [(EU, "reported"), (US, "reported")]
    assert (done.code, both.billed) == (0, {EU: 11, US: 21})


def test_a_ledger_is_checked_and_saved_for_all_accounts(both: Accounts) -> None:
    both.run()
    assert both.meter_sync("ledger", "check").code == 0
    assert both.meter_sync("ledger", "backup", "--to", str(both.folder / "backup.sqlite3")).code == 0


def test_all_problems_of_all_accounts_are_named_at_once(both: Accounts) -> None:
    toml = both.row(EU) + "[accounts.brakes]\njump_facto = 3\n" + both.row(US)
    (both.folder / "us.stripe").unlink()
    checked = both.meter_sync("config", "check", toml=toml)
    assert checked.code == 78
    assert "[[accounts]] eu: brakes.jump_facto" in checked.stderr
    assert "[[accounts]] us: the stripe key file" in checked.stderr
    both.file("us.stripe", "sk_test_us")
    assert "Accounts: eu, us." in both.meter_sync("config", "check").stdout
    assert both.meter_sync("config", "show").code == 0


def test_the_log_says_whose_run_it_is(both: Accounts) -> None:
    done = both.meter_sync("--log-format", "json", "--log-level", "info", "run")
    reports = [json.loads(line) for line in done.stderr.splitlines() if '"event": "record"' in line]
    assert {line["account"] for line in reports} == {EU, US}
    assert len({line["run_id"] for line in reports}) == 2


def test_whoever_comes_from_one_account_keeps_its_books(both: Accounts) -> None:
    sandbox = both.sandboxes[EU]
    alone = both.meter_sync("run", "--as-of", NOW.isoformat(), toml="\n", **sandbox.environment())
    assert (alone.code, both.billed[EU]) == (0, 10)
    assert codes(both.run().document) == {EU: 78, US: 0}
    renamed = both.meter_sync("ledger", "rename", "--to", EU)
    assert (renamed.code, "without a name are those of eu now" in renamed.stdout) == (0, True), renamed
    done = both.run()
    assert [row["outcome"] for row in done.document["items"]] == ["unchanged"] * 2
    again = both.meter_sync("ledger", "rename", "--to", "uk", "--output", "json")
    assert (again.code, again.error_code) == (1, "ledger_missing")
