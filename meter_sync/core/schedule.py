"""How often runs come."""

from datetime import timedelta
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
