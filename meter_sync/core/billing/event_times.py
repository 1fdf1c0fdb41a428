"""When meter events may be stamped, and the time for which Stripe's summaries of them can be asked."""

from datetime import datetime, timedelta

from meter_sync.core.billing.item import Period, SubscriptionItem, WindowSize
from meter_sync.core.billing.span import added_at, usage_end

_ONE_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_ROOM_FOR_CORRECTIONS = timedelta(minutes=5)


def summary_span(period: Period) -> Period:
    """Given a billing period, return the whole minutes in it: what Stripe's event summaries can be asked for.

    Summaries are aligned to minutes, so an event in the minute of a boundary could not be told from the
    neighbour's: none is ever stamped there.
    """
    return Period(_minute_from(period.start), _minute_to(period.end))


def summary_before(item: SubscriptionItem) -> Period | None:
    """Given an item, return the whole minutes of its period in which it was not there yet, or None for none."""
    added = added_at(item)
    if added is None:
        return None
    start, end = _minute_from(item.period.start), _minute_to(added)
    return Period(start, end) if start < end else None


def summary_windows(period: Period, usage_start: datetime, window: WindowSize) -> Period:
    """Given a billing period on a meter with windows, return those of its windows, the first one as a whole."""
    return Period(window.floor(usage_start), usage_end(period, window))


def event_timestamp(period: Period, as_of: datetime, last: datetime | None, *, leaves_room: bool) -> datetime:
    """Given a period, return the timestamp of an event with usage until `as_of`: inside the period, and after `last`.

    `last` is that of the last event, None where there is none. The event with the latest timestamp counts on a
    meter whose formula is `last`, so there it must rise; `leaves_room` keeps it minutes away from the period's end,
    so that later ones fit. Close to the period's end there is nothing after `last` any more, and `last` comes back.
    """
    inside = summary_span(period)
    latest = inside.end - _ONE_SECOND
    wanted = min(as_of, latest - _ROOM_FOR_CORRECTIONS if leaves_room else latest)
    if last is not None and wanted <= last:
        wanted = last + _ONE_SECOND
    return max(inside.start, min(wanted, latest))


def _minute_to(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


def _minute_from(instant: datetime) -> datetime:
    return _minute_to(instant + _MINUTE - _ONE_SECOND)
