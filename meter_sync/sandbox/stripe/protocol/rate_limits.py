"""Stripe's rate limiters (Stripe documentation, Rate limits)."""

import time
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass

_WINDOW_SECONDS = 1.0


@dataclass(frozen=True)
class RateLimits:
    """Requests per second: 25 over all in a sandbox (100 live), and 25 per endpoint by default."""

    overall_per_second: int = 25
    endpoint_per_second: int = 25
    meter_events_per_second: int = 25
    """Meter events count for themselves: 1,000 live."""
    stream_requests_per_second: int = 100
    """So do requests to the meter event stream: 10,000 events live, of which each request has up to 100."""


METER_EVENTS = "POST /v1/billing/meter_events"
METER_EVENT_STREAM = "POST /v2/billing/meter_event_stream"


class RateLimiter:
    """Counts requests in a sliding window of one second of real time, for each account by itself."""

    def __init__(self) -> None:
        self._overall: defaultdict[str, deque[float]] = defaultdict(deque)
        self._endpoints: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)

    def reason_to_refuse(self, limits: RateLimits, endpoint: str, accounts: Iterable[str]) -> str | None:
        """Count a request for each account and return None, or return the reason why it is above a limit of one.

        The reasons are the values of the header `Stripe-Rate-Limited-Reason`. Assumed: whom a request with
        `Stripe-Account` counts for is not documented, so it counts for its platform and for the connected account, each
        of which has all of these limits.
        """
        now = time.monotonic()
        windows = [window for account in accounts for window in self._windows(limits, endpoint, account)]
        for reason, window, most in windows:
            while window and window[0] <= now - _WINDOW_SECONDS:
                window.popleft()
            if len(window) >= most:
                return reason
        for _, window, _ in windows:
            window.append(now)
        return None

    def _windows(self, limits: RateLimits, endpoint: str, account: str) -> list[tuple[str, deque[float], int]]:
        """Return where an account's requests to an endpoint are counted, and how many may be there."""
        recent = self._endpoints[account, endpoint]
        apart = {
            METER_EVENTS: limits.meter_events_per_second,
            METER_EVENT_STREAM: limits.stream_requests_per_second,
        }
        if endpoint in apart:
            return [("endpoint-rate", recent, apart[endpoint])]
        return [
            ("endpoint-rate", recent, limits.endpoint_per_second),
            ("global-rate", self._overall[account], limits.overall_per_second),
        ]
