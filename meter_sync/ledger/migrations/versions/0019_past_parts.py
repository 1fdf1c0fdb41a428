"""Hours, days and additions, many in a row, and numbers by which packed rows name runs."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "past_parts",
        *_place(),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.Column("total", sa.Text, nullable=False),
        sa.Column("how_many", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "past_additions",
        *_place(),
        sa.Column("highest_base", sa.BigInteger, nullable=False),
        sa.Column("added", sa.BigInteger, nullable=False),
        sa.Column("how_many", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "run_numbers",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("run", sa.String(36), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
    )


def _place() -> list[sa.Column[object]]:
    return [
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
        sa.Column("since", sa.BigInteger, primary_key=True),
    ]
