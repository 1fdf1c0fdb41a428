"""What goes wrong in the three months: drawn by the clock, and the same for every way of reporting."""

import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import unquote_plus

from meter_sync.sandbox import Fault, Faults
from meter_sync.sandbox.http.faults import Server
from meter_sync.sandbox.http.traffic import Incoming
from three_months.scenario import HOUR, MINUTE, QUIET, Scenario, next_run

Trouble = Literal["lost", "errors", "outage", "killed", "missed", "repeated", "together"]

Drop = Literal["before", "after"]
DROPS: Sequence[Drop] = ("before", "after")

TROUBLES: Mapping[Trouble, str] = {
    "lost": "what Stripe answers to writes for a third of the customers is lost for an hour, or the request is",
    "errors": "Stripe answers such writes 500, 503 or 429 for an hour",
    "outage": "OpenMeter or Stripe answers nothing but 503 for three to six hours",
    "killed": "a full run is killed at one of its first ten writes, half of them after it was carried out",
    "missed": "cron misses one full run in ten; and three times everything for 30 hours, after a run that was killed",
    "repeated": "one full run in ten is run again by hand a minute later",
    "together": "one full run in twenty is started twice at once",
}

LONG_GAP = timedelta(hours=30)


@dataclass(frozen=True, slots=True)
class Spell:
    """Requests fail for a while."""

    start: datetime
    end: datetime
    fault: Fault
    customers: frozenset[str] | None = None
    """Whose writes fail; None for all requests."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A run is killed at one of its writes."""

    at_write: int
    drop: Drop
    """Whether the write is carried out."""


@dataclass(frozen=True, slots=True)
class Troubles:
    """All that goes wrong."""

    spells: Sequence[Spell] = ()
    kills: Mapping[datetime, Kill] = field(default_factory=dict)
    """By the full run."""
    missed: Collection[datetime] = frozenset()
    """Full runs."""
    gaps: Sequence[tuple[datetime, datetime]] = ()
    """Neither full nor closing runs come."""
    repeated: Collection[datetime] = frozenset()
    together: Collection[datetime] = frozenset()

    def is_missed(self, instant: datetime) -> bool:
        """Whether no run comes at an instant."""
        return instant in self.missed or any(start < instant < end for start, end in self.gaps)

    def runs_after(self) -> Iterator[datetime]:
        """Yield the full runs that are the first to come when something is over, and can make up for it."""
        for instant in [*(spell.end for spell in self.spells), *(end for _, end in self.gaps)]:
            yield next_run(instant)
        for run in [*self.kills, *self.missed]:
            yield run + HOUR


def draw_troubles(seed: int, scenario: Scenario, wanted: Collection[Trouble]) -> Troubles:
    """Draw what goes wrong, of these kinds. The same seed draws the same of a kind, whatever else is wanted."""
    drawn = {kind: _Drawing(random.Random(f"{seed}, {kind}"), scenario) for kind in TROUBLES}  # noqa: S311
    spells = [
        *(drawn["lost"].lost() if "lost" in wanted else ()),
        *(drawn["errors"].errors() if "errors" in wanted else ()),
        *(drawn["outage"].outages() if "outage" in wanted else ()),
    ]
    troubles = Troubles(
        spells=spells,
        kills=drawn["killed"].kills(12) if "killed" in wanted else {},
        repeated=drawn["repeated"].some(0.1) if "repeated" in wanted else (),
        together=drawn["together"].some(0.05) if "together" in wanted else (),
    )
    return drawn["missed"].gaps(troubles) if "missed" in wanted else troubles


class _Drawing:
    """Draws one kind of trouble."""

    def __init__(self, drawn: random.Random, scenario: Scenario) -> None:
        self._random = drawn
        self._customers = [one.id for one in scenario.customers]
        until = scenario.end - QUIET - LONG_GAP
        self._runs = [run for run in scenario.full_runs if run < until]
        self._ends = [end for one in scenario.customers for end in one.ends if end < until]

    def some(self, share: float) -> frozenset[datetime]:
        return frozenset(run for run in self._runs if self._random.random() < share)

    def kills(self, number: int) -> dict[datetime, Kill]:
        return {run: self._kill() for run in self._random.sample(self._runs, min(number, len(self._runs)))}

    def _kill(self) -> Kill:
        return Kill(self._random.randrange(1, 11), self._drop())

    def _drop(self) -> Drop:
        return self._random.choice(DROPS)

    def lost(self) -> Iterator[Spell]:
        for start, customers in self._bad_hours():
            drop = self._drop()
            yield Spell(start, start + HOUR, Fault(server="stripe", method="POST", drop=drop), customers)

    def errors(self) -> Iterator[Spell]:
        for start, customers in self._bad_hours():
            status = self._random.choice((500, 503, 429))
            yield Spell(start, start + HOUR, Fault(server="stripe", method="POST", status=status), customers)

    def _bad_hours(self) -> Iterator[tuple[datetime, frozenset[str]]]:
        """Yield hours around full runs and around the ends of periods, each with a third of the customers."""
        instants = [*self._random.sample(self._runs, 20), *self._random.choices(self._ends, k=10)]
        for instant in sorted(instants):
            some = self._random.sample(self._customers, (len(self._customers) + 2) // 3)
            yield instant - self._random.randrange(5, 50) * MINUTE, frozenset(some)

    def outages(self) -> Iterator[Spell]:
        servers: Sequence[Server] = ("openmeter", "stripe", "openmeter", "stripe", "openmeter")
        for server in servers:
            start = self._random.choice(self._ends) - self._random.randrange(300) * MINUTE
            yield Spell(start, start + self._random.randrange(3, 7) * HOUR, Fault(server=server, status=503))

    def gaps(self, troubles: Troubles) -> Troubles:
        """Return the troubles with runs that do not come."""
        before = self._random.sample(self._runs, 3)
        kills = {**troubles.kills, **{run: self._kill() for run in before}}
        return replace(troubles, kills=kills, missed=self.some(0.1), gaps=[(run, run + LONG_GAP) for run in before])


class Killed(BaseException):
    """The run that made this request was killed."""


class Weather(Faults):
    """The faults of the sandbox, by its clock."""

    def __init__(self, spells: Sequence[Spell], now: Callable[[], datetime], customer_of: Mapping[str, str]) -> None:
        super().__init__(now)
        self._spells = spells
        self._customer_of = customer_of
        """Customers by their subscription item."""
        self._kill: Kill | None = None
        self._writes = 0
        self.on_kill: Callable[[], object] = lambda: None
        """Called where a run is killed, in the sandbox's thread."""
        self.is_killed = False

    @contextmanager
    def killing(self, kill: Kill | None) -> Iterator[None]:
        """Kill the run that is made within, unless it makes too few writes."""
        self._kill, self._writes = kill, 0
        try:
            yield
        finally:
            self._kill, self.is_killed = None, False

    def take(self, server: str, request: Incoming) -> Fault | None:
        """Return the fault that hits this request, or None."""
        return self._killed(request) or self._spell(server, request)

    def _killed(self, request: Incoming) -> Fault | None:
        """Return what happens to the request at which the run is killed, and to those that come after."""
        if self.is_killed:
            return Fault(drop="before")
        kill = self._kill
        self._writes += request.method == "POST" and request.path.startswith("/v1/")
        if kill is None or self._writes < kill.at_write:
            return None
        self.is_killed = True
        self.on_kill()
        return Fault(drop=kill.drop)

    def _spell(self, server: str, request: Incoming) -> Fault | None:
        now = self._now()
        for spell in self._spells:
            if (
                spell.start <= now < spell.end
                and spell.fault.matches(server, request, now)
                and self._concerns(spell, request)
            ):
                return spell.fault
        return None

    def _concerns(self, spell: Spell, request: Incoming) -> bool:
        return spell.customers is None or self._customer(request) in spell.customers

    def _customer(self, request: Incoming) -> str | None:
        item = re.search(r"/subscription_items/(\w+)/usage_records$", request.path)
        if item:
            return self._customer_of.get(item[1])
        customer = re.search(r"cus_\w+", unquote_plus(request.body))
        return customer[0] if customer else None
