"""The times that statements are about."""

from meter_sync.core.billing.item import Period


def time_before(time: Period) -> Period:
    """Return the time of the same length before another one: for whole months, as many months."""
    months = (time.end.year - time.start.year) * 12 + time.end.month - time.start.month
    if time.start.day == time.end.day == 1 and months:
        number = time.start.year * 12 + time.start.month - 1 - months
        return Period(time.start.replace(year=number // 12, month=number % 12 + 1), time.start)
    return Period(time.start - (time.end - time.start), time.start)
