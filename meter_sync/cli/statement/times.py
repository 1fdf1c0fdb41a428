"""Which time a statement is about, and what it is called."""

from datetime import UTC, datetime, timedelta

from meter_sync.core.billing.item import Period
from meter_sync.errors import ArgumentsError

_A_DAY = timedelta(days=1)


def time_of(month: str | None, since: datetime | None, until: datetime | None, at: datetime) -> Period:
    """Return the time that is named by a month, or by its first day and the first one after it; all are of UTC.

    Where nothing is named it is the last month that was over at an instant. Raise ArgumentsError for what does not
    belong together, and for a time that has not begun.
    """
    if month is not None and (since or until):
        raise ArgumentsError("--month and --since are two ways to name a time: leave one of them out")
    if until is not None and since is None:
        raise ArgumentsError("--until belongs to --since: name the first day too")
    if since is not None:
        end = until.replace(tzinfo=UTC) if until else at.replace(hour=0, minute=0, second=0, microsecond=0)
        found = Period(since.replace(tzinfo=UTC), end)
    elif month is not None:
        found = _month(int(month[:4]), int(month[5:]))
    else:
        found = _month_before(at)
    if found.start >= found.end:
        raise ArgumentsError(f"a time from {found.start:%Y-%m-%d} to {found.end:%Y-%m-%d} has no day in it")
    if found.start > at:
        raise ArgumentsError(
            f"{name_of(found)} has not begun yet: there is nothing to be said of it; nothing was written",
            "name a month that has begun, or leave --month out for the last whole one",
        )
    return found


def name_of(time: Period) -> str:
    """Return what a time is called in the name of a file: a month, or its first and last day."""
    if time == _month(time.start.year, time.start.month):
        return f"{time.start:%Y-%m}"
    return f"{time.start:%Y-%m-%d}-to-{time.end - _A_DAY:%Y-%m-%d}"


def _month_before(at: datetime) -> Period:
    last = at.astimezone(UTC).replace(day=1) - _A_DAY
    return _month(last.year, last.month)


def _month(year: int, month: int) -> Period:
    start = datetime(year, month, 1, tzinfo=UTC)
    return Period(start, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC))
