"""What should happen to an item, and what became of it, as data.

Printing, checking, reporting and recording are four readers of the same list of actions.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal

from meter_sync.core.billing.item import Ending, SubscriptionItem
from meter_sync.core.billing.span import Span
from meter_sync.core.billing.way import Way, part_of
from meter_sync.core.metering.mapping import MeterRow
from meter_sync.core.metering.queries import Aggregation, Grouping, Need
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.known import Addition, Method, PastPeriod


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
    way: Way = Way.RECORD
    grouping: Grouping = Grouping.SUBJECT
    subjects: tuple[str, ...] = ()
    span: Span | None = None
    ending: Ending = Ending.OPEN
    is_read_back: bool = False
    """Whether what Stripe holds was read back after it took no more."""
    billed: int | None = None
    """What the final invoice of its period bills, where that is not what was reported: its price moved unseen."""
    read_from: datetime | None = None
    """For parts: from where on usage is read, if only the trailing stretch of the span is."""
    usage: Decimal | None = None
    quantity: int | None = None
    previous: int | None = None
    follows: str | None = None
    """The run that intended the last write of the item's period; None where there was none."""
    past: tuple[PastPeriod, ...] = ()
    """The item's last periods, the newest first."""


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
class Part:
    """One thing that Stripe is to hold: an hour's or a day's quantity, or that of the whole period."""

    start: datetime
    """Which part it is."""
    timestamp: datetime
    value: int
    held: int | None = None
    """What Stripe holds of it already, None where that is not known."""
    total: Decimal = Decimal(0)
    """The usage of the period up to its end."""


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
    parts: tuple[Part, ...] | None = None
    """The hours or days of which something is new, or the usage records; None is one for the whole period."""
    kept: int = 0
    """How many hours or days were read and are as they were."""
    closed: int = 0
    """What Stripe lacks, by sign, in hours that it takes no more."""
    closed_before: int = 0
    """How much of that was named before."""
    is_whole: bool = False
    """Whether all of the period was read."""
    addition: Addition | None = None
    """On a meter that only adds: what is to be added or cancelled."""

    @property
    def sends(self) -> tuple[Part, ...]:
        """What is to be sent, in order."""
        if self.addition:
            return (Part(self.anchor, self.addition.timestamp, self.addition.value),)
        if self.parts is None:
            return (Part(self.anchor, self.anchor, self.at_anchor),)
        return tuple(part for part in self.parts if part.held != part.value)

    @property
    def at_anchor(self) -> int:
        """What the record at the anchor is to hold."""
        return self.quantity - self.foreign


@dataclass(frozen=True, slots=True)
class Shown:
    """What would be written, if its `[[meters]]` row did not say `report = false`."""

    planned: Set

    @property
    def line(self) -> Line:
        """The line of it."""
        return self.planned.line


@dataclass(frozen=True, slots=True)
class GiveWay:
    """Another run is writing the item at this moment: what it reports is as new as this would be."""

    line: Line


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Stripe holds the quantity already."""

    line: Line
    kept: int = 0
    """How many hours or days were read and are as they were."""


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


Action = Set | Shown | GiveWay | Unchanged | Hold | Skip | Fail


@dataclass(frozen=True, slots=True)
class Moved:
    """How many of an item's hours or days were sent, and how many were as they should be."""

    sent: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one listed item."""

    line: Line
    outcome: Outcome
    reason: Reason | None = None
    message: str | None = None
    moved: Moved | None = None
    """Where the item is reported by the hour or day."""
    lacking: int | None = None
    """What Stripe does not bill of the period and can take no more, by sign; None where that is not known."""


def result(action: Action, *, reported: bool = False) -> Result:
    """Given an action, return what became of its item: a write is planned until it was reported."""
    match action:
        case Set():
            return _result_of_set(action, reported=reported)
        case Shown(planned=planned):
            line = replace(planned.line, quantity=planned.quantity)
            moved = _moved(line, len(planned.sends), planned.kept)
            return Result(
                line, Outcome.PLANNED, message="not written: its [[meters]] row says report = false", moved=moved
            )
        case GiveWay(line=line):
            return Result(line, Outcome.UNCHANGED)
        case Unchanged(line=line, kept=kept):
            return Result(line, Outcome.UNCHANGED, moved=_moved(line, 0, kept))
        case Hold(line=line, reason=reason, message=message):
            return Result(line, Outcome.HELD, reason, message)
        case Skip(line=line, reason=reason, message=message):
            return Result(line, Outcome.SKIPPED, reason, message)
        case Fail(line=line, reason=reason, message=message):
            return Result(line, Outcome.FAILED, reason, message)


def _result_of_set(planned: Set, *, reported: bool) -> Result:
    line = replace(planned.line, quantity=planned.quantity)
    moved = _moved(line, len(planned.sends), planned.kept)
    closed = planned.closed
    if closed != planned.closed_before:
        return Result(line, Outcome.HELD, Reason.PERIOD_CLOSED, _closed_message(planned), moved, closed)
    if not planned.sends:
        return Result(line, Outcome.UNCHANGED, moved=moved, lacking=closed)
    return Result(line, Outcome.REPORTED if reported else Outcome.PLANNED, moved=moved, lacking=closed)


def _moved(line: Line, sent: int, unchanged: int) -> Moved | None:
    return Moved(sent, unchanged) if line.way.is_in_parts else None


def _closed_message(planned: Set) -> str:
    return f"{_WHY_CLOSED[planned.line.ending]}: {in_words(planned.closed)} in this period; {_SETTLE}"


def in_words(lacking: int) -> str:
    """Return what is not billed, or too much, in words."""
    return f"{-lacking} too many are billed" if lacking < 0 else f"{lacking} are not billed"


_WHY_CLOSED = {
    Ending.OPEN: "there is usage in hours or days that Stripe takes no more, late events or the end of a subscription",
    Ending.CLOSED: "Stripe takes no more usage of it",
    Ending.UNBILLED: "it ended without an invoice",
}
_SETTLE = (
    "settle this by hand, for example with an invoice item or a credit note, and then say so with "
    "meter-sync history --settle"
)


def need(line: Line) -> Need:
    """Given a line to query, return the usage that it needs."""
    meter, span = meter_of(line), span_of(line)
    return Need(
        item=line.item.id,
        meter=meter.slug,
        filter=line.row.filter,
        subjects=line.subjects,
        start=line.read_from or span.start,
        end=span.end,
        aggregation=meter.aggregation,
        grouping=line.grouping,
        window=part_of(line.way, line.item.price) if line.way.is_in_parts else None,
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
