"""The migrations build the tables that the program works with."""

from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from meter_sync.ledger import Scope, migrate, open_ledger
from meter_sync.ledger.schema import metadata


def shape(engine: sa.Engine) -> dict[str, object]:
    """Names, types, nullability and keys of all tables and indexes."""
    inspector = sa.inspect(engine)
    return {
        table: (
            [(column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(table)],
            inspector.get_pk_constraint(table)["constrained_columns"],
            sorted((index["name"] or "", index["column_names"]) for index in inspector.get_indexes(table)),
        )
        for table in inspector.get_table_names()
        if table != "alembic_version"
    }


def test_the_migrations_build_the_schema_that_the_program_works_with(tmp_path: Path) -> None:
    migrated = tmp_path / "migrated.sqlite3"
    with open_ledger(migrated, Scope("", "live")):
        pass
    declared = sa.create_engine(f"sqlite:///{tmp_path / 'declared.sqlite3'}")
    metadata.create_all(declared)

    built = sa.create_engine(f"sqlite:///{migrated}")
    assert shape(built) == shape(declared)
    declared.dispose()
    built.dispose()


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
