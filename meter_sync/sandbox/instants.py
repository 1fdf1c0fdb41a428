"""Aware instants, and the whole Unix seconds in which both embedded servers reckon."""

from datetime import UTC, datetime


def aware(instant: datetime) -> datetime:
    """Return an instant in UTC; raise ValueError if it has no time zone."""
    if instant.tzinfo is None:
        raise ValueError("the sandbox takes aware datetimes only")
    return instant.astimezone(UTC)


def unix_seconds(instant: datetime) -> int:
    """Return an aware instant in whole Unix seconds."""
    return int(aware(instant).timestamp())


def from_unix(seconds: int) -> datetime:
    """Return Unix seconds as an aware instant in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
