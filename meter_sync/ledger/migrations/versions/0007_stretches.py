"""Which stretches were reported, and which were an item's own; and no item goes on with another one's reports.

Stripe bills with an item on a billing meter what is stamped since it was added. Of one that went on with what was
reported for a removed one, it is therefore not known what Stripe holds: it is looked at anew.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_KEY = ("account", "mode", "item", "period_start")


def upgrade() -> None:
    """Add the columns, forget what successors were thought to hold, and take away what named them."""
    op.add_column("item_periods", sa.Column("reported", sa.Text))
    op.add_column("item_periods", sa.Column("earlier_subjects", sa.Text))
    op.add_column("item_periods", sa.Column("meter_id", sa.String(64)))
    op.add_column("item_periods", sa.Column("aggregation", sa.String(20)))
    names = ("reported", "usage_start", "as_of", "period_end")
    known = sa.table("item_periods", *(sa.column(name, sa.Text) for name in names))
    end = sa.case((known.c.as_of < known.c.period_end, known.c.as_of), else_=known.c.period_end)
    stretch = sa.literal("[[") + known.c.usage_start + sa.literal(", ") + end + sa.literal("]]")
    op.execute(sa.update(known).values(reported=stretch))
    seen = sa.table("seen_periods", *map(sa.column, (*_KEY, "continues", "closed_at")))
    wanted = sa.select(*(seen.c[name] for name in _KEY))
    successors = wanted.where(seen.c.continues.is_not(None), seen.c.closed_at.is_(None))
    forgotten = sa.table("forgotten", *map(sa.column, _KEY))
    for name in ("additions", "parts", "item_periods", "forgotten"):
        table = sa.table(name, *map(sa.column, _KEY))
        op.execute(sa.delete(table).where(sa.tuple_(*(table.c[name] for name in _KEY)).in_(successors)))
    op.execute(sa.insert(forgotten).from_select(_KEY, successors))
    op.add_column("seen_periods", sa.Column("own", sa.Text))
    with op.batch_alter_table("seen_periods") as seen_periods:
        seen_periods.drop_column("continues")
        seen_periods.drop_column("born_at")
