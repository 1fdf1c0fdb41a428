"""What schedules are made for in these tests, and the tools that read them."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meter_sync.cli.schedule.installation import Installation, SecretFile
from meter_sync.core.schedule import Schedule
from meter_sync.net.postgres_url import PostgresUrl

KEYS = Path("/etc/meter-sync")
STRIPE_KEY = SecretFile("stripe_api_key", "STRIPE_API_KEY_FILE", KEYS / "stripe_api_key")
OPENMETER_KEY = SecretFile("openmeter_api_key", "OPENMETER_API_KEY_FILE", KEYS / "openmeter_api_key")
WEBHOOK_SECRET = SecretFile("stripe_webhook_secret", "STRIPE_WEBHOOK_SECRET_FILE", KEYS / "stripe_webhook_secret")

PLAIN = Installation(
    program=Path("/opt/meter-sync/bin/meter-sync"),
    config=None,
    ledger=Path("/var/lib/meter-sync/ledger.sqlite3"),
    schedule=Schedule.HOURLY,
    variables={
        "OPENMETER_URL": "https://openmeter.cloud",
        "METER_SYNC_LEDGER": "/var/lib/meter-sync/ledger.sqlite3",
    },
    keys=(STRIPE_KEY, OPENMETER_KEY),
)
"""That of the documents: what is in effect there by the environment, with both keys in their usual place."""

ODD = replace(
    PLAIN,
    program=Path("/srv/50% of it/meter $sync"),
    config=Path('/srv/a "quoted" one\'s/meter-sync.toml'),
    ledger=Path("/srv/my books/ledger.sqlite3"),
    schedule=Schedule.DAILY,
    variables={"METER_SYNC_METER_KEY": "'$HOME' \\n #%d", "METER_SYNC_LEDGER": "/srv/my books/ledger.sqlite3"},
    webhook_secrets=(WEBHOOK_SECRET,),
    webhook_variables={"METER_SYNC_WEBHOOK_PORT": "8432"},
)
"""One with characters that mean something to cron, to a shell, to systemd or in YAML."""

ON_SERVER = PostgresUrl("postgresql://meter-sync@db.example.com/meter_sync")
OWN_KEYS = (
    SecretFile("stripe_api_key.eu", "", KEYS / "eu_key", is_in_toml=True),
    SecretFile("stripe_api_key.shop-17", "", KEYS / "stripe_api_key.shop-17"),
)
FLEET = replace(
    PLAIN,
    ledger=ON_SERVER,
    variables={**PLAIN.variables, "METER_SYNC_LEDGER": str(ON_SERVER)},
    keys=(OPENMETER_KEY, *OWN_KEYS),
    accounts=("eu", "shop-17"),
    workers=3,
)
"""Workers for two accounts, which have keys of their own at Stripe's and one OpenMeter in common."""

INSTALLATIONS = pytest.mark.parametrize("of", [PLAIN, ODD, FLEET], ids=["plain", "odd", "fleet"])


def tool(name: str) -> str:
    """Return where a tool is, or skip the test."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"this machine has no {name}")
    return found


def changed(**fields: Any) -> Installation:
    """Return the plain installation with other fields."""
    return replace(PLAIN, **fields)
