"""The ledger's epoch, by which one is known that was restored from a backup."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "epochs",
        sa.Column("name", sa.String(20), primary_key=True),
        sa.Column("epoch", sa.String(36), nullable=False),
        sa.Column("marker", sa.Text),
    )
