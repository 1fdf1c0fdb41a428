"""Bringing a ledger to the schema of this version."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from meter_sync.errors import ConfigurationError

REVISIONS = tuple(f"{number:04}" for number in range(1, 20))
"""The migrations in their order; the last one is the schema of this version."""


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
    """Run the migrations that the ledger lacks, within the connection's transaction.

    Alembic is imported only here: nearly every run finds the ledger up to date.
    """
    if revision(connection) == REVISIONS[-1]:
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
