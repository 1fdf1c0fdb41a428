"""The billing period before an item's own, which no list of Stripe's says."""

from calendar import monthrange
from datetime import datetime

from meter_sync.core.billing.item import Period, SubscriptionItem


def period_before(item: SubscriptionItem) -> Period | None:
    """Given an item, return the billing period before its own, as far as the item was there, or None if it was not.

    Nor is there one where its price has changed within the period: what was before that was by another price.

    A period of months, by the calendar, follows one of as many months: Stripe's billing day is the last one of a month
    that has not so many (documentation, billing cycle). Before any other there was one of the same length.
    """
    start, end = item.period.start, item.period.end
    if item.created >= start or item.cycle_start is not None:
        return None
    months = 12 * (end.year - start.year) + end.month - start.month
    day = max(start.day, end.day)
    is_of_months = months > 0 and (_earlier(end, months, day), _earlier(end, 0, day)) == (start, end)
    began = _earlier(start, months, day) if is_of_months else start - (end - start)
    return Period(max(began, item.created), start)


def _earlier(instant: datetime, months: int, day: int) -> datetime:
    """Return the same time of day so many months earlier, on a day of that month or on its last one."""
    year, month = divmod(12 * instant.year + instant.month - 1 - months, 12)
    return instant.replace(year=year, month=month + 1, day=min(day, monthrange(year, month + 1)[1]))
