"""Usage that another program has reported for an item: naming it, and billing only the rest by permission."""

from collections.abc import Collection
from dataclasses import replace

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.stages import Hold, Line, Part, Set


def can_be_topped_up(line: Line, quantity: int, foreign: int) -> bool:
    """Say whether the anchor can hold what other records lack: only `sum` adds up, and never below zero."""
    return line.item.price.aggregate_usage == "sum" and 0 <= foreign <= quantity


def topped_up(planned: Set, foreign: int, allowed: Collection[Reason]) -> Set | None:
    """Given what other records hold, return the write of the rest, or None where that is not allowed or possible."""
    if Reason.FOREIGN_USAGE not in allowed or not can_be_topped_up(planned.line, planned.quantity, foreign):
        return None
    rest = replace(planned, foreign=foreign, look=None, total_before=None)
    return rest if planned.parts is None else replace(rest, parts=lowered(planned.parts, foreign))


def lowered(parts: tuple[Part, ...], by: int) -> tuple[Part, ...]:
    """Given all days of a period, return them with so much less in all, taken from the first on: none is below zero."""
    left, found = by, []
    for part in parts:
        taken = min(left, part.value)
        left -= taken
        found.append(replace(part, value=part.value - taken))
    return tuple(found)


def foreign_usage(line: Line, quantity: int, foreign: int) -> Hold:
    """Given a quantity and what other records hold beside it, return the hold that says so with both numbers."""
    remedy = "stop the other program and set its records to zero"
    if can_be_topped_up(line, quantity, foreign):
        remedy = "stop the other program; then bill only the rest with --allow foreign_usage"
    return Hold(
        line,
        Reason.FOREIGN_USAGE,
        f"OpenMeter says {quantity}, but usage records that are not from this program hold {foreign} in this period "
        f"of a {line.item.price.aggregate_usage} price; Stripe's total was left as it was: {remedy}",
    )
