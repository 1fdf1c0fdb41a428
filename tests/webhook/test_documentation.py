"""The documentation says what the webhook does."""

import re
from dataclasses import replace

import click

from meter_sync.cli.schedule.systemd import made
from meter_sync.cli.webhook import webhook
from meter_sync.webhook.events import RELEVANT
from meter_sync.webhook.server import HEALTH_PATH, WEBHOOK_PATH
from tests.schedule.installations import PLAIN, WEBHOOK_SECRET
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


def test_the_unit_that_is_named_starts_the_command_and_is_made_where_the_secret_is_configured() -> None:
    assert "`meter-sync-webhook.service`" in PAGE
    assert "STRIPE_WEBHOOK_SECRET_FILE" in "".join(blocks("docs/webhook.md", "sh"))
    unit = made(replace(PLAIN, webhook_secrets=(WEBHOOK_SECRET,)), "root").files["meter-sync-webhook.service"]

    assert re.search(r"^ExecStart=/opt/meter-sync/bin/meter-sync --log-level info webhook$", unit, flags=re.MULTILINE)
    assert {"Restart=on-failure", "RestartPreventExitStatus=78"} <= set(unit.splitlines())


def test_the_paths_are_named() -> None:
    assert f"https://hooks.example.com{WEBHOOK_PATH}`" in PAGE
    assert f"`GET {HEALTH_PATH}`" in PAGE
