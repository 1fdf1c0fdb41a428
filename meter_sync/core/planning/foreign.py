"""Usage that another program has reported for an item: naming it, and billing only the rest by permission."""

from collections.abc import Collection
from dataclasses import replace

from meter_sync.core.billing.item import Target
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.results import held
from meter_sync.core.planning.sends import SetWindows, WindowQuantity
from meter_sync.core.planning.stages import LookAgain, Planned, Result, Write


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


def foreign_usage(write: Write, foreign: int) -> Result:
    """Given a write and what other records hold beside it, return the hold that says so with both numbers."""
    if write.method.way.target is Target.METER_EVENT:
        what, where = "meter events", "this period"
        remedy = "stop the other program and cancel its events"
    else:
        what, where = "usage records", f"this period of a {write.item.price.aggregate_usage} price"
        remedy = "stop the other program and set its records to zero"
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
        return looked_again(planned, planned.look.foreign, allowed)
    return planned


def looked_again(known: Planned, foreign: int, allowed: Collection[Reason]) -> Planned | Result:
    """Hold while others' records seem to be there, unless that is allowed; else let the write find out.

    What they hold is only an estimate here: the record at the anchor may have been moved since, by a run with another
    ledger. The write that follows reads the total again, and only then anything is topped up.
    """
    if foreign <= 0 or (Reason.FOREIGN_USAGE in allowed and can_be_topped_up(known.write, foreign)):
        return known
    return foreign_usage(known.write, foreign)
