"""On a meter that only adds up: what to add to what Stripe holds, and whether an addition has arrived."""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum

from meter_sync.core import identifier
from meter_sync.core.actions import Set
from meter_sync.core.memory import Addition, RememberedAdditions
from meter_sync.core.span import event_timestamp

IDENTIFIER_HOLDS = timedelta(hours=23)
"""Stripe knows an identifier again, and cancels an event, for 24 hours (API reference); an hour is margin."""


def added(planned: Set, base: int, known: RememberedAdditions, now: datetime, as_of: datetime) -> Set:
    """Given a write, and what Stripe holds already, return it with the addition that makes up the difference.

    Where too much is there, the newest event is cancelled if it is exactly what is too much; else a negative value is
    added, which is exact as well: Stripe sums the values of all events.
    """
    line = replace(planned.line, previous=base)
    difference = planned.quantity - base
    if difference == 0:
        return replace(planned, line=line, parts=(), addition=None)
    newest = known.newest
    if newest and _undoes(newest, base, planned.quantity) and _age(newest, now, as_of) < IDENTIFIER_HOLDS:
        addition = replace(newest, is_cancel=True, is_delivered=False)
    else:
        addition = Addition(
            identifier=identifier.of_addition(line.item, base, known.to_same_base),
            base=base,
            value=difference,
            timestamp=event_timestamp(line.item.period, as_of, None, leaves_room=False),
            intended_at=now,
            as_of=as_of,
        )
    return replace(planned, line=line, anchor=addition.timestamp, addition=addition)


def _undoes(newest: Addition, base: int, wanted: int) -> bool:
    """Say whether Stripe holds the wanted quantity once the newest event is cancelled."""
    is_plain = newest.is_delivered and not newest.is_cancel and not newest.in_doubt
    return is_plain and (newest.base, newest.base + newest.value) == (wanted, base)


def _age(addition: Addition, now: datetime, as_of: datetime) -> timedelta:
    """Return how long ago an addition was intended, by the clock and by what its run was about: the longer of both."""
    return max(now - addition.intended_at, as_of - addition.as_of)


def can_be_repeated(addition: Addition, now: datetime, as_of: datetime) -> bool:
    """Say whether sending it again is safe: as long as Stripe knows its identifier, and was not said to reject it."""
    return not addition.in_doubt and _age(addition, now, as_of) < IDENTIFIER_HOLDS


class Arrived(StrEnum):
    """What Stripe's summary tells of an addition whose outcome is unknown."""

    YES = "yes"
    NO = "no"
    UNTOLD = "untold"


def arrived(addition: Addition, total: int, now: datetime, as_of: datetime) -> Arrived:
    """Given an addition and the summary's total of its period, return whether it was carried out.

    Summaries lag. That something is there is proof at once; that it is missing is believed only when the addition is
    old enough for any lag. Any other total is another program's doing, or a lag: nothing can be told from it.
    """
    without, with_it = addition.base, addition.base + addition.value
    if addition.is_cancel:
        without, with_it = with_it, without
    if total == with_it:
        return Arrived.YES
    is_old = _age(addition, now, as_of) >= IDENTIFIER_HOLDS
    return Arrived.NO if total == without and is_old else Arrived.UNTOLD
