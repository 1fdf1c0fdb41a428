"""Writes that were superseded, many in a row; and what finds periods by customer, subscription, and what waits."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Make the table and the indexes."""
    op.create_table(
        "past_writes",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
        sa.Column("since", sa.BigInteger, primary_key=True),
        sa.Column("how_many", sa.Integer, nullable=False),
        sa.Column("is_by_day", sa.Boolean, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_index("item_periods_by_customer", "item_periods", ["account", "mode", "customer"])
    op.create_index("seen_periods_by_customer", "seen_periods", ["account", "mode", "customer"])
    op.create_index("seen_periods_by_subscription", "seen_periods", ["account", "mode", "subscription"])
    op.create_index("seen_periods_by_late_usage", "seen_periods", ["account", "mode", "late_usage"])
