"""Periods of which it is not known any more what Stripe holds."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "forgotten",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
    )
