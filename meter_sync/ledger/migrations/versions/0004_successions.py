"""Items that took another's place on a billing meter."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("seen_periods", sa.Column("continues", sa.String(255)))
    op.add_column("seen_periods", sa.Column("born_at", sa.BigInteger))
