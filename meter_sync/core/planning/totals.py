"""The plan for items that are reported as one total, by a record, an event or additions."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from meter_sync.core.billing.event_times import event_timestamp
from meter_sync.core.billing.item import Target
from meter_sync.core.billing.quantity import InvalidUsage, billable, within_digits, without_noise
from meter_sync.core.billing.way import Way
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning import period_closed
from meter_sync.core.planning.additions import added
from meter_sync.core.planning.draft import drafted, found_before, highest_before, last_account_or_obstacle, look_of
from meter_sync.core.planning.foreign import can_be_topped_up, foreign_usage
from meter_sync.core.planning.memory import Memory, Remembered, RememberedAdditions
from meter_sync.core.planning.obstacles import invalid
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import held, unchanged
from meter_sync.core.planning.stages import (
    FirstLook,
    Metered,
    Planned,
    Result,
    SetTotal,
    SetWindows,
    WindowQuantity,
    Write,
)


def plan_total(metered: Metered, usage: Decimal, memory: Memory, policy: Policy) -> Planned | Result:
    """Given an item that is reported as one total, and its usage, return what should happen to it."""
    remembered, row = memory.remembered.get(metered.item.id), metered.row
    found = found_before(metered, remembered)
    try:
        usage = without_noise(usage)
        quantity = billable(usage, row.scale, row.rounding)
        if metered.way.target is Target.METER_EVENT:
            within_digits(quantity)
    except InvalidUsage as error:
        return invalid(replace(found, usage=usage), error)
    draft = drafted(metered, found, usage, quantity, remembered)
    decided = last_account_or_obstacle(metered, draft, memory, policy)
    if decided:
        return decided
    if remembered:
        return _next_report(metered, draft, remembered, policy)
    return _first_report(metered, draft, policy, is_known=metered.item.id in memory.known_items)


def _first_report(metered: Metered, draft: Write, policy: Policy, *, is_known: bool) -> Planned | Result:
    """Decide for an item that was not reported in this period yet.

    A known item without usage needs no record, except on a `last_ever` price: with no record in a period the
    last one of an earlier period bills again (API reference 2025-01-27.acacia).
    """
    draft = draft.stands(0 if is_known else None)
    if is_known and not policy.resend and is_zero_without_record(draft):
        return unchanged(draft)
    if metered.way is not Way.RECORD:
        draft = stamped(draft, event_timestamp(draft.item.period, policy.as_of, None, leaves_room=is_known))
    if metered.way is Way.ADDITIONS and is_known:
        draft = added(draft, 0, RememberedAdditions(), policy.now, policy.as_of)
    return Planned(metered, draft, look=None if is_known else FirstLook())


def _next_report(metered: Metered, draft: Write, remembered: Remembered, policy: Policy) -> Planned | Result:
    """Decide for an item that was reported in this period before."""
    look = look_of(remembered)
    foreign = 0 if look else remembered.foreign
    if foreign and not can_be_topped_up(draft, foreign):
        return foreign_usage(draft, foreign)
    if look is None and not policy.resend and _stands_already(metered, draft, remembered, policy):
        return unchanged(draft)
    planned = Planned(
        metered,
        replace(draft, foreign=foreign, sends=_instead_of_days(metered, draft, remembered)),
        highest_before(metered, remembered, policy),
        look,
    )
    if metered.way is Way.ADDITIONS:
        return _next_addition(planned, remembered, policy)
    return _later(planned, policy) if metered.way is Way.LAST else planned


def _next_addition(planned: Planned, remembered: Remembered, policy: Policy) -> Planned | Result:
    """Add what Stripe lacks: sending again what it acknowledged would bill it twice."""
    acknowledged = remembered.acknowledged or 0
    write = added(planned.write, acknowledged, remembered.additions, policy.now, policy.as_of)
    return replace(planned, write=write) if write.how_many else unchanged(write)


def _later(planned: Planned, policy: Policy) -> Planned | Result:
    """Give an event that sets the period's total a later timestamp than the last one had."""
    write = planned.write
    timestamp = event_timestamp(write.item.period, policy.as_of, write.anchor, leaves_room=True)
    if timestamp > write.anchor:
        return replace(planned, write=stamped(write, timestamp))
    message = period_closed.no_later_timestamp(write.found.standing, write.quantity)
    return held(write.told, Reason.PERIOD_CLOSED, message)


def stamped(write: Write, timestamp: datetime) -> Write:
    """Return a write with its timestamp."""
    span = write.found.span and replace(write.found.span, anchor=timestamp)
    return replace(write, found=replace(write.found, span=span), anchor=timestamp)


def _instead_of_days(metered: Metered, draft: Write, remembered: Remembered) -> SetTotal | SetWindows:
    """Where records for each day stood until now, return the one for the period and zero for all others.

    Records at several timestamps add up.
    """
    if metered.way is not Way.RECORD or remembered.method.way is not Way.DAY_RECORDS:
        return SetTotal()
    zeros = [WindowQuantity(start, one.timestamp, 0) for start, one in remembered.windows.by_start.items()]
    whole = WindowQuantity(remembered.anchor, remembered.anchor, draft.quantity)
    return SetWindows((whole, *(zero for zero in zeros if zero.timestamp != whole.timestamp)))


def _stands_already(metered: Metered, draft: Write, remembered: Remembered, policy: Policy) -> bool:
    if remembered.acknowledged_at is None:
        return False
    recently = policy.now - remembered.acknowledged_at < policy.resend_after
    now = (draft.quantity, metered.item.price.id, metered.subjects, metered.method)
    then = (remembered.acknowledged, remembered.price, remembered.subjects, remembered.method)
    return recently and now == then


def is_zero_without_record(write: Write) -> bool:
    """Say whether Stripe bills zero for an item, as it should, without anything being written."""
    bills_again = write.method.way is Way.RECORD and write.item.price.aggregate_usage == "last_ever"
    return write.quantity == 0 and not bills_again
