"""`meter-sync schedule` is made for the configuration in effect, and has no secret in it."""

import re
from pathlib import Path

import pytest

from tests.support.world import Outcome, World

KINDS = ("crontab", "systemd", "kubernetes")
NO_KEYS = {"STRIPE_API_KEY": "", "OPENMETER_API_KEY": ""}


def scheduled(world: World, kind: str, *options: str, **overrides: str) -> Outcome:
    done = world.meter_sync("schedule", kind, *options, **overrides)
    assert not world.sandbox.requests, "it asks no server"
    assert not world.ledger.exists()
    return done


def variables(world: World, **overrides: str) -> dict[str, str]:
    """What the crontab sets."""
    done = scheduled(world, "crontab", **overrides)
    assert done.code == 0, done.stderr
    return dict(re.findall(r"^([A-Z_a-z]+)=(.*)$", done.stdout, flags=re.MULTILINE))


def test_the_scheduled_commands_see_what_is_in_effect_now(world: World) -> None:
    world.config.write_text("lookback_days = 4\n")
    as_named = variables(world, METER_SYNC_OPENMETER_CONCURRENCY="9")
    world.config = world.config.rename(world.folder / "elsewhere.toml").with_name("meter-sync.toml")
    world.configure("")
    found = scheduled(world, "crontab").stdout

    assert (as_named["METER_SYNC_CONFIG"], as_named["METER_SYNC_LEDGER"]) == (str(world.config), str(world.ledger))
    assert as_named["METER_SYNC_OPENMETER_CONCURRENCY"] == "9"
    assert as_named["OPENMETER_URL"] == world.environment()["OPENMETER_URL"]
    assert as_named["PATH"].split(":")[0] == str(Path(world.command()[0]).parent)
    assert f"METER_SYNC_CONFIG={world.config}\n" in found, "as a file that was found, by its full path"
    assert "METER_SYNC_SCHEDULE" not in as_named


def test_relative_paths_are_those_of_now(world: World) -> None:
    world.configure('ledger = "books/ledger.sqlite3"\n[openmeter]\napi_key_file = "om_key"\n')

    given = variables(world, METER_SYNC_LEDGER="", STRIPE_API_KEY_FILE="key")

    assert given["METER_SYNC_LEDGER"] == f"{world.folder}/books/ledger.sqlite3"
    assert given["STRIPE_API_KEY_FILE"] == f"{world.folder}/key"
    assert given["OPENMETER_API_KEY_FILE"] == f"{world.folder}/om_key"


def test_the_configuration_file_is_not_repeated(world: World) -> None:
    keys = f'[stripe]\napi_key_file = "{world.folder}/key"\n[openmeter]\napi_key_file = "/etc/om_key"\nurl = "https://o.example"\n'
    world.configure(f'schedule = "daily"\nledger = "{world.ledger}"\n{keys}')

    given = variables(world, METER_SYNC_LEDGER="", OPENMETER_URL="", STRIPE_API_BASE="", **NO_KEYS)

    assert {name for name in given if name.startswith(("STRIPE", "OPENMETER", "METER_SYNC"))} == {
        "METER_SYNC_CONFIG",
        *(name for name in world.environment() if name.startswith("METER_SYNC_") and "LEDGER" not in name),
    }
    daily = scheduled(world, "crontab", "--minute", "5", OPENMETER_URL="").stdout
    assert re.search(r"^5 0 \* \* \* .* run --quiet ", daily, flags=re.MULTILINE)


def test_a_daily_schedule_of_the_environment_is_handed_on(world: World) -> None:
    assert variables(world, METER_SYNC_SCHEDULE="daily")["METER_SYNC_SCHEDULE"] == "daily"
    assert "OnCalendar=daily" in scheduled(world, "systemd", METER_SYNC_SCHEDULE="daily").stdout


def test_without_any_key_the_file_of_stripes_is_where_it_usually_is(world: World) -> None:
    given = variables(world, **NO_KEYS, METER_SYNC_LEDGER="", OPENMETER_URL="")

    assert given["STRIPE_API_KEY_FILE"] == "/etc/meter-sync/stripe_api_key"
    assert "OPENMETER_API_KEY_FILE" not in given, "a server of one's own may need none"
    assert "METER_SYNC_LEDGER" not in given, "it is the default of whoever runs it"


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_printed_or_written_and_where_its_file_is_to_be_is_said(world: World, kind: str) -> None:
    credentials, toml = world.folder / "credentials", "[openmeter]\nurl = 'https://o.example'\n"
    credentials.mkdir()
    (credentials / "openmeter_api_key").write_text("om_hidden")
    world.configure(toml)
    secrets = {
        "STRIPE_API_KEY": "rk_test_hidden",
        "OPENMETER_API_KEY": "",
        "CREDENTIALS_DIRECTORY": str(credentials),
        "STRIPE_WEBHOOK_SECRET": "whsec_hidden",
        "HTTPS_PROXY": "http://user:hidden@proxy.example:3128",
        "NO_PROXY": "o.example",
    }

    done = scheduled(world, kind, "--write", "made", **secrets)
    files = {file.name: file.read_text() for file in (world.folder / "made").iterdir()}

    assert done.code == 0, done.stderr
    assert not [text for text in (done.stdout, done.stderr, *files.values()) if "hidden" in text]
    assert "HTTPS_PROXY is left out" in done.stderr
    assert any("NO_PROXY" in text and "o.example" in text for text in files.values())
    keys = {"stripe_api_key", "openmeter_api_key"} | ({"stripe_webhook_secret"} if kind != "crontab" else set())
    assert keys <= {name for text in files.values() for name in re.findall(r"/etc/meter-sync/(\w+)", text)}
    if kind != "kubernetes":
        assert done.stderr.count("is not there yet") == 3
        said = "/etc/meter-sync/stripe_api_key is not there yet"
        assert said in done.stderr
        assert any(f"# TO DO: {said}" in text for text in files.values())
    assert all(
        str(world.folder / "made" / name) in done.stdout.replace("made/", f"{world.folder}/made/") for name in files
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_printed_is_what_is_written_and_can_be_handed_on(world: World, kind: str) -> None:
    printed = scheduled(world, kind).stdout
    scheduled(world, kind, "--write", "made")
    files = {file.name: file.read_text() for file in (world.folder / "made").iterdir()}

    if kind == "crontab":
        assert printed == files.pop("meter-sync.crontab")
        assert set(files) == {"meter-sync.logrotate"}
    elif kind == "kubernetes":
        assert printed == files.pop("meter-sync.yaml")
        assert set(files) == {"Containerfile"}
    else:
        assert len(files) == 9
        for name, text in files.items():
            assert f"# /etc/systemd/system/{name}\n{text}" in printed


def test_a_file_that_was_changed_by_hand_is_not_replaced_unless_told_so(world: World) -> None:
    folder = world.folder / "new" / "made"
    assert scheduled(world, "crontab", "--write", str(folder)).code == 0
    assert scheduled(world, "crontab", "--write", str(folder)).code == 0, "the same may be written again"
    changed, other = folder / "meter-sync.crontab", folder / "meter-sync.logrotate"
    changed.write_text("my own\n")
    other.unlink()

    refused = scheduled(world, "crontab", "--write", str(folder))
    assert (refused.code, refused.stdout) == (1, "")
    assert f"{changed} is there" in refused.stderr
    assert "--force" in refused.stderr
    assert (changed.read_text(), other.exists()) == ("my own\n", False)
    assert scheduled(world, "crontab", "--write", str(folder), "--force").code == 0
    assert changed.read_text() == scheduled(world, "crontab").stdout


def test_a_folder_that_cannot_be_made_is_said(world: World) -> None:
    (world.folder / "file").write_text("")

    done = scheduled(world, "systemd", "--write", "file/made")

    assert (done.code, "could not be written" in done.stderr) == (1, True)


def test_a_value_that_would_begin_another_line_is_refused(world: World) -> None:
    done = scheduled(world, "crontab", METER_SYNC_METER_KEY="key\n* * * * * something")

    assert (done.code, done.stdout) == (78, "")
    assert "METER_SYNC_METER_KEY" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("crontab", "--mailto", "a b"),
        ("crontab", "--log", "relative.log"),
        ("crontab", "--log", "/a\nb"),
        ("crontab", "--user", "a;b"),
        ("crontab", "--minute", "60"),
        ("crontab", "--force"),
        ("systemd", "--mailto", '";id'),
        ("kubernetes", "--namespace", "A"),
        ("kubernetes", "--image", "a b"),
    ],
    ids=" ".join,
)
def test_what_cannot_stand_in_a_file_is_refused(world: World, arguments: tuple[str, ...]) -> None:
    assert scheduled(world, *arguments).code == 2


def test_a_configuration_that_is_wrong_is_not_scheduled(world: World) -> None:
    world.configure("schedul = 'daily'\n")

    assert scheduled(world, "crontab").code == 78
