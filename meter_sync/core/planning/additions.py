"""On a meter that only adds up: what to add to what Stripe holds, and whether an addition has arrived."""

from dataclasses import replace
from datetime import datetime, timedelta

from meter_sync.core.billing import identifiers
from meter_sync.core.billing.event_times import event_timestamp
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.looks import AfterSilence, Resending
from meter_sync.core.planning.memory import Addition, Memory, Remembered, RememberedAdditions
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import held
from meter_sync.core.planning.sends import Add, Cancel, SendNothing
from meter_sync.core.planning.stages import Findings, Metered, Planned, Result, Write

IDENTIFIER_HOLDS = timedelta(hours=23)
"""Stripe knows an identifier again, and cancels an event, for 24 hours (API reference); an hour is margin."""


def added(write: Write, base: int, known: RememberedAdditions | None, now: datetime, as_of: datetime) -> Write:
    """Given a write, and what stands in Stripe, return it with the addition that makes up the difference.

    `known` is None where the base was read from Stripe's summary, not known from the ledger.
    Where too much is there, the newest event is cancelled if it is exactly what is too much; else a negative value is
    added, which is exact as well: Stripe sums the values of all events.
    """
    write, difference = write.stands(base), write.quantity - base
    if difference == 0:
        return replace(write, sends=SendNothing())
    newest = known.newest if known else None
    if newest and _undoes(newest, base, write.quantity) and _age(newest, now, as_of) < IDENTIFIER_HOLDS:
        cancelled = replace(newest, is_cancel=True, is_delivered=False)
        return replace(write, anchor=cancelled.timestamp, sends=Cancel(cancelled))
    addition = Addition(
        identifier=identifiers.of_addition(write.item, base, known.to_same_base if known else 0),
        base=base,
        value=difference,
        timestamp=event_timestamp(write.found.stamps_now, as_of, None, leaves_room=False),
        intended_at=now,
        as_of=as_of,
        attempted_at=now,
        base_is_read=known is None,
    )
    return replace(write, anchor=addition.timestamp, sends=Add(addition))


def resending(metered: Metered, write: Write, remembered: Remembered) -> Resending | Result:
    """Return the look that adding again needs, or why nothing can be added again."""
    if not sums_alone(metered.found):
        said = "Stripe's summary has other items' events too, so --resend cannot tell what lacks: nothing was added"
        return held(write.told, Reason.UNSETTLED, said)
    newest = remembered.additions.newest
    return Resending(remembered.acknowledged or 0, newest.attempted_at if newest else None)


def added_again(planned: Planned, look: Resending, standing: int, policy: Policy) -> Planned | Result:
    """Given what stands in Stripe, return the write that adds what lacks, under an identifier of its own.

    A summary lags: one that has less than Stripe took within the last day is not believed, or it would be added twice.
    """
    write = planned.write
    is_young = look.added_at is not None and policy.now - look.added_at < IDENTIFIER_HOLDS
    if standing < look.acknowledged and is_young:
        said = (
            f"Stripe's summary has {standing} of the {look.acknowledged} that it took within the last day: it may lag, "
            "so nothing was added again; repeat --resend a day after the last report"
        )
        return held(write.stands(look.acknowledged).told, Reason.UNSETTLED, said)
    write = added(write, standing, None, policy.now, policy.as_of)
    if isinstance(write.sends, Add):
        once = identifiers.of_addition(write.item, standing, int(policy.now.timestamp()))
        write = replace(write, sends=Add(replace(write.sends.addition, identifier=once)))
    return replace(planned, write=write, look=None)


def _undoes(newest: Addition, base: int, wanted: int) -> bool:
    """Say whether Stripe holds the wanted quantity once the newest event is cancelled."""
    is_plain = newest.is_delivered and not newest.is_cancel and not newest.in_doubt
    return is_plain and (newest.base, newest.base + newest.value) == (wanted, base)


def _age(addition: Addition, now: datetime, as_of: datetime) -> timedelta:
    """Return how long ago an addition was intended, by the clock and by what its run was about: the longer of both."""
    return max(now - addition.intended_at, as_of - addition.as_of)


def look_after_silence(metered: Metered, write: Write, newest: Addition | None, policy: Policy) -> AfterSilence | None:
    """Given what is to be added, and the newest addition to the period, return the look that it needs first, or None.

    A ledger that was restored, with all that is beside it, knows less than Stripe has. Whatever was added since to what
    this ledger knows has the identifier of what is to be added now, so Stripe refuses it, but only for a day. Where
    other items' events are in the same summary, it cannot tell.
    """
    cannot_tell = metered.row.shared or metered.listed.is_read_back
    if cannot_tell or not isinstance(write.sends, Add):
        return None
    age = _age(newest, policy.now, policy.as_of) if newest else policy.now - write.item.period.start
    return AfterSilence() if age >= IDENTIFIER_HOLDS else None


def sums_alone(found: Findings) -> bool:
    """Say whether Stripe's summary of an item's period is certain to have no other item's events in it."""
    return not found.row.shared and found.item.is_followed


def can_be_repeated(addition: Addition, now: datetime, as_of: datetime) -> bool:
    """Say whether sending it again is safe: as long as Stripe knows its identifier, and was not said to reject it."""
    return not addition.in_doubt and _age(addition, now, as_of) < IDENTIFIER_HOLDS


def shows_in_summary(addition: Addition, now: datetime) -> bool:
    """Say whether Stripe's summary has it by now, if Stripe has it: summaries lag, but not for most of a day."""
    return now - addition.attempted_at >= IDENTIFIER_HOLDS


def as_settled(memory: Memory, now: datetime, as_of: datetime) -> Memory:
    """Given what is remembered of items, return it as it stands once each addition was repeated that can be."""
    return replace(memory, remembered={id: _settled(one, now, as_of) for id, one in memory.remembered.items()})


def _settled(remembered: Remembered, now: datetime, as_of: datetime) -> Remembered:
    newest = remembered.additions.newest
    if newest is None or newest.is_delivered or not can_be_repeated(newest, now, as_of):
        return remembered
    holds = newest.base if newest.is_cancel else newest.base + newest.value
    settled = replace(remembered.additions, newest=replace(newest, is_delivered=True))
    return replace(remembered, acknowledged=holds, quantity=holds, additions=settled)
