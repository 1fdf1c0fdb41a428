"""Several accounts: what a ledger has of its own is named by theirs, which may be long."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Let names be longer."""
    for table in ("epochs", "bindings"):
        with op.batch_alter_table(table) as changed:
            changed.alter_column("name", existing_type=sa.String(20), type_=sa.String(300), existing_nullable=False)
