"""Usage that is kept between runs, so that each asks for what has come to it."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "kept_series",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("series", sa.String(16), primary_key=True),
        sa.Column("meter_id", sa.String(255), nullable=False),
        sa.Column("meter", sa.String(255), nullable=False),
        sa.Column("filter", sa.Text, nullable=False),
        sa.Column("grouping", sa.String(20), nullable=False),
        sa.Column("aggregation", sa.String(20), nullable=False),
        sa.Column("read_at", sa.BigInteger, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
        sa.Column("joints", sa.Text, nullable=False),
    )
    op.create_table(
        "kept_totals",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("series", sa.String(16), primary_key=True),
        sa.Column("subject", sa.String(255), primary_key=True),
        sa.Column("totals", sa.Text, nullable=False),
    )
    op.create_table(
        "kept_usages",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("series", sa.String(16), primary_key=True),
        sa.Column("need", sa.String(255), primary_key=True),
        sa.Column("start", sa.BigInteger, primary_key=True),
        sa.Column("subjects", sa.Text, nullable=False),
        sa.Column("end", sa.BigInteger, nullable=False),
        sa.Column("window", sa.String(10)),
        sa.Column("usage", sa.Text),
    )
