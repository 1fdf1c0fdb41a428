"""How often runs come."""

from datetime import datetime, timedelta
from enum import StrEnum


class Schedule(StrEnum):
    """What the operator promised: a run in each interval."""

    HOURLY = "hourly"
    DAILY = "daily"

    @property
    def interval(self) -> timedelta:
        """How long one run is after the other."""
        return timedelta(hours=1) if self is Schedule.HOURLY else timedelta(days=1)

    @property
    def missed_after(self) -> timedelta:
        """After so long without a run one is missing: `run` warns of it, and to `verify` it is a difference."""
        return 2 * self.interval

    def overdue_since(
        self, last_complete: datetime | None, first_begun: datetime | None, now: datetime
    ) -> datetime | None:
        """Return since when nothing was billed, if a complete run is overdue, or else None.

        It is overdue two intervals after the last complete run was begun or, where there never was one, after the
        first run of all.
        """
        since = last_complete or first_begun
        return since if since is not None and now - since >= self.missed_after else None
