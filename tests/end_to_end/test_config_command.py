"""`meter-sync config` says what is in effect and where it came from, and all that is wrong at once."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import Outcome, World

NO_KEYS = {"STRIPE_API_KEY": "", "OPENMETER_API_KEY": ""}


def shown(done: Outcome) -> dict[str, dict[str, Any]]:
    """The settings that are shown, by name."""
    assert done.code == 0, done.stderr
    rows = done.document["settings"]
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: row for row in rows}


def show(world: World, *options: str, **overrides: str) -> dict[str, dict[str, Any]]:
    return shown(world.meter_sync(*options, "config", "show", "--output", "json", **overrides))


def source(kind: str, name: str | Path | None = None) -> dict[str, str | None]:
    return {"kind": kind, "name": None if name is None else str(name)}


def test_each_value_is_shown_with_where_it_came_from(world: World) -> None:
    world.configure('schedule = "daily"\n[openmeter]\nconcurrency = 7\n[stripe]\nendpoint_rate = 3\n')

    rows = show(world, METER_SYNC_OPENMETER_CONCURRENCY="9")

    assert {
        name: (rows[name]["value"], rows[name]["source"]) for name in rows if name in ("schedule", "lookback_days")
    } == {
        "schedule": ("daily", source("file", world.config)),
        "lookback_days": (3, source("default")),
    }
    assert rows["openmeter.concurrency"]["value"] == 9
    assert rows["openmeter.concurrency"]["source"] == source("environment", "METER_SYNC_OPENMETER_CONCURRENCY")
    assert rows["stripe.endpoint_rate"]["source"] == source("environment", "METER_SYNC_STRIPE_ENDPOINT_RATE")
    assert (rows["ledger"]["value"], rows["ledger"]["source"]) == (
        str(world.ledger),
        source("environment", "METER_SYNC_LEDGER"),
    )


def test_options_and_their_variables_are_shown_too(world: World) -> None:
    world.configure("")

    rows = show(world, "--log-level", "error", METER_SYNC_LOG_FORMAT="json", METER_SYNC_QUIET="1")

    assert rows["--config"]["value"] == str(world.config)
    assert {name: rows[name]["source"] for name in rows if name.startswith("--")} == {
        "--config": source("option", "--config"),
        "--log-level": source("option", "--log-level"),
        "--log-format": source("environment", "METER_SYNC_LOG_FORMAT"),
        "--no-color": source("default"),
        "--output": source("option", "--output"),
        "--quiet": source("environment", "METER_SYNC_QUIET"),
    }


def test_no_key_is_needed_and_no_server_asked(world: World) -> None:
    rows = show(world, **NO_KEYS)

    assert (rows["stripe.api_key"]["value"], rows["stripe.api_key"]["source"]) == (None, source("default"))
    assert not world.sandbox.requests
    assert not world.ledger.exists()


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_a_secret_is_masked_wherever_it_comes_from(world: World, output: str) -> None:
    file, credentials = world.folder / "key", world.folder / "credentials"
    credentials.mkdir()
    file.write_text("rk_test_hidden\n")
    (credentials / "openmeter_api_key").write_text("om_hidden")
    secrets = {
        **NO_KEYS,
        "STRIPE_API_KEY_FILE": str(file),
        "CREDENTIALS_DIRECTORY": str(credentials),
        "STRIPE_WEBHOOK_SECRET": "whsec_hidden",
    }

    done = world.meter_sync("config", "show", "--output", output, **secrets)

    assert "hidden" not in done.stdout + done.stderr
    assert done.stdout.count("********") == 3
    rows = show(world, **secrets)
    assert rows["stripe.api_key"]["source"] == source("file", file)
    assert rows["openmeter.api_key"]["source"] == source("credentials", credentials / "openmeter_api_key")
    assert rows["stripe.webhook_secret"]["source"] == source("environment", "STRIPE_WEBHOOK_SECRET")


def test_the_credentials_of_a_unit_win_over_the_file_of_the_toml_and_a_variable_over_both(world: World) -> None:
    """The TOML is read by all, the file that it names perhaps not."""
    credentials, file = world.folder / "credentials", world.folder / "key"
    credentials.mkdir()
    (credentials / "stripe_api_key").write_text("rk_test_of_the_unit")
    file.write_text("rk_test_of_the_variable")
    world.configure('[stripe]\napi_key_file = "/root/nobody/reads/this"\n')
    unit = {**NO_KEYS, "CREDENTIALS_DIRECTORY": str(credentials)}

    by_unit = show(world, **unit)["stripe.api_key"]["source"]
    by_variable = show(world, **unit, STRIPE_API_KEY_FILE=str(file))["stripe.api_key"]["source"]

    assert by_unit == source("credentials", credentials / "stripe_api_key")
    assert by_variable == source("file", file)


def test_a_key_that_cannot_be_read_keeps_nothing_else_from_being_shown(world: World) -> None:
    missing = world.folder / "missing"

    rows = show(world, **NO_KEYS, STRIPE_API_KEY_FILE=str(missing))

    assert (rows["stripe.api_key"]["value"], rows["stripe.api_key"]["source"]) == (None, source("file", missing))
    assert rows["schedule"]["value"] == "hourly"


def test_a_rate_that_depends_on_the_key_is_shown_as_it_is_in_effect(world: World) -> None:
    unset = {"METER_SYNC_STRIPE_RATE": "", "METER_SYNC_STRIPE_METER_EVENT_RATE": ""}

    live, unknown = show(world, **unset, STRIPE_API_KEY="rk_live_1"), show(world, **unset, **NO_KEYS)

    assert (live["stripe.rate"]["value"], live["stripe.meter_event_rate"]["value"]) == (100.0, 1000.0)
    assert unknown["stripe.rate"]["value"] is None


def test_the_rows_of_meters_are_shown_as_they_were_written(world: World) -> None:
    world.configure('[[meters]]\nprice = "price_1"\nopenmeter = "api_requests"\nscale = 0.001\n')

    row = show(world)["meters"]

    assert row["value"] == [{"price": "price_1", "openmeter": "api_requests", "scale": "0.001"}]
    assert row["source"] == source("file", world.config)


def test_csv_and_the_table_have_the_same_settings(world: World) -> None:
    names = list(show(world))

    rows = list(csv.DictReader(io.StringIO(world.meter_sync("config", "show", "--output", "csv").stdout)))
    table = world.meter_sync("config", "show").stdout.splitlines()

    assert [row["name"].removeprefix("'") for row in rows] == names
    assert [line.split()[0] for line in table[1:-1]] == names
    assert rows[0].keys() == {"name", "value", "source_kind", "source_name"}


def test_without_a_file_the_places_are_named(world: World) -> None:
    done = world.meter_sync("config", "show", "--output", "json")
    table = world.meter_sync("config", "show").stdout

    places = done.document["places"]
    assert done.document["file"] is None
    assert places[0] == str(world.folder / "meter-sync.toml")
    assert places[-1] == "/etc/meter-sync/meter-sync.toml"
    assert all(place in table for place in places)


def test_the_ledger_of_a_service_is_named_by_where_systemd_keeps_it(world: World) -> None:
    done = world.meter_sync(
        "config", "show", "--output", "json", METER_SYNC_LEDGER="", STATE_DIRECTORY="/var/lib/meter-sync"
    )

    row = shown(done)["ledger"]
    assert (row["value"], row["source"]) == (
        "/var/lib/meter-sync/ledger.sqlite3",
        source("environment", "STATE_DIRECTORY"),
    )
    assert done.document["ledger"] == row["value"]


@pytest.mark.parametrize("command", ["show", "check"])
def test_a_wrong_configuration_is_named_with_78_on_every_way_out(world: World, command: str) -> None:
    world.configure('scheduel = "hourly"\n')

    table = world.meter_sync("config", command, METER_SYNC_SUBJECT="customer.name")
    done = world.meter_sync("config", command, "--output", "json", METER_SYNC_SUBJECT="customer.name")

    for said in ("did you mean schedule?", "METER_SYNC_SUBJECT"):
        assert said in table.stderr
        assert said in done.document["error"]["message"]
    assert (table.code, table.stdout, done.code, done.document["error"]["code"]) == (78, "", 78, "configuration")
    assert done.document["file"] == str(world.config)


def test_check_says_that_all_is_well_and_what_is_in_effect(world: World) -> None:
    world.configure("")

    done = world.meter_sync("config", "check")
    document = world.meter_sync("config", "check", "--output", "json").document

    assert done.code == 0
    assert all(said in done.stdout for said in ("All is well", str(world.config), str(world.ledger), "sandbox mode"))
    assert (document["file"], document["ledger"]) == (str(world.config), str(world.ledger))
    assert (document["problems"], document["error"]) == ([], None)
    assert not world.sandbox.requests


def test_check_names_all_problems_at_once(world: World) -> None:
    world.configure('scheduel = "hourly"\n[stripe]\nendpoint_rat = 1\n')
    wrong = {
        "STRIPE_API_KEY": "pk_test_1",
        "OPENMETER_API_KEY": "",
        "OPENMETER_API_KEY_FILE": str(world.folder / "missing"),
        "METER_SYNC_SCHEDULE": "weekly",
        "METER_SYNC_LEDGR": "x",
        "STRIPE_WEBHOOK_SECRET": "we_1",
    }

    done = world.meter_sync("config", "check", "--output", "json", **wrong)
    rows = world.meter_sync("config", "check", "--output", "csv", **wrong).stdout.splitlines()

    problems = done.document["problems"]
    named = ("scheduel", "stripe.endpoint_rat", "publishable", "missing", "METER_SYNC_SCHEDULE", "LEDGR", "WEBHOOK")
    assert done.code == 78
    assert [name for name in named if not any(name in problem for problem in problems)] == []
    assert len(rows) == len(problems) + 1 == len(named) + 1


def test_check_needs_what_a_run_needs_and_no_secret_of_webhooks(world: World) -> None:
    missing = world.meter_sync("config", "check", **NO_KEYS)

    assert (missing.code, "no Stripe key" in missing.stderr) == (78, True)
    assert world.meter_sync("config", "check").code == 0


def test_a_variable_with_a_slip_ends_every_command_that_reads_the_configuration(world: World) -> None:
    slip = {"METER_SYNC_LEDGR": str(world.folder / "other")}
    for command in (("run", "-n"), ("verify",), ("history",), ("webhook",), ("config", "show")):
        done = world.meter_sync(*command, **slip)
        assert (done.code, "did you mean METER_SYNC_LEDGER?" in done.stderr) == (78, True), command
    assert not world.sandbox.requests


@pytest.mark.parametrize("what", ["folder", "not UTF-8", "circle"])
def test_a_file_that_is_found_and_cannot_be_read_is_no_default(world: World, what: str) -> None:
    folder = world.folder / "meter-sync"
    file = folder / "meter-sync.toml"
    if what == "circle":
        folder.symlink_to(folder)
    else:
        folder.mkdir()
    if what == "folder":
        file.mkdir()
    if what == "not UTF-8":
        file.write_bytes(b'schedule = "\xff"')

    done = world.meter_sync("run", "-n", "--output", "json", XDG_CONFIG_HOME=str(world.folder), METER_SYNC_LEDGR="x")

    message = done.document["error"]["message"]
    assert (done.code, f"{file} cannot be read" in message) == (78, True)
    assert "METER_SYNC_LEDGER?" in message
    assert not world.sandbox.requests


def test_an_empty_config_is_no_search(world: World) -> None:
    """As of a script whose variable is unset: another file, or none, is not what was meant."""
    done = world.meter_sync("--config", "", "run", "-n", "--output", "json")

    assert (done.code, "cannot be read" in done.document["error"]["message"]) == (78, True)
