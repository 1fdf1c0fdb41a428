"""Windows of billing meters: the hours or days of UTC in which only the event that came last counts.

Sources: Stripe's API reference of meters (event_time_window), and users' reports where the docstring says so.
"""

from collections.abc import Iterable, Sequence

from meter_sync.sandbox.stripe.state.objects import MeterEvent, Period, WindowSize

WINDOW_SECONDS = {"hour": 3600, "day": 24 * 3600}


def latest_by_window(events: Iterable[MeterEvent], window: WindowSize) -> dict[int, MeterEvent]:
    """Return the event that counts in each window, by its start: the one received last, whatever its timestamp."""
    seconds = WINDOW_SECONDS[window]
    return {event.timestamp - event.timestamp % seconds: event for event in events}


def of_invoiced_windows(events: Sequence[MeterEvent], window: WindowSize, period: Period) -> list[MeterEvent]:
    """Return the event that counts in each window that the invoice of a period has.

    A window that straddles the period's start belongs to it as a whole, and one that straddles its end to the next
    period (reported by one user from test clocks for days; presumably hours do likewise).
    """
    seconds = WINDOW_SECONDS[window]
    latest = latest_by_window(events, window)
    return [event for start, event in latest.items() if period.start < start + seconds <= period.end]
