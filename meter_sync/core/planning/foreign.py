"""Usage that another program has reported for an item: naming it, and billing only the rest by permission."""

from collections.abc import Collection
from dataclasses import replace

from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import Target
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.looks import LookAgain, LookBeside
from meter_sync.core.planning.results import held, unchanged
from meter_sync.core.planning.sends import SetWindows, WindowQuantity
from meter_sync.core.planning.stages import Planned, Result, Write


def can_be_topped_up(write: Write, foreign: int) -> bool:
    """Say whether the anchor can hold what other records lack: only `sum` adds up, and never below zero."""
    is_sum_of_records = write.method.way.target is Target.USAGE_RECORD and write.item.price.aggregate_usage == "sum"
    return is_sum_of_records and 0 <= foreign <= write.quantity


def topped_up(write: Write, foreign: int, allowed: Collection[Reason]) -> Write | None:
    """Given what other records hold, return the write of the rest, or None where that is not allowed or possible."""
    if Reason.FOREIGN_USAGE not in allowed or not can_be_topped_up(write, foreign):
        return None
    rest = replace(write, foreign=foreign, total_before=None)
    if not isinstance(rest.sends, SetWindows):
        return rest
    return replace(rest, sends=replace(rest.sends, windows=lowered(rest.sends.windows, foreign)))


def lowered(days: tuple[WindowQuantity, ...], by: int) -> tuple[WindowQuantity, ...]:
    """Given all days of a period, return them with so much less in all, taken from the first on: none is below zero."""
    left, found = by, []
    for day in days:
        taken = min(left, day.value)
        left -= taken
        found.append(replace(day, value=day.value - taken))
    return tuple(found)


def adds_up(write: Write) -> bool:
    """Say whether Stripe adds a write's records up; else one of them counts, and the others have no say."""
    return write.item.price.aggregate_usage == "sum"


def may_bill_less(write: Write) -> bool:
    """Say whether Stripe may bill less than a record that was just set: the latest one counts, whoever set it.

    Once the period is over it may also be another one's total that was read.
    """
    is_latest = write.item.price.aggregate_usage in {"last_during_period", "last_ever"}
    return is_latest and write.intake is Intake.RUNNING


def cannot_be_told(write: Write, total_before: int) -> bool:
    """Say whether a first write cannot tell whose record counts: what counted before is what it has set."""
    return not adds_up(write) and total_before == write.quantity


def foreign_usage(write: Write, foreign: int) -> Result:
    """Given a write and how much Stripe bills beyond it, return the hold that says so with both numbers."""
    if write.method.way.target is Target.METER_EVENT:
        what, where = "meter events", "this period"
        remedy = "stop the other program and cancel its events"
    else:
        what, where = "usage records", f"this period of a {write.item.price.aggregate_usage} price"
        remedy = "stop the other program and set its records to zero"
    if may_bill_less(write):
        remedy = "stop the other program; its record counts until the period is over: settle the difference by hand"
    if not adds_up(write):
        said = f"OpenMeter says {write.quantity}, but a usage record that is not from this program counts in {where}: "
        return held(write.told, Reason.FOREIGN_USAGE, f"{said}Stripe bills {write.quantity + foreign}; {remedy}")
    if can_be_topped_up(write, foreign):
        remedy = "stop the other program; then bill only the rest with --allow foreign_usage"
    return held(
        write.told,
        Reason.FOREIGN_USAGE,
        f"OpenMeter says {write.quantity}, but {what} that are not from this program hold {foreign} in {where}; "
        f"Stripe's total was left as it was: {remedy}",
    )


def not_looked(planned: Planned, allowed: Collection[Reason]) -> Planned | Result:
    """Given a write that may need a look, return what can be said of it without one, as in a dry run."""
    if isinstance(planned.look, LookAgain):
        return looked_again(planned, planned.look, planned.look.at_anchor + planned.look.foreign, allowed)
    if isinstance(planned.look, LookBeside):
        return looked_beside(planned, planned.look, planned.look.at_anchor + planned.look.foreign)
    return planned


def looked_beside(planned: Planned, look: LookBeside, total: int) -> Planned | Result:
    """Given a write of what other records lack, and Stripe's total, return the write of what they lack by now.

    The permission to do so holds for the rest of the period. Where somebody has lowered our own record, that is set
    again first: what the others hold is then read by the next run.
    """
    write = planned.write.stands(total)
    if total == write.quantity == look.at_anchor + look.foreign:
        return unchanged(write)
    beside = total - look.at_anchor
    foreign = look.foreign if beside < 0 else beside
    rest = topped_up(write, foreign, {Reason.FOREIGN_USAGE})
    return replace(planned, write=rest, look=None) if rest else foreign_usage(write, foreign)


def looked_again(known: Planned, look: LookAgain, total: int, allowed: Collection[Reason]) -> Planned | Result:
    """Hold while others' records seem to be there, unless that is allowed; else let the write find out.

    What they hold is only an estimate here: the record at the anchor may have been moved since, by a run with another
    ledger. The write that follows reads the total again, and only then anything is topped up.
    """
    write, foreign = known.write, total - look.at_anchor
    # Of a maximum, what is higher by now counts itself.
    is_beyond = foreign > 0 and (adds_up(write) or total > write.quantity)
    is_others = foreign != 0 if may_bill_less(write) else is_beyond
    if not is_others or (Reason.FOREIGN_USAGE in allowed and can_be_topped_up(write, foreign)):
        return known
    return foreign_usage(write, foreign if adds_up(write) else total - write.quantity)
