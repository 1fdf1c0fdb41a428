"""How fast requests may leave, and what is learned of it where a server says 429, as Stripe does.

Why any request is refused at all that keeps to the rate: the server counts how many arrive within a second, which may
begin anywhere, and requests that left evenly arrive unevenly. One that was held up on its way, or before it left this
machine, comes close to those behind it. So what counts here is when each has really left, and the room that is kept for
what the way adds grows and shrinks with what is refused.
"""

import asyncio
import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from contextvars import ContextVar
from statistics import median

from meter_sync.net.retry import GivenUp
from meter_sync.net.shares import OVERALL, Caller, Part, Share, share
from meter_sync.net.stop import Stop

_SECOND = 1.0
"""Stripe's limits are requests per second (Stripe documentation, Rate limits)."""

_LEAST_ROOM, _FIRST_ROOM, _MOST_ROOM = 0.018, 0.023, 0.06
"""How much longer than allowed as many requests take, so that what arrives unevenly stays within the limit."""

_ROOM_FOR_ONE_REFUSED = 0.002
"""By how much that grows with a request that was refused."""

_ANSWERS_FOR_ONE_REFUSED = 2000
"""After how many that were not refused this is taken back: it comes to rest where one in so many is refused."""

_MADE_UP_FOR = 0.006
"""How much of the room may be used to make up for slots that were missed, since this machine was busy."""

_MISSED_SECONDS = 0.25
"""How far back slots that were missed are made up for."""

_APART_SECONDS = 0.25
"""What is refused within so short a time was so for one reason: much arrived at once."""

_REFUSED_WITHIN_SECONDS, _REFUSED_BY_CHANCE = 10.0, 2
"""So often that is chance; if it is more often, somebody else asks Stripe as well."""

_SLOWER, _SLOWEST = 0.7, 1 / 8
_FASTER_PER_SECOND, _TRIED_PER_SECOND, _TRIED_TWICE_AS_MUCH_AFTER = 0.02, 0.003, 10.0
"""How soon a stream comes back to near the speed at which it was refused, and how soon it tries more than that: the
more, the longer nothing was refused."""

_ALL, _BACK_PER_SECOND = 0.9, 0.1
"""Where so much was refused that hardly anything was taken, the limit itself is as it was before: how soon a stream
comes back to it once anything is."""

_SAME_STORM_SECONDS = 90.0
"""What was refused longer ago says nothing of now: nobody waits so long to try again."""

_NEAR = 0.95
_PAUSE_SECONDS = 1.0
_PAUSES_FROM = 0.25
"""Of those requests so many refused mean that there is no room at all."""

_UNUSUAL_SECONDS, _UNUSUAL_DEVIATIONS, _LATEST_SECONDS = 0.010, 5, 0.5
"""By how much an answer must be later than usual to show that its request was held up, and what is the most of it."""

_KNOWN_BY = 8
"""So many answers show what is usual."""

_SMOOTHED = 0.1

_LONGEST_SLEEP_SECONDS = 0.1
"""After so long a request that waits looks again whether it may leave: others may have made room."""


class Pace:
    """An even stream of requests within one limit; it has no clock, and every time is given, in seconds."""

    def __init__(self, per_second: float) -> None:
        self.limit = per_second
        """What the server allows, in requests per second."""
        self.share = Share(per_second, per_second)
        """What of it is this program's."""
        self.waiting = 0
        """How many requests wait for their turn."""
        self._room = _FIRST_ROOM
        self._speed = 1.0
        self._last_slot = -math.inf
        self._paused_until = -math.inf
        self._left: list[float] = []
        self._refused: list[float] = []
        self._occasions: list[float] = []
        self._refused_speed = 1.0
        self._comes_back = False
        self._nothing_taken_since: float | None = None
        self._refused_at = -math.inf
        self._taken_since = 0
        self._taken_meanwhile = 0

    @property
    def per_second(self) -> float:
        """How many requests leave per second, if there are enough."""
        return min(self.share.rate, self.share.at_most) * self._speed / (1 + self._room)

    @property
    def _slot_seconds(self) -> float:
        return (1 + self._room) / (self.share.rate * self._speed)

    @property
    def _slots(self) -> int:
        return max(1, int(self.share.at_most))

    def due(self) -> float:
        """Return when the next request may leave: evenly, and never too soon after those that have really left."""
        slots = self._slots
        due = max(self._last_slot + self._slot_seconds, self._paused_until)
        if len(self._left) < slots:
            return due
        window = slots / (self.share.at_most * self._speed) * (1 + self._room - _MADE_UP_FOR)
        return max(due, self._left[-slots] + window)

    def take(self, now: float, asked_at: float) -> None:
        """Let a request leave now that has waited since it was asked for.

        The slots that it and others have missed since then are made up for, but not those of a pause, and those that
        nobody had asked for.
        """
        since = min(max(asked_at, self._paused_until, now - _MISSED_SECONDS), now)
        self._last_slot = max(self._last_slot + self._slot_seconds, since)
        insort(self._left, now)
        del self._left[: -max(1, math.ceil(self.limit))]

    def left(self, slot: float, at: float) -> None:
        """Say when a request has really left that was let out at a time: it may have had to connect first."""
        place = bisect_left(self._left, slot)
        if place < len(self._left) and self._left[place] == slot:
            del self._left[place]
            insort(self._left, at)

    def taken(self) -> None:
        """Say that a request was not refused: what was learned is tried again, little by little."""
        self._room = max(_LEAST_ROOM, self._room - _ROOM_FOR_ONE_REFUSED / _ANSWERS_FOR_ONE_REFUSED)
        self._taken_since += 1
        self._taken_meanwhile += 1
        self._nothing_taken_since = None
        if self._speed < _NEAR * self._refused_speed:
            faster = _BACK_PER_SECOND if self._comes_back else _FASTER_PER_SECOND
        else:
            self._comes_back = False
            faster = _TRIED_PER_SECOND * (1 + self._taken_since / self.share.rate / _TRIED_TWICE_AS_MUCH_AFTER)
        self._speed = min(1.0, self._speed + faster / self.share.rate)

    def refused(self, now: float, wait_seconds: float) -> None:
        """Say that a request was refused, and how long the server wishes to be left alone.

        One or two are chance and widen the room. Several within seconds mean that less is allowed than was thought,
        such as where another program asks the same account: then all go on more slowly, by as much as was refused.
        """
        self._paused_until = max(self._paused_until, now + wait_seconds)
        if self._nothing_taken_since is None or now - self._refused_at > _SAME_STORM_SECONDS:
            self._nothing_taken_since = now
        self._refused_at = now
        self._taken_since = 0
        since = now - _REFUSED_WITHIN_SECONDS
        self._refused = [at for at in self._refused if at > since]
        if not self._refused:
            self._taken_meanwhile = 0
        self._refused.append(now)
        if self._occasions and now - self._occasions[-1] < _APART_SECONDS:
            return
        self._occasions = [*(at for at in self._occasions if at > since), now]
        self._room = min(_MOST_ROOM, self._room + _ROOM_FOR_ONE_REFUSED)
        if len(self._occasions) > _REFUSED_BY_CHANCE:
            self._slow_down(now)

    def _slow_down(self, now: float) -> None:
        refused = len(self._refused) / (len(self._refused) + self._taken_meanwhile)
        if refused > _MOST_ROOM:  # no room would have helped
            self._room = max(_LEAST_ROOM, self._room - _ROOM_FOR_ONE_REFUSED * len(self._occasions))
        self._refused, self._occasions = [], []
        self._comes_back = refused >= _ALL
        if not self._comes_back:
            self._refused_speed = self._speed
        self._speed = max(_SLOWEST, self._speed * max(_SLOWER, 1 - refused))
        if refused >= _PAUSES_FROM:
            self._paused_until = max(self._paused_until, now + _PAUSE_SECONDS)

    def refuses_all_for(self, now: float) -> float:
        """Return for how many seconds all that was answered was refused; 0 where the last answer was another one."""
        return 0.0 if self._nothing_taken_since is None else now - self._nothing_taken_since

    def part(self, now: float) -> Part:
        """Return what others that ask the same account are to know of it."""
        sent = len(self._left) - bisect_right(self._left, now - _SECOND)
        wants = min(math.ceil(self.limit), sent + self.waiting)
        return Part(wants, max(sent, self._slots if self.waiting else 0))


class Departure:
    """A request on its way, which says when it has really left, and when it was answered."""

    def __init__(self, paces: Sequence[Pace], slot: float, round_trip: "RoundTrip") -> None:
        self._paces = paces
        self._left_at = slot
        self._round_trip = round_trip

    def left(self, at: float) -> None:
        """Say when it has left."""
        for pace in self._paces:
            pace.left(self._left_at, at)
        self._left_at = at

    def held_up(self, seconds: float) -> None:
        """Say that it came later to the server than others that left when it did."""
        self.left(self._left_at + seconds)

    def taken(self, at: float) -> None:
        """Say when it was answered."""
        self._round_trip.ended(self, at - self._left_at)
        for pace in self._paces:
            pace.taken()


class RoundTrip:
    """How long answers of an endpoint usually take, by which is known what was held up.

    Where in the time between lies what was unusual, cannot be told: it may have been on the way to the server.
    """

    def __init__(self) -> None:
        self._first: list[tuple[Departure, float]] = []
        self._is_known = False
        self._usual_seconds = 0.0
        self._deviation_seconds = 0.0

    def ended(self, departure: Departure, seconds: float) -> None:
        """Say how long a request's answer has taken: as soon as it is known what is usual, also of the first ones.

        These may have been held up more than any later one: nothing was connected yet.
        """
        if self._is_known:
            self._compare(departure, seconds)
            return
        self._first.append((departure, seconds))
        if len(self._first) == _KNOWN_BY:
            usual = self._usual_seconds = median(one for _, one in self._first)
            self._deviation_seconds = median(abs(one - usual) for _, one in self._first)
            for early, one in self._first:
                self._compare(early, one)
            self._first, self._is_known = [], True

    def _compare(self, departure: Departure, seconds: float) -> None:
        later = seconds - self._usual_seconds
        unusual = max(_UNUSUAL_SECONDS, _UNUSUAL_DEVIATIONS * self._deviation_seconds)
        # A single answer that is very late says little of what is usual.
        counted = max(-unusual, min(later, unusual))
        self._usual_seconds += _SMOOTHED * counted
        self._deviation_seconds += _SMOOTHED * (abs(counted) - self._deviation_seconds)
        if later > unusual:
            departure.held_up(min(later, _LATEST_SECONDS))


_departure: ContextVar[Departure | None] = ContextVar("departure", default=None)


def request_left() -> None:
    """Say that this task's request has left this machine just now."""
    departure = _departure.get()
    if departure is not None:
        departure.left(_now())


def request_taken() -> None:
    """Say that this task's request was answered just now, and not with 429."""
    departure = _departure.get()
    if departure is not None:
        departure.taken(_now())


class Limiter:
    """Lets requests leave within the rate over all and the rate per endpoint (requests per second)."""

    def __init__(
        self,
        overall_rate: float,
        endpoint_rate: float,
        stop: Stop,
        apart: Mapping[str, float],
        platform: "Limiter | None" = None,
    ) -> None:
        """Limit each endpoint and all together; those set `apart`, with a rate of their own, count for themselves.

        `platform` has other limits that each request counts for as well.
        """
        self.platform = platform
        self._endpoint_rate = endpoint_rate
        self._paces = {OVERALL: Pace(overall_rate), **{name: Pace(rate) for name, rate in apart.items()}}
        self._apart = frozenset(apart)
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._round_trips: dict[str, RoundTrip] = defaultdict(RoundTrip)
        self._stop = stop
        self._beside: tuple[Caller, Sequence[Caller], bool] | None = None

    @asynccontextmanager
    async def slot(self, endpoint: str, patience_seconds: float = math.inf) -> AsyncIterator[None]:
        """Wait until a request to the endpoint may leave.

        Raise Interrupted if the run is to end, and GivenUp where a limit has refused all requests for as long as
        `patience_seconds`.
        """
        limits = self._limits(endpoint)
        paces = [pace for _, pace in limits]
        asked_at = [_now()]
        async with AsyncExitStack() as turns:
            for turn, pace in limits:
                with _waiting(pace):
                    await turns.enter_async_context(turn)
                    await self._wait_for(pace, patience_seconds)
                asked_at.append(_now())
            now = _now()
            for pace, since in zip(paces, asked_at[:-1], strict=True):
                pace.take(now, since)
        token = _departure.set(Departure(paces, now, self._round_trips[endpoint]))
        try:
            yield
        finally:
            _departure.reset(token)

    async def _wait_for(self, pace: Pace, patience_seconds: float) -> None:
        self._stop.check()
        while True:
            refused_seconds = pace.refuses_all_for(_now())
            if refused_seconds > 0 and refused_seconds >= patience_seconds:
                said = f"every request was refused for {refused_seconds:.0f} s, since there were too many (status 429)"
                raise GivenUp(said, rate_limited=True)
            seconds = pace.due() - _now()
            if seconds <= 0:
                return
            await self._stop.sleep(min(seconds, _LONGEST_SLEEP_SECONDS))

    def per_second(self, endpoint: str) -> float:
        """Return how many requests to an endpoint may leave per second now, if none to another does."""
        return min(pace.per_second for _, pace in self._limits(endpoint))

    def refused(self, endpoint: str, reason: str, wait_seconds: float) -> None:
        """Say that Stripe's limiter has answered 429, with the reason that it gave.

        `global-rate` and `global-concurrency` are about all endpoints together (Stripe documentation, Rate limits).
        """
        names = self._names(endpoint)
        self._pace(names[-1] if reason.startswith("global") else names[0]).refused(_now(), wait_seconds)
        if self.platform is not None:  # whose limit it was, nobody says
            self.platform.refused(endpoint, reason, wait_seconds)

    def parts(self) -> dict[str, Part]:
        """Return what is to be known of this run by others that ask the same account, by limit."""
        now = _now()
        found = {name: pace.part(now) for name, pace in self._paces.items()}
        return {name: part for name, part in found.items() if part.wants or part.holds}

    def go_beside(self, mine: Caller, others: Sequence[Caller], *, is_seen: bool) -> None:
        """Leave the others their part from now on, and those that are about to begin; with no others all is one's own.

        `is_seen` says whether they know of this run.
        """
        self._beside = (mine, others, is_seen)
        for name, pace in self._paces.items():
            pace.share = self._share(name, pace)

    def _share(self, name: str, pace: Pace) -> Share:
        if self._beside is None:
            return pace.share
        mine, others, is_seen = self._beside
        return share(pace.limit, name, mine, others, is_seen=is_seen)

    def _limits(self, endpoint: str) -> list[tuple[asyncio.Lock, Pace]]:
        """Return each limit that a request counts for: whose turn it is, and how fast they go."""
        own = [(self._turns[name], self._pace(name)) for name in self._names(endpoint)]
        return own if self.platform is None else [*own, *self.platform._limits(endpoint)]

    def _names(self, endpoint: str) -> list[str]:
        return [endpoint] if endpoint in self._apart else [endpoint, OVERALL]

    def _pace(self, name: str) -> Pace:
        if name not in self._paces:
            pace = self._paces[name] = Pace(self._endpoint_rate)
            pace.share = self._share(name, pace)
        return self._paces[name]


@contextmanager
def _waiting(pace: Pace) -> Iterator[None]:
    pace.waiting += 1
    try:
        yield
    finally:
        pace.waiting -= 1


def _now() -> float:
    return asyncio.get_running_loop().time()
