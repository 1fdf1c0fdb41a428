"""Where a ledger is: as it is configured, in the usual places, and of a shadow account."""

import os
from pathlib import Path

import platformdirs

from meter_sync.config.places import expanded
from meter_sync.net.postgres_url import PostgresUrl, is_postgres_url, postgres_url

STATE_FOLDER = "STATE_DIRECTORY"
"""The variable by which systemd says where a service keeps what lasts."""


_LEDGER_NAME = "ledger.sqlite3"


def shadow_of(ledger: Path | PostgresUrl) -> Path | PostgresUrl:
    """Return where the ledger of a shadow account is: a file beside, or another database of the server."""
    return ledger.with_name(f"shadow-{ledger.name}") if isinstance(ledger, Path) else ledger.beside("shadow_")


def _state_folder() -> Path:
    given = os.environ.get(STATE_FOLDER)
    return Path(given.split(":")[0]) if given else platformdirs.user_state_path("meter-sync")


def usual_ledgers() -> tuple[Path, ...]:
    """Return where a command that is told of no ledger has one, by who runs it: this user, or a service."""
    folders = (
        _state_folder(),
        platformdirs.user_state_path("meter-sync"),
        Path("/var/lib/meter-sync"),
    )
    return tuple(dict.fromkeys(folder / _LEDGER_NAME for folder in folders))


def place_of(value: object) -> Path | PostgresUrl:
    """Return where a ledger is: a file, or a database on a server."""
    if isinstance(value, PostgresUrl):
        return value
    if isinstance(value, str) and is_postgres_url(value):
        return postgres_url(value)
    if not isinstance(value, str | Path):
        raise ValueError("must be a path, or an address such as postgresql://user@host/database")
    return expanded(Path(value))
