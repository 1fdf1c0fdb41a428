"""How fast requests may leave, and slowing down when a server says 429, as Stripe does."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from meter_sync.net.stop import Stop

_MARGIN = 0.96
"""Stripe counts in windows of a second that begin anywhere: at the full rate jitter alone would cross the limit."""

_TIMER_LATENESS_SECONDS = 0.03
"""How much later than asked for a sleeping task may wake, most of all while the ledger is written.

It is less than the margin leaves of each second, so that what is made up for stays within the limit.
"""

_SLOWEST = 1 / 8
_RECOVERY = 0.02
_PAUSE_SECONDS = 1.0


class _Pace:
    """An even stream of sending slots, first come first served."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second * _MARGIN
        self.due = 0.0
        self.lock = asyncio.Lock()

    def take(self, now: float, speed: float) -> None:
        """Take the slot that is due. Those missed by more than a timer's lateness are not made up for.

        That would use up the whole margin.
        """
        self.due = max(self.due, now - _TIMER_LATENESS_SECONDS) + 1 / (self.per_second * speed)


class Limiter:
    """Lets requests leave within the rate over all and the rate per endpoint (requests per second)."""

    def __init__(self, overall_rate: float, endpoint_rate: float, stop: Stop, apart: Mapping[str, float]) -> None:
        """Limit each endpoint and all together; those set `apart`, with a rate of their own, count for themselves."""
        self._overall = _Pace(overall_rate)
        self._endpoints: dict[str, _Pace] = defaultdict(lambda: _Pace(endpoint_rate))
        self._apart = {endpoint: _Pace(rate) for endpoint, rate in apart.items()}
        self._stop = stop
        self._speed = 1.0
        self._paused_until = 0.0

    @asynccontextmanager
    async def slot(self, endpoint: str) -> AsyncIterator[None]:
        """Wait until a request to the endpoint may leave. Raise Interrupted if the run is to end."""
        paces = self._paces(endpoint)
        async with AsyncExitStack() as turns:
            for pace in paces:
                await turns.enter_async_context(pace.lock)
                await self._wait_for(pace)
            now = _now()
            for pace in paces:
                pace.take(now, self._speed)
        yield

    async def _wait_for(self, pace: _Pace) -> None:
        self._stop.check()
        while (seconds := max(pace.due, self._paused_until) - _now()) > 0:
            await self._stop.sleep(seconds)

    def per_second(self, endpoint: str) -> float:
        """Return how many requests to an endpoint may leave per second now, if none to another does."""
        return min(pace.per_second for pace in self._paces(endpoint)) * self._speed

    def _paces(self, endpoint: str) -> list[_Pace]:
        apart = self._apart.get(endpoint)
        return [apart] if apart else [self._endpoints[endpoint], self._overall]

    def slow_down(self, retry_after_seconds: float) -> None:
        """Halve the speed of the whole run and pause it: the limiter of Stripe said 429."""
        self._speed = max(self._speed / 2, _SLOWEST)
        self._paused_until = max(self._paused_until, _now() + max(retry_after_seconds, _PAUSE_SECONDS))

    def speed_up(self) -> None:
        """Come back towards the full speed after a request that was not limited."""
        self._speed = min(1.0, self._speed + _RECOVERY)


def _now() -> float:
    return asyncio.get_running_loop().time()
