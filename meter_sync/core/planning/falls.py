"""Usage that fell and was held: the suspicion stays, also where later usage has grown past what Stripe holds.

What was used up to the instant at which it was first seen to have fallen is asked for again by itself. As long as that
is less than what Stripe held then, something is lost, however much was used since.
"""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from meter_sync.core.billing.quantity import InvalidUsage, billable
from meter_sync.core.metering.queries import Need, combined
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.carrying import carried_into, total_of
from meter_sync.core.planning.memory import Fall, Memory
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.stages import Metered
from meter_sync.core.text import utc


def needs_of_falls(metered: Metered, memory: Memory) -> tuple[Need, ...]:
    """Return the usage that tells whether what was lost of an item has come back: one total for each, or stretch."""
    return tuple(need for fall in memory.falls.get(metered.item.id, ()) for need in _needs(metered, fall))


def with_falls(metered: Metered, usages: Mapping[str, object], memory: Memory, policy: Policy) -> Metered:
    """Given what was answered for each need, return an item with the falls that have not come back.

    A person who lifts the brake has explained them all.
    """
    falls = memory.falls.get(metered.item.id, ())
    if Reason.DECREASE in policy.allowed or not falls:
        return metered
    if not falls:
        return metered
    return replace(metered, falls=tuple(one for one in falls if not _is_back(metered, one, usages)))


def is_lower(metered: Metered, usage: Decimal, memory: Memory) -> bool:
    """Say whether an item's usage makes less than Stripe holds or was to hold, as the ledger knows it.

    So is what cannot be billed: it may be the fault of how the usage was found.
    """
    remembered = memory.remembered.get(metered.item.id)
    if remembered is None:
        return False
    try:
        own = billable(usage, metered.row.scale, metered.row.rounding)
    except InvalidUsage:
        return True
    return own + total_of(carried_into(metered, own, memory)) < max(remembered.quantity, remembered.acknowledged or 0)


def _needs(metered: Metered, fall: Fall) -> list[Need]:
    if fall.seen_at <= metered.span.start:
        return []
    then = replace(metered, read_since=None).until(fall.seen_at)
    return [replace(need, item=f"{need.item} until {utc(fall.seen_at)}", window=None) for need in then.needs]


def _is_back(metered: Metered, fall: Fall, usages: Mapping[str, object]) -> bool:
    """Say whether as much is known by now of the time before a fall was seen as Stripe held then.

    What is not answered is not known to be back.
    """
    answers = [usages.get(need.item) for need in _needs(metered, fall)]
    totals = [one for one in answers if isinstance(one, Decimal)]
    if not totals or len(totals) < len(answers):
        return False
    try:
        usage = combined(metered.meter.aggregation, totals)
        return billable(usage, metered.row.scale, metered.row.rounding) >= fall.before
    except InvalidUsage:
        return False
