"""What statements are made from: what was used and is due of a period that has ended, and who signed which of them."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add the columns, and make the table."""
    op.add_column("seen_periods", sa.Column("usage", sa.Text))
    op.add_column("seen_periods", sa.Column("due", sa.BigInteger))
    op.add_column("seen_periods", sa.Column("invoice", sa.String(255)))
    op.add_column("runs", sa.Column("pages", sa.Integer))
    op.create_table(
        "signatures",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("since", sa.BigInteger, primary_key=True),
        sa.Column("until", sa.BigInteger, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("signed_by", sa.Text, nullable=False),
        sa.Column("signed_at", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("bridge", sa.Text, nullable=False),
    )
