"""Since when it is known that the invoice of a period was voided, or its draft deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the instant."""
    op.add_column("seen_periods", sa.Column("voided_at", sa.BigInteger))
