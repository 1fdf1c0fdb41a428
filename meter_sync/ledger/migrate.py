"""Bringing a ledger to the schema of this version."""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import Connection, inspect, text

from meter_sync.errors import ConfigurationError
from meter_sync.ledger.schema import metadata

REVISIONS = tuple(f"{number:04}" for number in range(1, 25))
"""The migrations in their order; the last one is the schema of this version."""

_REVISION = sa.Table(
    "alembic_version",
    sa.MetaData(),
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
"""Where Alembic keeps a database's revision: made as Alembic makes it."""


def revision(connection: Connection) -> str | None:
    """Return the ledger's revision, or None for an empty database.

    Raise ConfigurationError if the ledger is newer than this program, or no ledger at all.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if "alembic_version" not in tables:
        raise ConfigurationError(
            "the file that METER_SYNC_LEDGER names is another program's database; nothing was written",
            "name a file of its own for the ledger",
            code="ledger_foreign",
        )
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found is not None and found not in REVISIONS:
        raise ConfigurationError(
            f"the ledger was written by a newer meter-sync (revision {found}); nothing was written",
            "install that version again, or a newer one",
            code="ledger_newer",
        )
    return found


def upgrade(connection: Connection) -> None:
    """Bring a ledger to the schema of this version, within the connection's transaction."""
    if revision(connection) == REVISIONS[-1]:
        return
    if inspect(connection).get_table_names():
        migrate(connection)
    else:
        make(connection)


def make(connection: Connection) -> None:
    """Make all tables of a ledger in an empty database, which is what all migrations would come to."""
    metadata.create_all(connection, checkfirst=False)
    _REVISION.create(connection)
    connection.execute(_REVISION.insert().values(version_num=REVISIONS[-1]))


def migrate(connection: Connection) -> None:
    """Run the migrations that the ledger lacks.

    Alembic is imported only here: nearly every run finds the ledger up to date.
    """
    from alembic import command
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
