"""Billing periods: half-open intervals of Unix seconds, counted from a subscription's anchor.

Stripe documentation, Billing cycle: a monthly or yearly period begins on the anchor's day and time
of day, or on the month's last day where the month is shorter; the anchor's day returns afterwards.
"""

import calendar
from datetime import UTC, datetime

from meter_sync.sandbox.stripe.state.objects import Interval, Period, Price

_DAY_SECONDS = 86_400
_SECONDS = {"day": _DAY_SECONDS, "week": 7 * _DAY_SECONDS}
_MONTHS = {"month": 1, "year": 12}


def period_at(anchor: int, price: Price, at: int) -> Period:
    """Return the period of a price that contains the instant `at`, which may lie before the anchor."""
    interval, count = price.interval, price.interval_count
    if interval in _SECONDS:
        number = (at - anchor) // (_SECONDS[interval] * count)
    else:
        number = _months_between(anchor, at) // (_MONTHS[interval] * count)
        if _boundary(anchor, interval, count, number) > at:
            number -= 1
        elif _boundary(anchor, interval, count, number + 1) <= at:
            number += 1
    return Period(_boundary(anchor, interval, count, number), _boundary(anchor, interval, count, number + 1))


def _months_between(anchor: int, at: int) -> int:
    first, second = datetime.fromtimestamp(anchor, UTC), datetime.fromtimestamp(at, UTC)
    return (second.year - first.year) * 12 + second.month - first.month


def _boundary(anchor: int, interval: Interval, count: int, number: int) -> int:
    """Return the start of the period with this number, number 0 beginning at the anchor."""
    if interval in _SECONDS:
        return anchor + number * count * _SECONDS[interval]
    start = datetime.fromtimestamp(anchor, UTC)
    months = start.year * 12 + start.month - 1 + number * count * _MONTHS[interval]
    year, month = divmod(months, 12)
    last_day = calendar.monthrange(year, month + 1)[1]
    moved = start.replace(year=year, month=month + 1, day=min(start.day, last_day))
    return int(moved.timestamp())
