"""Billing meters: hours and days, additions, and the error events that were seen."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _scope() -> tuple[sa.Column[str], sa.Column[str]]:
    return (
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
    )


def upgrade() -> None:
    """Add the columns and make the tables."""
    for column in (
        sa.Column("way", sa.String(20), nullable=False, server_default="record"),
        sa.Column("stripe_meter", sa.String(255)),
        sa.Column("window", sa.String(10)),
        sa.Column("identifier", sa.String(100)),
        sa.Column("read_whole_at", sa.BigInteger),
        sa.Column("closed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("rejected", sa.Text),
        sa.Column("opening", sa.BigInteger, nullable=False, server_default="0"),
    ):
        op.add_column("item_periods", column)
    op.create_index("item_periods_by_identifier", "item_periods", ["account", "mode", "identifier"])
    _create_parts()
    _create_additions()
    op.create_table(
        "cursors",
        *_scope(),
        sa.Column("cursor", sa.String(50), primary_key=True),
        sa.Column("position", sa.Text, nullable=False),
    )


def _create_parts() -> None:
    op.create_table(
        "parts",
        *_scope(),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Text, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.Column("acknowledged", sa.BigInteger),
        sa.Column("acknowledged_at", sa.BigInteger),
        sa.Column("identifier", sa.String(100)),
        sa.Column("request_id", sa.String(255)),
    )
    op.create_index("parts_by_identifier", "parts", ["account", "mode", "identifier"])


def _create_additions() -> None:
    op.create_table(
        "additions",
        *_scope(),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("identifier", sa.String(100), nullable=False),
        sa.Column("run", sa.String(36), nullable=False),
        sa.Column("base", sa.BigInteger, nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("intended_at", sa.BigInteger, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("attempted_at", sa.BigInteger, nullable=False),
        sa.Column("base_is_read", sa.Boolean, nullable=False),
        sa.Column("delivered_at", sa.BigInteger),
        sa.Column("request_id", sa.String(255)),
        sa.Column("cancel_intended_at", sa.BigInteger),
        sa.Column("cancelled_at", sa.BigInteger),
        sa.Column("in_doubt", sa.Boolean, nullable=False),
        sa.Column("rejected", sa.Text),
    )
    op.create_index("additions_by_identifier", "additions", ["account", "mode", "identifier"])
