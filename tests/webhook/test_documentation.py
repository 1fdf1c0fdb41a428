"""The documentation says what the webhook does."""

import re

import click

from meter_sync.cli.webhook import webhook
from meter_sync.webhook.events import RELEVANT
from meter_sync.webhook.server import HEALTH_PATH, WEBHOOK_PATH
from tests.support.documents import blocks, document

PAGE = document("docs/webhook.md")


def help_of_webhook() -> str:
    return webhook.get_help(click.Context(webhook, info_name="webhook"))


def test_the_options_and_their_variables_are_those_of_the_help() -> None:
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `--"))

    for names in (r"--[a-z]+", r"METER_SYNC_[A-Z_]+"):
        assert set(re.findall(names, table)) == set(re.findall(names, help_of_webhook())) - {"--help"}


def test_the_events_to_select_are_those_that_are_read() -> None:
    assert set(re.findall(r"`((?:v1|invoice|customer)\.[a-z_.]+)`", PAGE)) == set(RELEVANT)


def test_the_unit_starts_the_command_with_the_credentials_that_it_looks_for() -> None:
    (unit,) = blocks("docs/webhook.md", "ini")

    assert re.search(r"^ExecStart=/opt/meter-sync/bin/meter-sync webhook$", unit, flags=re.MULTILINE)
    assert set(re.findall(r"LoadCredential=(\w+):", unit)) == {
        "stripe_api_key",
        "stripe_webhook_secret",
        "openmeter_api_key",
    }
    assert "Restart=on-failure" in unit


def test_the_unit_is_as_confined_as_that_of_run() -> None:
    service, _timer = blocks("docs/operation.md", "ini")
    (own,) = blocks("docs/webhook.md", "ini")
    confining = {
        line for line in service.splitlines() if re.match(r"(Cap|Lock|Mem|NoNew|Priv|Prot|Restr|Sys|UM|Dyn)", line)
    }

    assert len(confining) > 20
    assert confining <= set(own.splitlines())


def test_the_paths_are_named() -> None:
    assert f"https://hooks.example.com{WEBHOOK_PATH}`" in PAGE
    assert f"`GET {HEALTH_PATH}`" in PAGE
