"""The anchor: the one timestamp under which an item's usage record is set in a period."""

from datetime import datetime, timedelta

_ONE_SECOND = timedelta(seconds=1)


def anchor(start: datetime, period_end: datetime) -> datetime:
    """Given where usage starts, return the usage record's timestamp: one second later.

    `set` overwrites the quantity at its own timestamp only, so a moving timestamp would bill the sum of all
    running totals (API reference 2025-01-27.acacia; laravel/cashier-stripe#1532). The timestamp therefore
    depends on nothing but the item and its period. A timestamp exactly at a period's start or end is refused,
    hence the second; an item that was added in the very last second is stamped at its own start.
    """
    one_later = start + _ONE_SECOND
    return one_later if one_later < period_end else start
