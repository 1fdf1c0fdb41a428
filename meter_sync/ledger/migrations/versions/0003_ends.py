"""The end of the period: what was seen and how it ended, short claims of writers, and queued webhook events."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _scope() -> tuple[sa.Column[str], sa.Column[str]]:
    return (
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
    )


def upgrade() -> None:
    """Add the column and make the tables."""
    op.add_column("item_periods", sa.Column("run", sa.String(36)))
    _create_seen_periods()
    op.create_table(
        "claims",
        *_scope(),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("run", sa.String(36), nullable=False),
        sa.Column("is_alone", sa.Boolean, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "webhook_events",
        *_scope(),
        sa.Column("event", sa.String(255), primary_key=True),
        sa.Column("type", sa.String(255), nullable=False),
        sa.Column("subscription", sa.String(255)),
        sa.Column("received_at", sa.BigInteger, nullable=False),
        sa.Column("done_at", sa.BigInteger),
    )


def _create_seen_periods() -> None:
    op.create_table(
        "seen_periods",
        *_scope(),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
        sa.Column("period_end", sa.BigInteger, nullable=False),
        sa.Column("subscription", sa.String(255), nullable=False),
        sa.Column("customer", sa.String(255), nullable=False),
        sa.Column("stripe_meter", sa.String(255)),
        sa.Column("snapshot", sa.Text, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        sa.Column("complete_until", sa.BigInteger),
        sa.Column("is_refused", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("is_invoiced", sa.Boolean),
        sa.Column("read_back_at", sa.BigInteger),
        sa.Column("read_back", sa.BigInteger),
        sa.Column("remainder", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("why", sa.Text),
        sa.Column("named_at", sa.BigInteger),
        sa.Column("closed_at", sa.BigInteger),
        sa.Column("settled", sa.BigInteger),
        sa.Column("settled_at", sa.BigInteger),
        sa.Column("note", sa.Text),
    )
    op.create_index("seen_periods_by_end", "seen_periods", ["account", "mode", "closed_at", "period_end"])
