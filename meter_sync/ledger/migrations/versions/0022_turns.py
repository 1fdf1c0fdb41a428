"""What workers did last for each account."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "turns",
        sa.Column("account", sa.String(255), primary_key=True),
        sa.Column("mode", sa.String(10), primary_key=True),
        sa.Column("kind", sa.String(20), primary_key=True),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("begun_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("exit_code", sa.Integer),
    )
