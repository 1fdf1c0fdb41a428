"""What a period does not bill, and is added to the next one of its item; and what is not known of its end."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table, and say of each remainder what becomes of it."""
    op.create_table(
        "carries",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("item", sa.String(255), primary_key=True),
        sa.Column("period_start", sa.BigInteger, primary_key=True),
        sa.Column("into", sa.BigInteger, primary_key=True),
        sa.Column("quantity", sa.BigInteger, nullable=False),
    )
    op.create_index("carries_by_target", "carries", ["account", "mode", "item", "into"])
    op.add_column("seen_periods", sa.Column("late_usage", sa.String(10)))
    op.add_column("seen_periods", sa.Column("not_known", sa.Text))
    op.add_column("writes", sa.Column("carried", sa.BigInteger, nullable=False, server_default="0"))
