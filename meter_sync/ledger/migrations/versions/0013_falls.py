"""How usage fell below what Stripe held: the suspicion stays although later usage grows past that."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "falls",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
        sa.Column("seen_at", sa.BigInteger, primary_key=True),
        sa.Column("before", sa.BigInteger, nullable=False),
        sa.Column("lowest", sa.BigInteger, nullable=False),
    )
