"""The plan: from an item's usage to what should happen to it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from meter_sync.core.billing.item import Ending, Target
from meter_sync.core.billing.quantity import InvalidUsage, billable, within_digits, without_noise
from meter_sync.core.billing.span import event_timestamp
from meter_sync.core.billing.way import Way
from meter_sync.core.metering.queries import Unanswered
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.additions import added
from meter_sync.core.planning.foreign import can_be_topped_up, foreign_usage
from meter_sync.core.planning.known import Memory, Method, Remembered, RememberedAdditions
from meter_sync.core.planning.stages import (
    Action,
    Fail,
    FirstLook,
    Hold,
    Line,
    Look,
    LookAgain,
    Part,
    Set,
    Unchanged,
    UnfinishedLook,
    meter_of,
    span_of,
)


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided for this run."""

    now: datetime
    """When the run began, in UTC."""
    as_of: datetime
    """The instant that the run is about: the same, unless another one was asked for."""
    resend: bool = False
    resend_after: timedelta = timedelta(hours=24)
    """An acknowledged quantity is sent again after so long, which heals what others changed in Stripe."""
    lookback: timedelta = timedelta(days=3)
    """How much of a period is read again in each run where hours or days are reported; at least a day."""
    cadence: timedelta = timedelta(hours=1)
    """How often runs are promised to come."""
    allowed: frozenset[Reason] = frozenset()


def decide(line: Line, usage: Decimal | Unanswered, memory: Memory, policy: Policy) -> Action:
    """Given a line that is reported as one total, and its usage, return what should happen to its item."""
    remembered = memory.remembered.get(line.item.id)
    line = recalled(line, remembered)
    if isinstance(usage, Unanswered):
        return Fail(line, Reason.OPENMETER_ERROR, usage.message)
    try:
        usage = without_noise(usage)
        quantity = billable(usage, line.row.scale, line.row.rounding)
        if line.way.target is Target.METER_EVENT:
            within_digits(quantity)
    except InvalidUsage as error:
        return invalid(replace(line, usage=usage), error)
    line = replace(line, usage=usage, quantity=quantity)
    if line.ending is not Ending.OPEN:
        return closing(line, quantity, remembered, is_known=line.item.id in memory.known_items)
    if remembered:
        return held_back(line, remembered, policy) or _next_report(line, quantity, remembered, policy)
    return _first_report(line, quantity, policy, known=line.item.id in memory.known_items)


def recalled(line: Line, remembered: Remembered | None) -> Line:
    """Given a line and what is remembered of its item, return it with what was reported before."""
    if remembered is None:
        return line
    span = span_of(line) if line.way.is_in_parts else replace(span_of(line), anchor=remembered.anchor)
    return replace(line, span=span, previous=remembered.acknowledged, follows=remembered.run)


def closing(line: Line, quantity: int, remembered: Remembered | None, *, is_known: bool) -> Action:
    """Given a line of which Stripe takes no more usage, return what it lacks; nothing is sent.

    What Stripe holds is read back from it once, and else is what it acknowledged. Where nothing bills the period, all
    of its usage is lacking.
    """
    if remembered and remembered.additions.newest and not remembered.additions.newest.is_delivered:
        return _unsettled(line)
    unbilled = line.ending is Ending.UNBILLED
    held = 0 if unbilled or remembered is None else remembered.acknowledged or 0
    held = held if line.billed is None else line.billed
    is_zero = remembered is None and is_known and line.item.price.aggregate_usage != "last_ever"
    looks = not (unbilled or line.billed is not None or line.is_read_back or is_zero)
    planned = Set(
        line=line,
        quantity=quantity,
        method=method(line),
        anchor=span_of(line).anchor,
        look=FirstLook() if looks else None,
        closed_before=remembered.closed if remembered else 0,
    )
    return closed_at(planned, held)


def closed_at(planned: Set, held: int) -> Set:
    """Given a write that nothing is sent for, and what Stripe bills, return it with what that lacks."""
    quantity = planned.quantity + planned.closed
    return replace(planned, line=replace(planned.line, previous=held), quantity=held, parts=(), closed=quantity - held)


def _unsettled(line: Line) -> Hold:
    return Hold(
        line,
        Reason.UNSETTLED,
        "whether an earlier addition arrived cannot be told yet: nothing was added; the next runs ask again, and "
        "know within a day",
    )


def invalid(line: Line, error: InvalidUsage) -> Hold:
    """Return the hold of an item whose usage cannot be billed."""
    return Hold(line, Reason.INVALID_USAGE, f"{error}; nothing was written, look at the meter's events")


def held_back(line: Line, remembered: Remembered, policy: Policy) -> Hold | None:
    """Return why an item that was reported before must not be written now, or None."""
    if remembered.rejected is not None:
        said = "was reported, and then rejected by Stripe" if not _is_in_doubt(remembered) else "may have been rejected"
        return Hold(
            line,
            Reason.REJECTED,
            f"its usage {said}: {remembered.rejected}; remove the cause: the next run reports it again",
        )
    newest = remembered.additions.newest
    if newest and not newest.is_delivered:
        return _unsettled(line)
    return _changed(line, remembered, policy)


def _is_in_doubt(remembered: Remembered) -> bool:
    newest = remembered.additions.newest
    return newest is not None and newest.in_doubt


def _changed(line: Line, remembered: Remembered, policy: Policy) -> Hold | None:
    """Hold a method that changed within the period. That of Stripe's own side is changed by no permission.

    What was written for the old price can neither be set to zero nor counted for the new one.
    """
    now, then = method(line), remembered.method
    if now == then:
        return None
    if (now.target, now.stripe_meter) != (then.target, then.stripe_meter):
        return Hold(
            line,
            Reason.MAPPING_CHANGED,
            f"its price moved within the period, from {_place(then)} to {_place(now)}: it is reported again from the "
            "next period on; look at this period's invoice, which may lack usage since the change",
        )
    if Reason.MAPPING_CHANGED in policy.allowed:
        return None
    return Hold(line, Reason.MAPPING_CHANGED, _changed_message(now, then))


def _next_report(line: Line, quantity: int, remembered: Remembered, policy: Policy) -> Action:
    """Decide for an item that was reported in this period before."""
    look = look_of(remembered)
    if look is None and remembered.foreign and not can_be_topped_up(line, quantity, remembered.foreign):
        return foreign_usage(line, quantity, remembered.foreign)
    if look is None and not policy.resend and _holds_already(line, quantity, remembered, policy):
        return Unchanged(line)
    planned = Set(
        line=line,
        quantity=quantity,
        method=method(line),
        anchor=remembered.anchor,
        highest_before=highest_before(line, remembered, policy),
        foreign=0 if look else remembered.foreign,
        look=look,
        parts=_instead_of_days(line, quantity, remembered),
    )
    if line.way is Way.ADDITIONS:
        return _next_addition(planned, remembered, policy)
    return _later(planned, policy) if line.way is Way.LAST else planned


def _next_addition(planned: Set, remembered: Remembered, policy: Policy) -> Action:
    """Add what Stripe lacks: sending again what it acknowledged would bill it twice."""
    addition = added(planned, remembered.acknowledged or 0, remembered.additions, policy.now, policy.as_of)
    return addition if addition.sends else Unchanged(addition.line)


def _later(planned: Set, policy: Policy) -> Action:
    """Give an event that sets the period's total a later timestamp than the last one had."""
    timestamp = event_timestamp(planned.line.item.period, policy.as_of, planned.anchor, leaves_room=True)
    if timestamp > planned.anchor:
        return at(planned, timestamp)
    return Hold(
        planned.line,
        Reason.PERIOD_CLOSED,
        f"Stripe holds {planned.line.previous} at the last timestamp of the period; {planned.quantity} can no "
        "longer be set: settle the difference by hand",
    )


def at(planned: Set, timestamp: datetime) -> Set:
    """Return a write with its timestamp."""
    line = replace(planned.line, span=replace(span_of(planned.line), anchor=timestamp))
    return replace(planned, line=line, anchor=timestamp)


def _instead_of_days(line: Line, quantity: int, remembered: Remembered) -> tuple[Part, ...] | None:
    """Where records for each day stood until now, return the one for the period and zero for all others.

    Records at several timestamps add up.
    """
    if line.way is not Way.RECORD or remembered.method.way is not Way.DAY_RECORDS:
        return None
    zeros = [Part(start, part.timestamp, 0) for start, part in remembered.parts.parts.items()]
    whole = Part(remembered.anchor, remembered.anchor, quantity)
    return (whole, *(zero for zero in zeros if zero.timestamp != whole.timestamp))


def look_of(remembered: Remembered) -> Look | None:
    """Return what has to be found out in Stripe before an item that was reported before is written again."""
    if remembered.total_before is not None:
        return UnfinishedLook(remembered.total_before)
    return LookAgain(remembered.at_anchor, remembered.foreign) if remembered.foreign_held else None


def highest_before(line: Line, remembered: Remembered, policy: Policy) -> int | None:
    """Return the largest quantity that Stripe may hold: an unanswered write may have arrived, or not.

    None where it says nothing of a fall: the method changed, or the run is about an instant before what was reported
    last, as only a dry run may be.
    """
    if method(line) != remembered.method or policy.as_of < remembered.as_of:
        return None
    return max(remembered.quantity, remembered.acknowledged or 0)


def _holds_already(line: Line, quantity: int, remembered: Remembered, policy: Policy) -> bool:
    if remembered.acknowledged_at is None:
        return False
    recently = policy.now - remembered.acknowledged_at < policy.resend_after
    now = (quantity, line.item.price.id, line.subjects, method(line))
    then = (remembered.acknowledged, remembered.price, remembered.subjects, remembered.method)
    return recently and now == then


def _first_report(line: Line, quantity: int, policy: Policy, *, known: bool) -> Action:
    """Decide for an item that was not reported in this period yet.

    A known item without usage needs no record, except on a `last_ever` price: with no record in a period the
    last one of an earlier period bills again (API reference 2025-01-27.acacia).
    """
    if known and not policy.resend and is_zero_without_record(line, quantity):
        return Unchanged(replace(line, previous=0))
    planned = Set(
        line=replace(line, previous=0 if known else None),
        quantity=quantity,
        method=method(line),
        anchor=span_of(line).anchor,
        look=None if known else FirstLook(),
    )
    if line.way is Way.RECORD:
        return planned
    planned = at(planned, event_timestamp(line.item.period, policy.as_of, None, leaves_room=known))
    if line.way is Way.ADDITIONS and known:
        return added(planned, 0, RememberedAdditions(), policy.now, policy.as_of)
    return planned


def is_zero_without_record(line: Line, quantity: int) -> bool:
    """Say whether Stripe bills zero for the line, as it should, without anything being written."""
    return quantity == 0 and (line.way is not Way.RECORD or line.item.price.aggregate_usage != "last_ever")


def _changed_message(now: Method, then: Method) -> str:
    return (
        f"the way of metering changed within the period, from {_in_words(then)} to {_in_words(now)}; the new one "
        "begins with the next period, or now with --allow mapping_changed"
    )


def _in_words(method: Method) -> str:
    where = "".join(f" {dimension}={'|'.join(values)}" for dimension, values in method.filter)
    days = " in days" if method.way is Way.DAY_RECORDS else ""
    return f"{method.meter}{where} x {method.scale.normalize():f} {method.rounding}{days}"


def _place(method: Method) -> str:
    return f"billing meter {method.stripe_meter}" if method.stripe_meter else "usage records"


def method(line: Line) -> Method:
    """Return how the line's usage becomes what Stripe holds."""
    return Method(
        way=line.way,
        meter=meter_of(line).slug,
        filter=line.row.filter,
        scale=line.row.scale,
        rounding=line.row.rounding,
        stripe_meter=line.item.price.stripe_meter,
    )
