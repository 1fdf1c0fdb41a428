"""The first schema: runs, items, item periods, writes, prices."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _scope() -> tuple[sa.Column[str], sa.Column[str]]:
    return (
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
    )


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "runs",
        *_scope(),
        sa.Column("run", sa.String(36), primary_key=True),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("schedule", sa.String(10), nullable=False),
        sa.Column("everything", sa.Boolean, nullable=False),
        sa.Column("exit_code", sa.Integer),
        sa.Column("counts", sa.Text),
    )
    op.create_table(
        "items",
        *_scope(),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("looked_at", sa.BigInteger, nullable=False),
    )
    _create_item_periods()
    _create_writes()
    op.create_table(
        "prices",
        *_scope(),
        sa.Column("price", sa.String(255), primary_key=True),
        sa.Column("found_empty_at", sa.BigInteger, nullable=False),
    )


def _create_item_periods() -> None:
    op.create_table(
        "item_periods",
        *_scope(),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
        sa.Column("period_end", sa.BigInteger, nullable=False),
        sa.Column("subscription", sa.String(255), nullable=False),
        sa.Column("customer", sa.String(255), nullable=False),
        sa.Column("price", sa.String(255), nullable=False),
        sa.Column("target", sa.String(20), nullable=False),
        sa.Column("meter", sa.String(64), nullable=False),
        sa.Column("filter", sa.Text, nullable=False),
        sa.Column("scale", sa.Text, nullable=False),
        sa.Column("rounding", sa.String(20), nullable=False),
        sa.Column("subjects", sa.Text, nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        sa.Column("usage_start", sa.BigInteger, nullable=False),
        sa.Column("anchor", sa.BigInteger, nullable=False),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("acknowledged", sa.BigInteger),
        sa.Column("acknowledged_at", sa.BigInteger),
        sa.Column("foreign_quantity", sa.BigInteger, nullable=False),
        sa.Column("foreign_held", sa.Boolean, nullable=False),
        sa.Column("total_before", sa.BigInteger),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
    )
    op.create_index("item_periods_by_end", "item_periods", ["account", "mode", "period_end"])


def _create_writes() -> None:
    op.create_table(
        "writes",
        *_scope(),
        sa.Column("run", sa.String(36), primary_key=True),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
        sa.Column("step", sa.Integer, primary_key=True),
        sa.Column("anchor", sa.BigInteger, nullable=False),
        sa.Column("usage", sa.Text),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("at_anchor", sa.BigInteger, nullable=False),
        sa.Column("previous", sa.BigInteger),
        sa.Column("intended_at", sa.BigInteger, nullable=False),
        sa.Column("acknowledged_at", sa.BigInteger),
        sa.Column("request_id", sa.String(255)),
    )
    op.create_index("writes_by_item", "writes", ["account", "mode", "item", "period_start"])
