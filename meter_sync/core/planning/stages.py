"""The stages of an item's way through a run, as types: what a stage has found is there, not optional.

`Listed → Metered → Measured → Planned → Checked → Intended → Acknowledged → Result`. What goes no further leaves by
one side door, as the `Result` that says why. Only the check makes what is `Checked`, and only the ledger what is
`Intended`: "checked before it is written" and "intent before effect" are types.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import NewType

from meter_sync.core.billing.intake import Intake
from meter_sync.core.billing.item import Period, SubscriptionItem
from meter_sync.core.billing.span import Span
from meter_sync.core.billing.way import Way, window_of
from meter_sync.core.metering.mapping import EarlierSubjects, Grouping, LateUsage, MeterRow, Method
from meter_sync.core.metering.meter import Meter
from meter_sync.core.metering.queries import Need
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.looks import (
    AfterSilence,
    FirstLook,
    LookAgain,
    LookBeside,
    ReadBack,
    Resending,
    UnfinishedLook,
)
from meter_sync.core.planning.memory import Carried, Fall, PastPeriod
from meter_sync.core.planning.sends import SendNothing, Sends, SetTotal, SetWindows


@dataclass(frozen=True, slots=True)
class Listed:
    """A metered item in a billing period, and how far Stripe still takes usage of it."""

    item: SubscriptionItem
    intake: Intake = Intake.RUNNING
    invoiced: int | None = None
    """What the final invoice of the period bills, where that is not what was reported: its price moved unseen."""
    is_read_back: bool = False
    """Whether what stands in Stripe was read back after it took no more."""
    is_invoiced: bool = False
    """Whether the invoice of its end is there."""
    line_quantity: int | None = None
    """What the line of its invoice says, in whatever unit Stripe bills its price."""
    is_final: bool = False
    """Whether that invoice is final, so that its line says what is billed."""
    invoice: str | None = None
    """Which invoice that is."""
    settled: tuple[Period, ...] | None = None
    """What of it was its own when Stripe took no more of it; None before that."""
    left: LateUsage | None = None
    """What was said before of what it lacks: that it is named, or that it waits for the next period."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What is known of an item's period, as far as its way has come: for those who print and record it."""

    item: SubscriptionItem
    row: MeterRow = field(default_factory=MeterRow)
    meter: Meter | None = None
    way: Way | None = None
    subjects: tuple[str, ...] = ()
    span: Span | None = None
    usage: Decimal | None = None
    quantity: int | None = None
    standing: int | None = None
    """The quantity that stood in Stripe before, by the ledger, by Stripe or by the invoice; None: not known."""
    past: tuple[PastPeriod, ...] = ()
    """The item's last periods, the newest first."""
    note: str | None = None
    """What a person should know of how it is metered, whatever becomes of it."""
    is_whose_known: bool = False
    """Whether it is known of each second of its period whose it is."""
    stretches: tuple[Period, ...] | None = None
    """What of its span is its own, where that is known, and not all of it is."""
    earlier_subjects: tuple[EarlierSubjects, ...] = ()
    """Whose usage it was before that of its subjects, within the period."""
    grouping: Grouping = Grouping.SUBJECT
    """What the subjects are in OpenMeter."""
    carried: int = 0
    """How much of the quantity its earlier periods do not bill, by sign."""
    falls: tuple[Fall, ...] = ()
    """How its usage fell before, which has not come back."""

    @property
    def own(self) -> tuple[Period, ...] | None:
        """What of its period is its own, as far as it is known whose each second is."""
        return _own(self.span, self.stretches) if self.is_whose_known and self.span else None

    @property
    def slug(self) -> str | None:
        """The OpenMeter meter: as it was found, or else as it was named."""
        return self.meter.slug if self.meter else self.row.openmeter

    @property
    def stamps_now(self) -> Period:
        """Where an event is stamped now: in the last stretch of what is its own."""
        stamps = self.span.stamps if self.span else self.item.period
        return Period(max(stamps.start, self.own[-1].start), stamps.end) if self.own else stamps

    @property
    def timestamp(self) -> datetime | None:
        """The timestamp of its one record or event, if it has one."""
        return None if self.span is None or (self.way and self.way.is_by_window) else self.span.anchor


@dataclass(frozen=True, slots=True)
class Metered:
    """A listed item with all that is needed to ask OpenMeter for its usage."""

    listed: Listed
    row: MeterRow
    meter: Meter
    way: Way
    grouping: Grouping
    subjects: tuple[str, ...]
    span: Span
    past: tuple[PastPeriod, ...] = ()
    """The item's last periods, the newest first."""
    note: str | None = None
    """What a person should know of how it is metered, whatever becomes of it."""
    earlier_subjects: tuple[EarlierSubjects, ...] = ()
    """Whose usage it was before that of its subjects, within the period."""
    lives_on: bool = True
    """Whether a later period of its item bills in the same unit, as far as is known."""
    stretches: tuple[Period, ...] | None = None
    """What of its span is its own, where not all of it is."""
    read_since: datetime | None = None
    """By the hour or day: from where on usage is read, if only the trailing part of the span is."""
    falls: tuple[Fall, ...] = ()
    """How its usage fell before, which has not come back."""

    @property
    def item(self) -> SubscriptionItem:
        """The subscription item, in its period."""
        return self.listed.item

    @property
    def found(self) -> Findings:
        """What is known of it."""
        return Findings(
            item=self.item,
            row=self.row,
            meter=self.meter,
            way=self.way,
            subjects=self.subjects,
            span=self.span,
            past=self.past,
            note=self.note,
            is_whose_known=True,
            stretches=self.stretches,
            earlier_subjects=self.earlier_subjects,
            grouping=self.grouping,
            falls=self.falls,
        )

    @property
    def own(self) -> tuple[Period, ...]:
        """What of its span is its own."""
        return _own(self.span, self.stretches)

    def until(self, instant: datetime) -> "Metered":
        """Return it with its usage up to an instant that is after its start."""
        end = min(self.span.end, instant)
        stretches = self.stretches and tuple(
            Period(one.start, min(one.end, end)) for one in self.stretches if one.start < end
        )
        return replace(self, span=replace(self.span, end=end), stretches=stretches)

    @property
    def method(self) -> Method:
        """How its usage becomes what Stripe holds."""
        row = self.row
        return Method(self.way, self.meter.slug, row.filter, row.scale, row.rounding, self.item.price.stripe_meter)

    @property
    def begins_with_turn(self) -> bool:
        """Whether what is its own begins with a billing period of Stripe's, not in the midst of one."""
        return self.span.stamps.start == self.item.period.start and self.item.cycle_start is None

    @property
    def read(self) -> tuple[Period, ...]:
        """The time whose usage is read, in order; a stretch ends where other subjects begin."""
        own = self.own
        for earlier in self.earlier_subjects:
            own = tuple(part for one in own for part in _cut(one, earlier.until))
        if self.read_since is None:
            return own
        return tuple(Period(max(one.start, self.read_since), one.end) for one in own if one.end > self.read_since)

    def whose_at(self, instant: datetime) -> tuple[tuple[str, ...], Grouping]:
        """Return whose usage at an instant is the item's, and what these subjects are in OpenMeter."""
        if not self.earlier_subjects:
            return self.subjects, self.grouping
        before = next((one for one in self.earlier_subjects if instant < one.until), None)
        return (before.subjects, before.grouping or self.grouping) if before else (self.subjects, self.grouping)

    @property
    def needs(self) -> tuple[Need, ...]:
        """The usage that it needs, of each stretch by itself; none where nothing of its period is its own."""
        return tuple(
            Need(
                item=self.item.id if number == 0 else f"{self.item.id} {number}",
                meter=self.meter.slug,
                filter=self.row.filter,
                subjects=subjects,
                start=stretch.start,
                end=stretch.end,
                aggregation=self.meter.aggregation,
                grouping=grouping,
                window=window_of(self.way, self.item.price) if self.way.is_by_window else None,
                meter_id=self.meter.id,
            )
            for number, stretch in enumerate(self.read)
            for subjects, grouping in [self.whose_at(stretch.start)]
        )


def _own(span: Span, stretches: tuple[Period, ...] | None) -> tuple[Period, ...]:
    """Return what of a span is an item's own: all of it, unless stretches say otherwise."""
    return (Period(span.start, span.end),) if stretches is None else stretches


def _cut(stretch: Period, at: datetime) -> tuple[Period, ...]:
    if not stretch.start < at < stretch.end:
        return (stretch,)
    return Period(stretch.start, at), Period(at, stretch.end)


WindowUsage = Mapping[datetime, Decimal]
"""The usage of each hour or day that has any, by its start."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A metered item with its usage: one total, or that of each hour or day."""

    metered: Metered
    usage: Decimal | WindowUsage


@dataclass(frozen=True, slots=True)
class LookWhole:
    """Hours or days are not set again as totals are: once a day it is read whether Stripe holds what it took."""

    acknowledged: int
    every: "Write"
    """All of them, as they should be."""


Look = FirstLook | UnfinishedLook | LookAgain | LookBeside | AfterSilence | ReadBack | Resending | LookWhole


@dataclass(frozen=True, slots=True)
class Write:
    """What Stripe is to hold for an item's period, with all that is needed to send it, and to send it again."""

    found: Findings
    quantity: int
    method: Method
    anchor: datetime
    sends: Sends = field(default_factory=SetTotal)
    intake: Intake = Intake.RUNNING
    invoice: str | None = None
    """The invoice of the period's end, once there is one."""
    follows: str | None = None
    """The run that intended the last write of the item's period; None where there was none."""
    foreign: int = 0
    """The part of the quantity that other records hold, by permission."""
    total_before: int | None = None
    """Stripe's total before the first write, where whose it is has yet to be found out by that write."""
    lacking: int = 0
    """What Stripe does not bill of the period and takes no more, by sign."""
    named_before: int = 0
    """How much of that was named before."""
    late_usage: LateUsage = LateUsage.NAME
    """What becomes of it."""
    carried: tuple[Carried, ...] = ()
    """What of the quantity earlier periods do not bill."""

    @property
    def item(self) -> SubscriptionItem:
        """The subscription item, in its period."""
        return self.found.item

    @property
    def at_anchor(self) -> int:
        """What the record at the anchor is to hold."""
        return self.quantity - self.foreign

    @property
    def how_many(self) -> int:
        """How many requests it takes."""
        match self.sends:
            case SetWindows(windows=windows):
                return sum(window.is_sent for window in windows)
            case SendNothing():
                return 0
        return 1

    @property
    def told(self) -> Findings:
        """What is known of the item, with what was to be written."""
        return self.found if self.found.quantity == self.quantity else replace(self.found, quantity=self.quantity)

    def stands(self, standing: int | None) -> "Write":
        """Return it with what stands in Stripe before it."""
        return replace(self, found=replace(self.found, standing=standing))


@dataclass(frozen=True, slots=True)
class Planned:
    """A write, and what the check has to know of it."""

    metered: Metered
    write: Write
    highest_before: int | None = None
    """The largest quantity that Stripe may hold already, as far as known…"""
    carried_before: int = 0
    """… and how much of it earlier periods do not bill."""
    look: Look | None = None
    """What has to be found out in Stripe before this may be written."""

    @property
    def item(self) -> SubscriptionItem:
        """The subscription item, in its period."""
        return self.metered.item

    @property
    def found(self) -> Findings:
        """What is known of it."""
        return self.write.found


Checked = NewType("Checked", Write)
"""A write that may be sent, as far as the brakes can tell. Only the check makes one."""


@dataclass(frozen=True, slots=True)
class Intended:
    """A write that this run has to itself, and that the ledger has with all that is needed to repeat it.

    Only the ledger makes one, once it is committed.
    """

    write: Write
    number: int
    """Which one of its run's writes for the item it is."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Stripe has taken a write."""

    intended: Intended
    at: datetime
    request_id: str | None
    is_foreign_held: bool = False
    """Whether the item was left with what stood there, because other records were found beside it, or may be there."""
    is_in_doubt: bool = False
    """Whether it was added, but perhaps another quantity than this one."""


@dataclass(frozen=True, slots=True)
class Moved:
    """How many of an item's hours or days were sent, and how many were as they should be."""

    sent: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an item: by the side door, or at the end of its way."""

    found: Findings
    outcome: Outcome
    reason: Reason | None = None
    message: str | None = None
    moved: Moved | None = None
    """Where the item is reported by the hour or day."""
    lacking: int | None = None
    """What Stripe does not bill of the period and can take no more, by sign; None where that is not known."""
    late_usage: LateUsage = LateUsage.NAME
    """What becomes of it."""
    fell: tuple[int, int] | None = None
    """Where it is held because its usage fell: what Stripe holds of it, and what it would have fallen to."""
    gave_way: bool = False
    """Whether the item was left to another run, which is writing it at this moment: that is as new as this would be."""

    @property
    def item(self) -> SubscriptionItem:
        """The subscription item, in its period."""
        return self.found.item
