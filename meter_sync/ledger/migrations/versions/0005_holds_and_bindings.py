"""What kept items from being reported, and the Stripe account that the ledger is about."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "holds",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("outcome", sa.String(20), nullable=False),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.Column("message", sa.Text),
        sa.Column("usage", sa.Text),
        sa.Column("quantity", sa.BigInteger),
        sa.Column("previous", sa.BigInteger),
        sa.Column("first_run", sa.String(36), nullable=False),
        sa.Column("first_at", sa.BigInteger, nullable=False),
        sa.Column("last_run", sa.String(36), nullable=False),
        sa.Column("last_at", sa.BigInteger, nullable=False),
        sa.Column("times", sa.Integer, nullable=False),
    )
    op.create_table(
        "bindings",
        sa.Column("name", sa.String(20), primary_key=True),
        sa.Column("stripe_account", sa.String(255), nullable=False),
        sa.Column("mode", sa.String(10), nullable=False),
        sa.Column("bound_at", sa.BigInteger, nullable=False),
    )
