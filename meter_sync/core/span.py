"""Where an item's usage starts and ends, and the timestamp under which it is reported."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from meter_sync.core.model import SubscriptionItem

_CREATED_WITH_SUBSCRIPTION = timedelta(minutes=1)
_ONE_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Span:
    """The usage of one item that counts: from `start` up to and without `end`, UTC, whole seconds."""

    start: datetime
    end: datetime
    anchor: datetime
    """The timestamp of the item's usage record in this period."""


def usage_span(item: SubscriptionItem, as_of: datetime) -> Span | None:
    """Given an item and the instant of the run, return what of its period's usage counts.

    Return None if nothing can have been used yet.

    - Half-open whole seconds: OpenMeter filters `time >= from AND time < to` on events that it floors to
      the second, so two adjacent periods neither lose nor double an event (server source).
    - The end is the instant of the run, or the period's end if that is earlier.
    """
    start = usage_start(item)
    end = min(as_of, item.period.end)
    if end <= start:
        return None
    return Span(start=start, end=end, anchor=_anchor(start, item.period.end))


def usage_start(item: SubscriptionItem) -> datetime:
    """Given an item, return the instant from which its usage is billed.

    That is its period's start. An item that was added to a running subscription is billed from its own
    creation, so that nobody pays for what they used before; it counts as added when it was created more than
    a minute after both the period's start and the subscription. The minute is there because Stripe stamps
    the items of a new or backdated subscription a second or so after it (reported by users).
    """
    born = max(item.period.start, item.subscription.created)
    if item.created - born > _CREATED_WITH_SUBSCRIPTION:
        return item.created
    return item.period.start


def _anchor(start: datetime, period_end: datetime) -> datetime:
    """Given where usage starts, return the usage record's timestamp: one second later.

    `set` overwrites the quantity at its own timestamp only, so a moving timestamp would bill the sum of all
    running totals (API reference 2025-01-27.acacia; laravel/cashier-stripe#1532). The timestamp therefore
    depends on nothing but the item and its period. A timestamp exactly at a period's start or end is refused,
    hence the second; an item that was added in the very last second is stamped at its own start.
    """
    anchor = start + _ONE_SECOND
    return anchor if anchor < period_end else start
