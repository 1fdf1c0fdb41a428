"""Stripe's rate limiters (Stripe documentation, Rate limits)."""

import time
from collections import defaultdict, deque
from dataclasses import dataclass

_WINDOW_SECONDS = 1.0


@dataclass(frozen=True)
class RateLimits:
    """Requests per second: 25 over all in a sandbox (100 live), and 25 per endpoint by default."""

    overall_per_second: int = 25
    endpoint_per_second: int = 25
    meter_events_per_second: int = 25
    """Meter events count for themselves: 1,000 live."""


METER_EVENTS = "POST /v1/billing/meter_events"


class RateLimiter:
    """Counts requests in a sliding window of one second of real time."""

    def __init__(self) -> None:
        self._meter_events: deque[float] = deque()
        self._overall: deque[float] = deque()
        self._endpoints: defaultdict[str, deque[float]] = defaultdict(deque)

    def reason_to_refuse(self, limits: RateLimits, endpoint: str) -> str | None:
        """Count a request and return None, or return the reason why it is above a limit.

        The reasons are the values of the header `Stripe-Rate-Limited-Reason`.
        """
        now = time.monotonic()
        if endpoint == METER_EVENTS:
            return self._of_meter_events(limits, now)
        recent = self._endpoints[endpoint]
        for window in (self._overall, recent):
            while window and window[0] <= now - _WINDOW_SECONDS:
                window.popleft()
        if len(recent) >= limits.endpoint_per_second:
            return "endpoint-rate"
        if len(self._overall) >= limits.overall_per_second:
            return "global-rate"
        self._overall.append(now)
        recent.append(now)
        return None

    def _of_meter_events(self, limits: RateLimits, now: float) -> str | None:
        while self._meter_events and self._meter_events[0] <= now - _WINDOW_SECONDS:
            self._meter_events.popleft()
        if len(self._meter_events) >= limits.meter_events_per_second:
            return "endpoint-rate"
        self._meter_events.append(now)
        return None
