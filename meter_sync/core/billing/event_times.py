"""When meter events may be stamped, and the time for which Stripe's summaries of them can be asked."""

from datetime import datetime, timedelta

from meter_sync.core.billing.item import Period, WindowSize

_ONE_SECOND = timedelta(seconds=1)
_MINUTE = timedelta(minutes=1)
_ROOM_FOR_CORRECTIONS = timedelta(minutes=5)


def summary_span(period: Period) -> Period:
    """Given the time in which events are stamped, return its whole minutes: what Stripe's summaries can be asked for.

    Summaries are aligned to minutes, so an event in the minute of a boundary could not be told from the
    neighbour's: none is ever stamped there.
    """
    return Period(_minute_from(period.start), _minute_to(period.end))


def first_minute(period: Period) -> Period:
    """Given the time in which events are stamped, return the minute in which it begins, empty if it begins with one.

    This program stamps nothing there, so what stands there is another program's; a summary, which is aligned to
    minutes, cannot tell on which side of the beginning.
    """
    return Period(_minute_to(period.start), _minute_from(period.start))


def summary_windows(stamps: Period, window: WindowSize, *, is_turn: bool) -> Period:
    """Given where an item's windows are stamped, return the time that a summary of them is asked for.

    The first window of a billing period is its own as a whole. Where the item was added, or its price changed, in
    mid-period, which is no turn of its periods, only what is stamped from then on is.
    """
    return Period(window.floor(stamps.start) if is_turn else _minute_from(stamps.start), window.floor(stamps.end))


def window_timestamp(stamps: Period, start: datetime, window: WindowSize, *, is_turn: bool) -> datetime:
    """Return the timestamp of the event for the window that begins, or is left, at `start`: inside of `stamps`.

    Where only what is stamped from an instant on is the item's own, that is a whole minute, which summaries can tell.
    """
    if is_turn or start > stamps.start:
        return max(start, stamps.start)
    minute = _minute_from(stamps.start)
    return minute if minute < window.floor(start) + window.length else stamps.start


def event_timestamp(period: Period, as_of: datetime, last: datetime | None, *, leaves_room: bool) -> datetime:
    """Return the timestamp of an event with usage until `as_of`: inside of `period`, and after `last`.

    `period` is the time in which an item's events are stamped.

    It is a minute before that, in the last whole minute if there is one: what ends or changes at `as_of` or later
    leaves it where it is billed, and where a summary shows it. It goes on with each second, so that it is also after
    what a ledger that was lost had known, as long as clocks go on.

    `last` is that of the last event, None where there is none. The event with the latest timestamp counts on a
    meter whose formula is `last`, so there it must rise; `leaves_room` keeps it minutes away from the period's end,
    so that later ones fit. Close to the period's end there is nothing after `last` any more, and `last` comes back.
    """
    inside = summary_span(period)
    latest = inside.end - _ONE_SECOND
    wanted = min(as_of.replace(microsecond=0) - _MINUTE, latest - _ROOM_FOR_CORRECTIONS if leaves_room else latest)
    if last is not None and wanted <= last:
        wanted = last + _ONE_SECOND
    return max(inside.start, min(wanted, latest))


def from_its_minute(period: Period, timestamp: datetime) -> Period:
    """Given where an item's events are stamped, return its whole minutes from that of `timestamp` on.

    What stands there may be later than `timestamp`: a summary does not tell seconds.
    """
    return Period(_minute_to(timestamp), summary_span(period).end)


def after_its_minute(period: Period, timestamp: datetime) -> Period:
    """Return the same without that minute: what stands there is later. It is empty where that was the last one."""
    return Period(_minute_to(timestamp) + _MINUTE, summary_span(period).end)


def end_of_its_minute(timestamp: datetime) -> datetime:
    """Return the last second of the minute of `timestamp`: after whatever stands in that minute before it."""
    return _minute_to(timestamp) + _MINUTE - _ONE_SECOND


def can_be_stamped(period: Period, as_of: datetime) -> bool:
    """Say whether there is a whole minute, in the time in which an item's events are stamped, that has passed.

    An event in the minute of a boundary could be billed with the neighbour, and a summary could not tell whose it is.
    """
    inside = summary_span(period)
    return inside.start < min(_minute_to(as_of), inside.end)


def _minute_to(instant: datetime) -> datetime:
    return instant.replace(second=0, microsecond=0)


def _minute_from(instant: datetime) -> datetime:
    return _minute_to(instant + _MINUTE - _ONE_SECOND)
