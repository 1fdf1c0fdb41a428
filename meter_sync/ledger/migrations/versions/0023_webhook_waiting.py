"""Finding the events that wait, among all that came in weeks: whoever asks for the webhook's health counts them."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Make the index."""
    waiting = sa.text("done_at IS NULL")
    op.create_index(
        "webhook_events_waiting",
        "webhook_events",
        ["account", "mode"],
        sqlite_where=waiting,
        postgresql_where=waiting,
    )
