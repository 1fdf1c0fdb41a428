"""What the subjects of an item were in OpenMeter when it was reported: subjects, or customers."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add it; of rows that are there already it is not known."""
    op.add_column("item_periods", sa.Column("grouping", sa.String(20)))
