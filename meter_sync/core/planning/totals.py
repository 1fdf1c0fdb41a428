"""The plan for items that are reported as one total, by a record, an event or additions."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from meter_sync.core.billing.event_times import can_be_stamped, event_timestamp, summary_span
from meter_sync.core.billing.item import Target
from meter_sync.core.billing.quantity import InvalidUsage, billable, within_digits, without_noise
from meter_sync.core.billing.way import Way
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning import period_closed
from meter_sync.core.planning.additions import added, look_after_silence, resending
from meter_sync.core.planning.carrying import carried_into, total_of
from meter_sync.core.planning.draft import closed_with, drafted, found_before
from meter_sync.core.planning.memory import Memory, Remembered, RememberedAdditions
from meter_sync.core.planning.obstacles import invalid
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import held, skipped, unchanged
from meter_sync.core.planning.sends import SetWindows, WindowQuantity
from meter_sync.core.planning.stages import Metered, Planned, Result, Write
from meter_sync.core.text import utc


def plan_total(metered: Metered, usage: Decimal, memory: Memory, policy: Policy) -> Planned | Result:
    """Given an item that is reported as one total, and its usage, return what should happen to it.

    A known item without usage needs no record, except on a `last_ever` price: with no record in a period the last one
    of an earlier period bills again (API reference 2025-01-27.acacia).
    """
    remembered, row = memory.remembered.get(metered.item.id), metered.row
    found = found_before(metered, remembered)
    try:
        usage = without_noise(usage)
        own = billable(usage, row.scale, row.rounding)
        carried = carried_into(metered, own, memory)
        quantity = own + total_of(carried)
        if metered.way.target is Target.METER_EVENT:
            within_digits(quantity)
    except InvalidUsage as error:
        return invalid(replace(found, usage=usage), error)
    draft = drafted(metered, found, usage, quantity, carried, memory, policy)
    if isinstance(draft, Result) or not draft.write.intake.is_open:
        return draft
    is_there = _stands_already(draft, remembered, policy) if remembered else is_zero_without_record(draft.write)
    is_same = carried == memory.carried_into(metered.item.id)
    if is_there and is_same and draft.look is None and not policy.resend:
        return unchanged(draft.write)
    if metered.way.target is Target.METER_EVENT and not can_be_stamped(draft.found.stamps_now, policy.as_of):
        return _too_short(draft, policy)
    match metered.way:
        case Way.ADDITIONS:
            return _added(draft, remembered, policy, is_same=is_same)
        case Way.LAST:
            return _later(draft, remembered, policy)
    return replace(draft, write=_instead_of_days(draft.write, remembered)) if remembered else draft


def _too_short(draft: Planned, policy: Policy) -> Planned | Result:
    """Return an item that has lived for less than a whole minute: it waits; and once it is over, its usage is named."""
    write, stamps = draft.write, draft.found.stamps_now
    if stamps.end <= policy.as_of:
        return replace(draft, write=closed_with(write, write.found.standing or 0), look=None)
    first = utc(summary_span(stamps).start)
    return skipped(write.told, Reason.NOT_STARTED, f"its events are stamped from {first} on: the next run reports it")


def _added(draft: Planned, remembered: Remembered | None, policy: Policy, *, is_same: bool) -> Planned | Result:
    """Add what Stripe lacks: sending again what it acknowledged would bill it twice.

    `is_same` says whether as much is carried into it as before; if not that is recorded, also where nothing is added.
    """
    write, now, as_of = draft.write, policy.now, policy.as_of
    if draft.look is not None:
        return replace(
            draft, write=stamped(write, event_timestamp(write.found.stamps_now, as_of, None, leaves_room=False))
        )
    known = remembered.additions if remembered else RememberedAdditions()
    if remembered and policy.resend:
        look = resending(draft.metered, write, remembered)
        return look if isinstance(look, Result) else replace(draft, look=look)
    write = added(write, remembered.acknowledged or 0 if remembered else 0, known, now, as_of)
    if not write.how_many and is_same:
        return unchanged(write)
    return replace(draft, write=write, look=look_after_silence(draft.metered, write, known.newest, policy))


def _later(draft: Planned, remembered: Remembered | None, policy: Policy) -> Planned | Result:
    """Give an event that sets the period's total a later timestamp than the last one had."""
    write = draft.write
    last, leaves_room = (write.anchor, True) if remembered else (None, draft.look is None)
    timestamp = event_timestamp(write.found.stamps_now, policy.as_of, last, leaves_room=leaves_room)
    if last is None or timestamp > last:
        return replace(draft, write=stamped(write, timestamp))
    message = period_closed.no_later_timestamp(write.found.standing, write.quantity)
    return held(write.told, Reason.PERIOD_CLOSED, message)


def stamped(write: Write, timestamp: datetime) -> Write:
    """Return a write with its timestamp."""
    span = write.found.span and replace(write.found.span, anchor=timestamp)
    return replace(write, found=replace(write.found, span=span), anchor=timestamp)


def _instead_of_days(write: Write, remembered: Remembered) -> Write:
    """Where records for each day stood until now, return the one for the period and zero for all others.

    Records at several timestamps add up.
    """
    if remembered.method.way is not Way.DAY_RECORDS:
        return write
    zeros = [WindowQuantity(start, one.timestamp, 0) for start, one in remembered.windows.by_start.items()]
    whole = WindowQuantity(remembered.anchor, remembered.anchor, write.quantity)
    days = (whole, *(zero for zero in zeros if zero.timestamp != whole.timestamp))
    return replace(write, sends=SetWindows(days))


def _stands_already(draft: Planned, remembered: Remembered, policy: Policy) -> bool:
    if remembered.acknowledged_at is None:
        return False
    metered = draft.metered
    recently = policy.now - remembered.acknowledged_at < policy.resend_after
    now = (draft.write.quantity, metered.item.price.id, metered.method)
    then = (remembered.acknowledged, remembered.price, remembered.method)
    return recently and now == then and remembered.is_of(metered.subjects, metered.grouping)


def is_zero_without_record(write: Write) -> bool:
    """Say whether Stripe bills zero for an item, as it should, without anything being written."""
    bills_again = write.method.way is Way.RECORD and write.item.price.aggregate_usage == "last_ever"
    return write.quantity == 0 and not bills_again
