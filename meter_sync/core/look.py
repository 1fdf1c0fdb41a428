"""The first look: what Stripe already holds for an item, and whose it is."""

from collections.abc import Collection
from dataclasses import replace

from meter_sync.core.outcomes import Reason
from meter_sync.core.plan import (
    Action,
    FirstLook,
    Hold,
    LookAgain,
    Set,
    Unchanged,
    UnfinishedLook,
    is_zero_without_record,
)


def looked(planned: Set, total: int, allowed: Collection[Reason]) -> Action:
    """Given a write that needs a look and Stripe's total for the open period, return what to do now.

    After a first look nothing was ever there, or the first write has to find out whose it is. An unfinished look
    goes on with the total that it had read, which the caller passes as `total`.
    """
    line = replace(planned.line, previous=total)
    known = replace(planned, line=line, look=None, highest_before=total)
    if isinstance(planned.look, LookAgain):
        return _looked_again(known, total - planned.look.at_anchor, allowed)
    if total > 0 or isinstance(planned.look, UnfinishedLook):
        return replace(known, total_before=total)
    if isinstance(planned.look, FirstLook) and is_zero_without_record(line, planned.quantity):
        return Unchanged(line)
    return known


def not_looked(planned: Set, allowed: Collection[Reason]) -> Action:
    """Given a write that needs a look, return what a dry run, which looks at nothing, can say of it."""
    if isinstance(planned.look, LookAgain):
        return _looked_again(planned, planned.look.foreign, allowed)
    return planned


def _looked_again(known: Set, foreign: int, allowed: Collection[Reason]) -> Action:
    if foreign == 0:
        return known
    return topped_up(known, foreign, allowed) or foreign_usage(known, foreign)


def topped_up(planned: Set, foreign: int, allowed: Collection[Reason]) -> Set | None:
    """Given what other records hold, return the write of the rest, or None where that is not allowed or possible.

    Only a `sum` price can be topped up, and only while the others hold no more than the whole.
    """
    price = planned.line.item.price
    possible = price.aggregate_usage == "sum" and 0 <= foreign <= planned.quantity
    if Reason.FOREIGN_USAGE not in allowed or not possible:
        return None
    return replace(planned, foreign=foreign, look=None, total_before=None)


def foreign_usage(planned: Set, foreign: int) -> Hold:
    """Given a write and what other records hold beside it, return the hold that says so with both numbers."""
    price = planned.line.item.price
    line = planned.line
    remedy = (
        "stop the other program; or bill only the rest with --allow foreign_usage"
        if price.aggregate_usage == "sum"
        else f"stop the other program; a {price.aggregate_usage} price cannot be topped up"
    )
    return Hold(
        line,
        Reason.FOREIGN_USAGE,
        f"OpenMeter says {planned.quantity}, but usage records that are not from this program hold {foreign} in this "
        f"period; Stripe was left as it was: {remedy}",
    )
