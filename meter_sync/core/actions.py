"""What should happen to an item, and what became of it, as data.

Printing, checking, reporting and recording are four readers of the same list of actions.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from meter_sync.core.mapping import MeterRow
from meter_sync.core.memory import Method
from meter_sync.core.model import SubscriptionItem
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.span import Span
from meter_sync.core.usage import Aggregation, Need


@dataclass(frozen=True, slots=True)
class Meter:
    """An OpenMeter meter."""

    id: str
    slug: str
    aggregation: Aggregation


@dataclass(frozen=True, slots=True)
class Line:
    """One item of the plan, with what is known of it so far."""

    item: SubscriptionItem
    meter: Meter | None = None
    row: MeterRow = field(default_factory=MeterRow)
    subjects: tuple[str, ...] = ()
    span: Span | None = None
    usage: Decimal | None = None
    quantity: int | None = None
    previous: int | None = None


@dataclass(frozen=True, slots=True)
class FirstLook:
    """Nothing was ever written for the item: Stripe's own total must be read first."""


@dataclass(frozen=True, slots=True)
class UnfinishedLook:
    """A first look was interrupted after its write; `total_before` is what it had read."""

    total_before: int


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Another program's records were found; the record at the anchor was left holding `at_anchor`."""

    at_anchor: int
    foreign: int
    """What the other records held."""


Look = FirstLook | UnfinishedLook | LookAgain


@dataclass(frozen=True, slots=True)
class Set:
    """Stripe is to hold `quantity` for the period of the line."""

    line: Line
    quantity: int
    method: Method
    anchor: datetime
    highest_before: int | None = None
    """The largest quantity that Stripe may hold already, as far as known."""
    foreign: int = 0
    """The part of the quantity that other records hold, by permission."""
    look: Look | None = None
    """What has to be found out in Stripe before this may be written."""
    total_before: int | None = None
    """Stripe's total before the first write, where whose it is has yet to be found out by that write."""

    @property
    def at_anchor(self) -> int:
        """What the record at the anchor is to hold."""
        return self.quantity - self.foreign


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Stripe holds the quantity already."""

    line: Line


@dataclass(frozen=True, slots=True)
class Hold:
    """A safety rule forbids to write; a person has to look."""

    line: Line
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Skip:
    """There is nothing that could be written."""

    line: Line
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Something that had to be known could not be found out."""

    line: Line
    reason: Reason
    message: str


Action = Set | Unchanged | Hold | Skip | Fail


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one listed item."""

    line: Line
    outcome: Outcome
    reason: Reason | None = None
    message: str | None = None


def result(action: Action, *, reported: bool = False) -> Result:
    """Given an action, return what became of its item: a write is planned until it was reported."""
    match action:
        case Set(line=line, quantity=quantity):
            outcome = Outcome.REPORTED if reported else Outcome.PLANNED
            return Result(replace(line, quantity=quantity), outcome)
        case Unchanged(line=line):
            return Result(line, Outcome.UNCHANGED)
        case Hold(line=line, reason=reason, message=message):
            return Result(line, Outcome.HELD, reason, message)
        case Skip(line=line, reason=reason, message=message):
            return Result(line, Outcome.SKIPPED, reason, message)
        case Fail(line=line, reason=reason, message=message):
            return Result(line, Outcome.FAILED, reason, message)


def need(line: Line) -> Need:
    """Given a line to query, return the usage that it needs."""
    meter, span = meter_of(line), span_of(line)
    return Need(
        item=line.item.id,
        meter=meter.slug,
        filter=line.row.filter,
        subjects=line.subjects,
        start=span.start,
        end=span.end,
        aggregation=meter.aggregation,
    )


def meter_of(line: Line) -> Meter:
    """Return the line's meter. Raise ValueError where it has none: such a line is never queried."""
    if line.meter is None:
        raise ValueError(f"{line.item.id} has no meter")
    return line.meter


def span_of(line: Line) -> Span:
    """Return the line's span. Raise ValueError where it has none: such a line is never queried."""
    if line.span is None:
        raise ValueError(f"the usage of {line.item.id} has not started")
    return line.span
