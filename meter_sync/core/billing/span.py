"""Where an item's usage starts and ends."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from meter_sync.core.billing.anchor import anchor
from meter_sync.core.billing.item import Period, SubscriptionItem, WindowSize

_CREATED_WITH_SUBSCRIPTION = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Span:
    """The usage of one item that counts: from `start` up to and without `end`, UTC, whole seconds."""

    start: datetime
    end: datetime
    anchor: datetime
    """The timestamp of the item's usage record in this period."""
    stamps: Period
    """Where meter events are stamped so that this item bills them, and no other one."""


def usage_span(
    item: SubscriptionItem, as_of: datetime, billed_until: datetime | None = None, window: WindowSize | None = None
) -> Span | None:
    """Given an item and the instant of the run, return what of its period's usage counts.

    `billed_until` is where the usage of the item's last period ended, None where that is not known; `window` is that
    of its billing meter, if it has any.

    Return None if nothing can have been used yet.

    - Half-open whole seconds: OpenMeter filters `time >= from AND time < to` on events that it floors to
      the second, so two adjacent periods neither lose nor double an event (server source).
    - The end is the instant of the run, or the period's end if that is earlier.
    - The first window is whole where the item lived through the boundary of two periods, unless it is known that some
      of it was billed in the last one: the price has moved to this meter since. Otherwise, after subscribing, after a
      trial's end or after being added, it starts at that very instant.
    - Where nothing follows the period, it ends with what is left of a window, which no invoice has: it is there to be
      named.
    """
    start = usage_start(item, billed_until)
    if window and start == item.period.start and billed_until is None and _lived_before(item):
        start = max(_born(item), window.floor(start))
    end = min(as_of, usage_end(item.period, window if item.is_followed else None))
    if end <= start:
        return None
    inside = max(start, item.period.start)
    stamps = item.period if inside == item.period.start else Period(inside, item.period.end)
    return Span(start, end, inside if window else anchor(inside, item.period.end), stamps)


def usage_end(period: Period, window: WindowSize | None) -> datetime:
    """Given a billing period, return where its usage ends; `window` is that of its billing meter, if it has any.

    Stripe moves a window that straddles the boundary of two periods to the later one's invoice, as a whole
    (reported by one user from test clocks for days, inferred for hours): so a period has the windows that end in it,
    and this function is the one place that says so.
    """
    return window.floor(period.end) if window else period.end


def usage_start(item: SubscriptionItem, billed_until: datetime | None = None) -> datetime:
    """Given an item, return the instant from which its usage is billed.

    That is its period's start; or, for an item that lived through it, where the usage of its last period ended: on a
    meter with windows that is a little earlier, and is billed in this period also where the price has moved to
    another way of billing since. Where the price moved in mid-period, it is that very instant. An item that was added
    to a running subscription is billed from its own creation, so that nobody pays for what they used before; it counts
    as added when it was created more than a minute after both the period's start and the subscription. The minute is
    there because Stripe stamps the items of a new or backdated subscription a second or so after it (reported by
    users).
    """
    added = added_at(item)
    if added is not None:
        return added
    if billed_until is None or item.cycle_start is not None or not _lived_before(item):
        return item.period.start
    return max(_born(item), min(billed_until, item.period.start))


def added_at(item: SubscriptionItem) -> datetime | None:
    """Given an item, return when it was added to its running subscription in mid-period, or None if it was not."""
    born = max(item.period.start, item.subscription.created)
    return item.created if item.created - born > _CREATED_WITH_SUBSCRIPTION else None


def _born(item: SubscriptionItem) -> datetime:
    """Return the instant before which nothing that was used is the item's: its own creation, or its subscription's."""
    subscribed = item.subscription.created
    return subscribed if item.created - subscribed <= _CREATED_WITH_SUBSCRIPTION else item.created


def _lived_before(item: SubscriptionItem) -> bool:
    """Say whether the item was billed for its usage just before its period: it was there, and not on trial."""
    was_there = item.created < item.period.start and item.cycle_start is None
    return was_there and item.subscription.trial_end != item.period.start
