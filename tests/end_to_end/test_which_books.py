"""Whoever starts a command by hand is told which configuration and ledger it works with."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.world import ANCHOR, World

NEW_LEDGER = "This ledger is new, and Stripe holds usage already: is it the right one?"


def run(world: World, *arguments: str, **overrides: str) -> list[str]:
    """The lines of the table of a run."""
    return world.meter_sync("run", "--as-of", world.now.isoformat(), *arguments, **overrides).stdout.splitlines()


def configured_at_home(world: World, toml: str = "") -> dict[str, str]:
    """Write a file that is found, and return where it is looked for."""
    file = world.folder / "home" / "meter-sync" / "meter-sync.toml"
    file.parent.mkdir(parents=True)
    file.write_text(toml)
    return {"XDG_CONFIG_HOME": str(world.folder / "home")}


def logged(world: World, *command: str, **overrides: str) -> list[dict[str, Any]]:
    done = world.meter_sync("--log-format", "json", "--log-level", "info", *command, **overrides)
    return [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("command", [("run", "-n"), ("verify",), ("history",)], ids=" ".join)
def test_the_log_names_the_file_and_the_ledger_in_effect(world: World, command: tuple[str, ...]) -> None:
    (without,) = [event for event in logged(world, *command) if event["event"] == "configuration"]
    world.configure("")
    (given,) = [event for event in logged(world, *command) if event["event"] == "configuration"]

    assert (without["level"], without["file"], without["ledger"]) == ("info", None, str(world.ledger))
    assert (given["file"], given["ledger"]) == (str(world.config), str(world.ledger))


def test_a_file_and_a_ledger_that_nobody_named_are_named_below_the_table(world: World) -> None:
    found, state = configured_at_home(world), world.folder / "elsewhere"

    *_, footer = run(world, **found, METER_SYNC_LEDGER="", XDG_STATE_HOME=str(state))

    file, ledger = Path(found["XDG_CONFIG_HOME"], "meter-sync/meter-sync.toml"), state / "meter-sync/ledger.sqlite3"
    assert footer == f"Configuration file: {file}, found there. Ledger: {ledger}."
    assert ledger.exists()


def test_a_ledger_that_a_found_file_names_is_named_below_the_table(world: World) -> None:
    found = configured_at_home(world, f'ledger = "{world.folder}/other.sqlite3"\n')

    *_, footer = run(world, **found, METER_SYNC_LEDGER="")

    assert footer.endswith(f"found there. Ledger: {world.folder}/other.sqlite3.")


def test_without_a_file_the_table_says_so(world: World) -> None:
    assert run(world)[-1] == "Configuration file: none was found."


def test_what_was_given_is_not_repeated(world: World) -> None:
    world.configure(f'ledger = "{world.ledger}"\n')

    assert "exit code 0." in run(world)[-1]
    assert "exit code 0." in run(world, METER_SYNC_LEDGER="")[-1]


def test_quietly_only_items_are_shown(world: World) -> None:
    world.use(world.subscribe(), 5)
    assert run(world, "--quiet") == []
    world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "missing"}))

    lines = run(world, "--quiet")

    assert "meter_not_found" in lines[1]
    assert "exit code 4." in lines[-1]


def test_a_new_ledger_beside_usage_in_stripe_is_asked_about(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    assert not any(NEW_LEDGER in line for line in run(world))
    other = world.folder / "other" / "ledger.sqlite3"
    world.use(subscription, 7)

    lines = run(world, METER_SYNC_LEDGER=str(other))

    assert f"{NEW_LEDGER} {other}" in lines
    assert world.billed(subscription) == 12
    world.use(subscription, 1)
    assert not any(NEW_LEDGER in line for line in run(world, METER_SYNC_LEDGER=str(other)))


@pytest.mark.parametrize("arguments", [(), ("--quiet",), ("--output", "json")], ids=str)
def test_the_log_asks_about_a_new_ledger_however_quiet_the_run_is(world: World, arguments: tuple[str, ...]) -> None:
    subscription = world.subscribe()
    world.stripe.create_usage_record(subscription.items[0], 30, ANCHOR, "set")
    world.use(subscription, 50)

    done = world.meter_sync("run", "--as-of", world.now.isoformat(), *arguments)

    (event,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert (event["event"], event["level"], event["ledger"]) == ("ledger_new", "warning", str(world.ledger))


def test_a_new_ledger_beside_events_on_a_billing_meter_is_asked_about(world: World) -> None:
    meter = world.stripe.add_meter("api_requests")
    price = world.stripe.add_price(meter=meter, metadata={"om_meter_id": "api_requests"})
    subscription = world.subscribe(price)
    world.use(subscription, 5)
    assert not any(NEW_LEDGER in line for line in run(world))

    lines = run(world, METER_SYNC_LEDGER=str(world.folder / "other" / "ledger.sqlite3"))

    assert any(NEW_LEDGER in line for line in lines)


def test_a_first_run_of_an_account_without_usage_is_no_question(world: World) -> None:
    world.use(world.subscribe(), 5)
    world.subscribe()

    assert not any(NEW_LEDGER in line for line in run(world))
    assert not any(NEW_LEDGER in line for line in run(world))


def closing(world: World, **overrides: str) -> tuple[int, list[str]]:
    """Let the closing line run; return its exit code and what it warned of."""
    done = world.meter_sync("--log-format", "json", "run", "--closing", "3m", "--quiet", **overrides)
    return done.code, [json.loads(line)["event"] for line in done.stderr.splitlines() if line.startswith("{")]


def test_a_closing_run_on_a_ledger_that_no_run_has_used_says_so(world: World) -> None:
    world.subscribe()
    assert closing(world) == (0, ["closing_without_books"])
    world.execute()
    assert closing(world) == (0, [])


def test_a_closing_run_with_a_key_of_the_other_mode_is_refused(world: World) -> None:
    world.subscribe()
    world.execute()
    assert closing(world, STRIPE_API_KEY="rk_live_other")[0] == 78
