"""The migrations build the tables that the program works with."""

from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from meter_sync.ledger import Scope, migrate, open_ledger
from meter_sync.ledger.schema import metadata


def shape(path: Path) -> dict[str, object]:
    """Names, types, nullability, defaults and keys of all tables and indexes, and the revision that is noted."""
    engine = sa.create_engine(f"sqlite:///{path}")
    inspector = sa.inspect(engine)
    tables = {
        table: (
            [
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in inspector.get_columns(table)
            ],
            inspector.get_pk_constraint(table),
            sorted((one["name"] or "", one["unique"], one["column_names"]) for one in inspector.get_indexes(table)),
        )
        for table in inspector.get_table_names()
    }
    with engine.connect() as connection:
        noted = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalars().all()
    engine.dispose()
    return {**tables, "revisions": noted}


def test_a_ledger_that_is_new_is_what_all_migrations_make_of_an_empty_one(tmp_path: Path) -> None:
    new, migrated = tmp_path / "new.sqlite3", tmp_path / "migrated.sqlite3"
    with open_ledger(new, Scope("", "live")):
        pass
    engine = sa.create_engine(f"sqlite:///{migrated}")
    with engine.begin() as connection:
        migrate.migrate(connection)
    engine.dispose()

    assert set(metadata.tables) < set(shape(new))
    assert shape(new) == shape(migrated)


def test_the_newest_migration_is_the_revision_that_the_program_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)

    assert tuple(script.revision for script in scripts.walk_revisions())[::-1] == migrate.REVISIONS


def test_opening_a_ledger_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    for _ in range(2):
        with open_ledger(path, Scope("", "live")) as ledger:
            assert ledger.runs.newest_as_of() is None
