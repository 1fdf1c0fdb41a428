"""Instants of these tests: the sandbox's clock stands still at NOW, in the period of November 2026."""

from datetime import UTC, datetime, timedelta

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
PERIOD_START = datetime(2026, 11, 1, tzinfo=UTC)
PERIOD_END = datetime(2026, 12, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def unix(instant: datetime) -> int:
    return int(instant.timestamp())
