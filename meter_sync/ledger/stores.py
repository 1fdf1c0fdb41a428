"""Which store a place is."""

from pathlib import Path

from meter_sync.errors import ConfigurationError
from meter_sync.ledger.sqlite import SqliteStore
from meter_sync.ledger.store import Store
from meter_sync.net.postgres_url import PostgresUrl

Place = Path | PostgresUrl
"""Where a ledger is, as it is configured: a file, or a database on a server."""


def store_of(place: Place) -> Store:
    """Return the store that a place is. What servers need is imported only for one.

    Raise ConfigurationError where it is not installed.
    """
    if isinstance(place, Path):
        return SqliteStore(place)
    try:
        from meter_sync.ledger.postgres import PostgresStore
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the ledger is on a server, for which {error.name} is not installed; nothing was read or written",
            "pip install 'meter-sync[postgres]'",
            code="ledger_unwritable",
        ) from error
    return PostgresStore(place)
