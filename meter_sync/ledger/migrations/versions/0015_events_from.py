"""From when on the meter counted by which an item was reported."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the column."""
    op.add_column("item_periods", sa.Column("events_from", sa.BigInteger))
