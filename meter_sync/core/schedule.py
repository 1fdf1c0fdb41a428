"""How often runs come."""

import hashlib
from datetime import datetime, timedelta
from enum import StrEnum

_SPREAD_OVER = timedelta(hours=1)
"""Accounts are spread over so much of an interval, or over all of it where it is shorter."""


class Schedule(StrEnum):
    """What the operator promised: a run in each interval."""

    HOURLY = "hourly"
    DAILY = "daily"

    @property
    def interval(self) -> timedelta:
        """How long one run is after the other."""
        return timedelta(hours=1) if self is Schedule.HOURLY else timedelta(days=1)

    def turn_began(self, account: str, now: datetime) -> datetime:
        """Return since when an account's newest run is due, where accounts are spread over the time by their names.

        A turn begins at the same time of each hour or, daily, within the first hour of each day in UTC.
        """
        spread = min(self.interval, _SPREAD_OVER) // timedelta(seconds=1)
        offset = timedelta(seconds=int.from_bytes(hashlib.sha256(account.encode()).digest()[:8]) % spread)
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return midnight + offset + (now - midnight - offset) // self.interval * self.interval

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
