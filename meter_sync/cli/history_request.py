"""What a person asks `meter-sync history` for."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from meter_sync.core.telling.history import Sought


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """The options as they were given; times are in UTC."""

    sought: Sought
    parts: bool
    since: datetime | None
    until: datetime | None
    limit: int
    explain: str | None
    """An item, a subscription or a customer."""
    period: datetime | None
    unbilled: bool
    settle: tuple[str, datetime] | None
    """An item and the start of its period."""
    note: str | None
    prune: timedelta | None

    def is_within(self, at: datetime) -> bool:
        """Say whether something happened in the time that was asked for."""
        return (self.since is None or at >= self.since) and (self.until is None or at < self.until)
