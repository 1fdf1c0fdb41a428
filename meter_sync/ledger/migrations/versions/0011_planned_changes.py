"""When changes are planned within periods, so that closing runs report what was used before them."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the instants."""
    op.add_column("seen_periods", sa.Column("changes_at", sa.BigInteger))
    op.add_column("seen_periods", sa.Column("may_change_until", sa.BigInteger))
