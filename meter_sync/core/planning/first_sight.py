"""The first look: what Stripe already holds for an item, and whose it is."""

from collections.abc import Collection
from dataclasses import replace

from meter_sync.core.billing.way import Way
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.additions import added
from meter_sync.core.planning.foreign import can_be_topped_up, foreign_usage
from meter_sync.core.planning.known import Remembered
from meter_sync.core.planning.stages import Action, FirstLook, Line, LookAgain, Part, Set, Unchanged, UnfinishedLook
from meter_sync.core.planning.totals import Policy, is_zero_without_record
from meter_sync.core.planning.windows import all_days


def looked(planned: Set, total: int, allowed: Collection[Reason]) -> Action:
    """Given a write that needs a look and Stripe's total for the open period, return what to do now.

    After a first look nothing was ever there, or the first write has to find out whose it is. An unfinished look
    goes on with the total that it had read, which the caller passes as `total`; what it had written since may be
    there or not.
    """
    line = replace(planned.line, previous=total)
    highest = max(total, planned.highest_before or 0) if isinstance(planned.look, UnfinishedLook) else total
    known = replace(planned, line=line, look=None, highest_before=highest, parts=_parts(planned, total))
    if isinstance(planned.look, LookAgain):
        return _looked_again(replace(known, total_before=total), total - planned.look.at_anchor, allowed)
    if total > 0 or isinstance(planned.look, UnfinishedLook):
        return replace(known, total_before=total)
    if isinstance(planned.look, FirstLook) and is_zero_without_record(line, planned.quantity):
        return Unchanged(line)
    return known


def _parts(planned: Set, total: int) -> tuple[Part, ...] | None:
    """Return the days to write: all of them, unless Stripe holds nothing yet."""
    if planned.parts is None or planned.method.way is not Way.DAY_RECORDS:
        return planned.parts
    if total or not isinstance(planned.look, FirstLook):
        return all_days(planned)
    return tuple(replace(part, held=0) for part in planned.parts)


def looked_at_event_total(planned: Set, total: int, policy: Policy) -> Action:
    """Given a first write by events, and what Stripe's summary of the period says, return what to do now.

    Whose events they are needs no telling: a later timestamp overrules them, or they are what is added to.
    """
    if planned.line.way is Way.ADDITIONS:
        return replace(added(planned, total, None, policy.now, policy.as_of), look=None, highest_before=total)
    line = replace(planned.line, previous=total)
    if total == planned.quantity == 0:
        return Unchanged(line)
    return replace(planned, line=line, look=None, highest_before=total)


def unfinished(line: Line, remembered: Remembered) -> Set | None:
    """Given an item and what is remembered of it, return the write that finishes an interrupted look, or None.

    It repeats what was intended then, by the method of then: whatever is thought of the item now, Stripe must first
    hold what it should have held.
    """
    if remembered.total_before is None:
        return None
    return Set(
        line=replace(
            line,
            subjects=remembered.subjects,
            quantity=remembered.quantity,
            previous=remembered.total_before,
            follows=remembered.run,
        ),
        quantity=remembered.quantity,
        method=remembered.method,
        anchor=remembered.anchor,
        total_before=remembered.total_before,
        parts=_parts_of_then(remembered),
    )


def _parts_of_then(remembered: Remembered) -> tuple[Part, ...] | None:
    if not remembered.method.way.is_in_parts:
        return None
    then = sorted(remembered.parts.parts.items())
    return tuple(Part(start, part.timestamp, part.value, None, part.total) for start, part in then)


def not_looked(planned: Set, allowed: Collection[Reason]) -> Action:
    """Given a write that needs a look, return what a dry run, which looks at nothing, can say of it."""
    if isinstance(planned.look, LookAgain):
        return _looked_again(planned, planned.look.foreign, allowed)
    return planned


def _looked_again(known: Set, foreign: int, allowed: Collection[Reason]) -> Action:
    """Hold while others' records seem to be there, unless that is allowed; else let the write find out.

    What they hold is only an estimate here: the record at the anchor may have been moved since, by a run with another
    ledger. The write that follows reads the total again, and only then anything is topped up.
    """
    if foreign <= 0 or (Reason.FOREIGN_USAGE in allowed and can_be_topped_up(known.line, known.quantity, foreign)):
        return known
    return foreign_usage(known.line, known.quantity, foreign)
