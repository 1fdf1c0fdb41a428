"""Alembic's entry: migrations run on the connection that the ledger has open."""

from alembic import context

from meter_sync.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
