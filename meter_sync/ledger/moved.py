"""The note in a ledger whose books were moved to another place: whoever goes on with it would bill additions twice.

It is a row of its own beside the epoch. Each change of the books looks for it, so that also who had opened the ledger
before is stopped by it.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import Connection

from meter_sync.core.text import utc
from meter_sync.errors import ConfigurationError
from meter_sync.ledger.schema import epochs

_MOVED = "moved"
PLACE = sa.select(epochs.c.marker).where(epochs.c.name == _MOVED)
"""The query for where the books were moved to."""


def moved_to(connection: Connection) -> str | None:
    """Return where the books were moved to, or None where they were not. The ledger must be of this version."""
    place: str | None = connection.execute(PLACE).scalar()
    return place


def check_not_moved(connection: Connection, shown: object) -> None:
    """Raise ConfigurationError where the books were moved; `shown` is the ledger, as a person knows it."""
    place = moved_to(connection)
    if place is not None:
        raise ConfigurationError(
            f"the books of the ledger {shown} were moved to {place}; nothing was written",
            "name that one with METER_SYNC_LEDGER or `ledger` in the TOML file: two ledgers for one account bill "
            "additions twice",
            code="ledger_moved",
        )


def note_moved(connection: Connection, place: str, at: datetime) -> None:
    """Note, within a transaction, where the books were moved to."""
    connection.execute(sa.delete(epochs).where(epochs.c.name == _MOVED))
    connection.execute(sa.insert(epochs).values(name=_MOVED, epoch=utc(at), marker=place))
