"""A server with a limit, and programs that ask it over a network of any delays, all in made-up time.

The server's rule is stated here on its own: nothing of the program's pace is used for it.
"""

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

from meter_sync.net.pace import Departure, Pace, RoundTrip
from meter_sync.net.shares import OVERALL, Caller, share

LOOKS_EVERY_SECONDS, LOOKS_IN_COMPANY_EVERY_SECONDS = 0.25, 0.1
WORKERS = 128

Seconds = Callable[[], float]


def at_once() -> float:
    return 0.0


@dataclass
class Server:
    """Takes so many requests in any second, or, with a phase, in each of a row of seconds that begins there."""

    limit: Callable[[float], int]
    phase: float | None = None
    taken: list[float] = field(default_factory=list)

    def takes(self, at: float) -> bool:
        since = at - 1 if self.phase is None else math.floor(at - self.phase) + self.phase
        recent = 0
        for one in reversed(self.taken):
            if one <= since if self.phase is None else one < since:
                break
            recent += 1
        if recent >= self.limit(at):
            return False
        self.taken.append(at)
        return True


@dataclass
class Program:
    """Has so many requests to make from some time on, as many at once as its pace lets out."""

    requests: int
    limit: int = 25
    begins: float = 0.0
    is_urgent: bool = False
    name: str = "full"
    on_the_way: Seconds = at_once
    """How long a request takes to the server."""
    is_answered_after: Seconds = lambda: 0.1
    wakes_late: Seconds = at_once
    """How much later than asked for it wakes from its sleep."""
    connects: Seconds = at_once
    """How long it takes from a request's turn until it leaves."""
    refused: list[float] = field(default_factory=list)
    taken: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.to_be_answered = self.requests
        self.pace = Pace(self.limit)
        self.usual = RoundTrip()
        self.waits_until = 0.0
        self.told: Caller | None = None
        self.forgotten_at = math.inf

    @property
    def is_done(self) -> bool:
        return not self.to_be_answered

    def caller(self, now: float) -> Caller:
        self.pace.waiting = min(self.requests, WORKERS)
        return Caller(self.name, self.is_urgent, {OVERALL: self.pace.part(now)})


class Play:
    """Lets programs ask a server until all of them have what they want."""

    def __init__(self, server: Server, programs: Sequence[Program]) -> None:
        self._server = server
        self._programs = programs
        self._order = count()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []

    def play(self) -> None:
        for program in self._programs:
            self._at(program.begins, partial(self._look, program))
        while self._events:
            at, _, happens = heapq.heappop(self._events)
            happens(at)

    def _at(self, when: float, happens: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), happens))

    def _look(self, program: Program, now: float) -> None:
        """Tell the others, and leave them their part, as `meter_sync/sync/allowance.py` does by the ledger."""
        if program.is_done:
            return
        mine = program.told = program.caller(now)
        others = [one for one in self._programs if one is not program and one.told and now < one.forgotten_at]
        told = [one.told.fading(one.forgotten_at - now) for one in others if one.told]
        program.pace.share = share(program.limit, OVERALL, mine, told)
        after = LOOKS_IN_COMPANY_EVERY_SECONDS if told else LOOKS_EVERY_SECONDS
        self._at(now + after, partial(self._look, program))
        self._sleep(program, now, now)

    def _sleep(self, program: Program, now: float, until: float) -> None:
        program.waits_until = max(now, until)
        wakes = program.waits_until + (program.wakes_late() if until > now else 0.0)
        asked = program.waits_until
        self._at(wakes, lambda then: self._wake(program, then, asked))

    def _wake(self, program: Program, now: float, asked: float) -> None:
        if asked != program.waits_until or not program.requests:
            return
        if program.pace.due() > now:
            self._sleep(program, now, program.pace.due())
            return
        program.requests -= 1
        program.pace.take(now, program.begins)
        departure = Departure([program.pace], now, program.usual)
        leaves = now + program.connects()
        self._at(leaves, departure.left)
        self._at(leaves + program.on_the_way(), lambda then: self._arrive(program, departure, then))
        self._sleep(program, now, program.pace.due())

    def _arrive(self, program: Program, departure: Departure, now: float) -> None:
        is_taken = self._server.takes(now)
        (program.taken if is_taken else program.refused).append(now)
        after = program.is_answered_after()
        self._at(now + after, lambda then: self._answer(program, departure, then, is_taken=is_taken))

    def _answer(self, program: Program, departure: Departure, now: float, *, is_taken: bool) -> None:
        if is_taken:
            departure.taken(now)
        else:
            program.pace.refused(now, 0.0)
            program.requests += 1
            self._at(now + 0.5, lambda then: self._sleep(program, then, program.pace.due()))
        program.to_be_answered -= is_taken
        if program.is_done:
            program.forgotten_at = now + 1.0


def rate(taken: Iterable[float]) -> float:
    """How many requests per second were taken, from the first to the last of them."""
    times = sorted(taken)
    return (len(times) - 1) / (times[-1] - times[0])


def always(limit: int) -> Callable[[float], int]:
    return lambda _: limit


def played(program: Program, server: Server) -> Program:
    Play(server, [program]).play()
    return program


def beside(begins: float, many_items: int, random: Random) -> tuple[Program, Program]:
    """A full run, and a closing run that begins a while later."""
    full, closing = Program(2500), Program(many_items, begins=begins, is_urgent=True, name="closing")
    for one in (full, closing):
        one.on_the_way = lambda: random.gauss(0.12, 0.003)
        one.wakes_late = lambda: random.uniform(0, 0.002)
    Play(Server(lambda _: 25), [full, closing]).play()
    return full, closing


def goes_first(begins: float, many_items: int) -> None:
    """Say that a closing run of so many items is through soon, and both together use the limit."""
    full, closing = beside(begins, many_items, Random(many_items))  # noqa: S311

    taken, refused = [*full.taken, *closing.taken], [*full.refused, *closing.refused]
    assert len(refused) <= len(taken) / 1000
    assert rate(taken) >= 0.97 * 25
    assert max(closing.taken) - begins <= 2 + many_items / (0.85 * 25)
    overlap = [at for at in full.taken if begins + 2 < at < max(closing.taken)]
    assert len(overlap) >= max(closing.taken) - begins - 3
