"""How runs that ask one account of Stripe's at the same time divide what it allows among them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

OVERALL = "*"
"""The name under which requests to all endpoints together count."""

_LEAST_PART = 10
"""Of so many requests that are allowed one is everybody's who has any to make, whatever goes first."""

_SLOWEST_BESIDE = 1.0
"""Requests per second that a run may make at once where another one has not made room yet."""

_SLOWEST_UNSEEN = 0.25
"""The same of a run that the others know nothing of: a dry run or a comparison, which only read."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a run has to do with one limit, in requests per second."""

    wants: int
    """What it would make use of."""
    holds: int
    """What it may make at most, or has made within the last second."""


NOTHING = Part(0, 0)


@dataclass(frozen=True, slots=True)
class Caller:
    """A run that asks Stripe at this moment."""

    run: str
    is_urgent: bool
    """Whether it goes first, as what is about to end does."""
    parts: Mapping[str, Part]
    """What it has to do with each limit: by endpoint, and `OVERALL`."""

    def part(self, name: str) -> Part:
        """Return what it has to do with one limit."""
        return self.parts.get(name, NOTHING)

    def fading(self, remaining: float) -> "Caller":
        """Return what still counts of it where it has ended: a part, from 1 down to 0, of what it had to do.

        It has left evenly, and so it passes from the server's memory.
        """
        if remaining >= 1:
            return self
        parts = {name: Part(0, math.ceil(part.holds * remaining)) for name, part in self.parts.items()}
        return replace(self, parts=parts)


@dataclass(frozen=True, slots=True)
class Share:
    """What a run may use of a limit."""

    rate: float
    """How many requests per second it makes where there is room."""
    at_most: float
    """How many it makes within any second: fewer, while others have not made room yet."""


def share(limit: float, name: str, mine: Caller, others: Sequence[Caller], *, is_seen: bool = True) -> Share:
    """Given what others have to do with a limit, return what a run may use of it.

    Those that are urgent have what they want, the others what is left, and each a tenth at least, if it wants that.
    What nobody wants is divided evenly, so that whoever comes to need it has it at once. Whoever is to have more waits
    until the others have no more than is left; until then it goes on slowly. `is_seen` says whether the others know of
    this run.
    """
    if not others:
        return Share(limit, limit)
    if int(limit) <= len(others):
        return Share(limit / (1 + len(others)), limit / (1 + len(others)))
    everybody = sorted([mine, *others], key=lambda one: (one.part(name).wants, one.run))
    mine_of_all = _division(int(limit), name, everybody)[everybody.index(mine)]
    room = int(limit) - sum(one.part(name).holds for one in others)
    slowest = _SLOWEST_BESIDE if is_seen else _SLOWEST_UNSEEN
    return Share(max(slowest, mine_of_all), max(slowest, min(mine_of_all, room)))


def _division(limit: int, name: str, everybody: Sequence[Caller]) -> list[int]:
    """Return what of a limit each has who is given in the order of what they want; it is never more than the limit."""
    wants = [one.part(name).wants for one in everybody]
    least = max(1, limit // _LEAST_PART)
    given = _filled(limit, [min(each, least) for each in wants])
    for first in (True, False):
        missing = [
            (want - has) if one.is_urgent is first else 0
            for one, want, has in zip(everybody, wants, given, strict=True)
        ]
        given = _sums(given, _filled(limit - sum(given), missing))
    return _sums(given, _evenly(limit - sum(given), len(everybody)))


def _filled(amount: int, wants: Sequence[int]) -> list[int]:
    """Return what each has of an amount: nobody more than is wanted, and otherwise as much as anybody else."""
    given = [0] * len(wants)
    by_want = sorted(range(len(wants)), key=lambda number: wants[number])
    for place, number in enumerate(by_want):
        given[number] = min(wants[number], amount // (len(wants) - place))
        amount -= given[number]
    return given


def _evenly(amount: int, many: int) -> Iterator[int]:
    whole, rest = divmod(amount, many)
    return (whole + (number < rest) for number in range(many))


def _sums(some: Sequence[int], more: Sequence[int] | Iterator[int]) -> list[int]:
    return [one + other for one, other in zip(some, more, strict=True)]
