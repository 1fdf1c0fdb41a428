"""What the ledger remembers of an item, as the plan needs it."""

from collections.abc import Collection, Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from meter_sync.core.billing.item import Period, PeriodKey
from meter_sync.core.metering.mapping import EarlierSubjects, Grouping, Method
from meter_sync.core.metering.meter import Meter


@dataclass(frozen=True, slots=True)
class RememberedWindow:
    """What was last intended and acknowledged for one hour or day."""

    timestamp: datetime
    total: Decimal
    """The usage of the period up to its end, as it was last read."""
    value: int
    """The quantity that was last intended."""
    standing: int | None
    """The quantity that Stripe acknowledged last; None where nothing, or where that is in doubt."""


@dataclass(frozen=True, slots=True)
class RememberedWindows:
    """What is remembered of an item's hours or days: all of them, or the trailing ones and what is not settled."""

    total_before: Decimal = Decimal(0)
    """The usage of the period before the trailing ones."""
    by_start: Mapping[datetime, RememberedWindow] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Addition:
    """An event that adds to what Stripe holds, exactly as it is sent however often."""

    identifier: str
    base: int
    """What Stripe held without it."""
    value: int
    timestamp: datetime
    intended_at: datetime
    """When it was, by the clock…"""
    as_of: datetime
    """… and the instant that its run was about."""
    attempted_at: datetime
    """When it was sent last, by the clock."""
    base_is_read: bool = False
    """Whether the base is what Stripe's summary said, which lags, rather than what this ledger knows."""
    is_delivered: bool = False
    is_cancel: bool = False
    """Whether it was cancelled, or is to be: cancelling it is then what was last intended."""
    in_doubt: bool = False
    """Whether Stripe may have rejected it after it had taken it, or have another quantity under its identifier."""


@dataclass(frozen=True, slots=True)
class RememberedAdditions:
    """The newest addition to an item's period, and how many there were to the same base."""

    newest: Addition | None = None
    to_same_base: int = 0
    """How many additions began at what Stripe holds now: there are some after a decrease or a rejection."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was last intended and acknowledged for one item in one period."""

    method: Method
    price: str
    subjects: tuple[str, ...]
    anchor: datetime
    quantity: int
    """The whole quantity of the period that was last intended."""
    as_of: datetime
    """The instant up to which that quantity counts."""
    reported: tuple[Period, ...] | None = None
    """The stretches whose usage is in it; None where nothing was reported while the period was open."""
    earlier_subjects: tuple[EarlierSubjects, ...] = ()
    """Those of before, in order, where others took their place within the period."""
    grouping: Grouping | None = None
    """What the subjects are in OpenMeter; None where a version wrote it that did not say."""
    made_of: Meter | None = None
    """The OpenMeter meter as it was then; None where a version wrote it that did not say."""
    run: str | None = None
    """The run that intended it."""
    acknowledged: int | None = None
    """The whole quantity that Stripe acknowledged last, or None."""
    acknowledged_at: datetime | None = None
    """When it did, if nothing else was intended since."""
    foreign: int = 0
    """What other records of the period hold, beside the one at the anchor."""
    foreign_held: bool = False
    """Whether the item is held because of those, rather than topped up by permission."""
    total_before: int | None = None
    """While a first look is unfinished: Stripe's total before the first write."""
    read_whole_at: datetime | None = None
    """By the hour or day: when all of the period was last read, not only its trailing hours or days."""
    lacking: int = 0
    """What Stripe lacks in hours or days that it takes no more, by sign: it was named already."""
    rejected: str | None = None
    """Why Stripe rejected what it had taken, to be shown once before it is reported again."""
    windows: RememberedWindows = field(default_factory=RememberedWindows)
    additions: RememberedAdditions = field(default_factory=RememberedAdditions)

    def is_of(self, subjects: tuple[str, ...], grouping: Grouping) -> bool:
        """Say whether it was of these subjects."""
        return self.subjects == subjects and self.grouping in (None, grouping)

    def lost(self, subjects: Collection[str], grouping: Grouping) -> tuple[str, ...]:
        """Return which subjects are not among these any more: all, where those are something else in OpenMeter."""
        is_other = self.grouping is not None and self.grouping is not grouping
        return tuple(one for one in self.subjects if is_other or one not in subjects)

    @property
    def at_anchor(self) -> int:
        """What the record at the anchor holds if Stripe has the intended quantity."""
        return self.quantity - self.foreign


@dataclass(frozen=True, slots=True)
class PastPeriod:
    """What Stripe acknowledged last for an item in an earlier period, or said of it."""

    period: Period
    quantity: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What an earlier period of an item does not bill, and may be added to a later one."""

    period_start: datetime
    """Which period that is."""
    price: str
    scale: Decimal
    """With the price, the unit of the quantity."""
    quantity: int
    """What no other period has of it, by sign: less than zero was billed too much."""
    taken: int = 0
    """What of it the later period has already, as the ledger knows."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A part of a period's quantity that an earlier one does not bill."""

    period_start: datetime
    """Which period that is."""
    quantity: int
    """By sign."""


@dataclass(frozen=True, slots=True)
class Fall:
    """A running total that fell below what Stripe held, as long as the usage has not come back, nor a person said so.

    What is used later makes good for nothing: it may grow past what was lost, which is lost all the same.
    """

    seen_at: datetime
    """Up to which instant usage was read when that was seen first: usage up to there must come back."""
    before: int
    """What Stripe held of it."""
    lowest: int
    """The smallest quantity that was seen since."""

    @property
    def lost(self) -> int:
        """How much was lost at the most."""
        return self.before - self.lowest


PAST = timedelta(days=100)
"""How long before an item's newest period its older ones are compared with what it uses now."""


def compared(past: Iterable[PastPeriod], start: datetime) -> tuple[PastPeriod, ...]:
    """Given earlier periods of an item, return those that its period from `start` on is compared with, newest first.

    Those are the ones of a hundred days, or the one just before, however long it was.
    """
    ended = [one for one in past if one.period.end == start or start - PAST <= one.period.end < start]
    return tuple(sorted(ended, key=lambda one: one.period.start, reverse=True))


@dataclass(frozen=True, slots=True)
class Memory:
    """All that the ledger says about the items of one listing."""

    known_items: AbstractSet[str] = frozenset()
    """Items that were looked at in Stripe before their first write."""
    looked_at: Mapping[str, datetime] = field(default_factory=dict)
    """When that was."""
    remembered: Mapping[str, Remembered] = field(default_factory=dict)
    """Per item, its current period."""
    billed_until: Mapping[str, datetime] = field(default_factory=dict)
    """Per item, where the usage of its last period ended, if that one was listed."""
    reported: Mapping[PeriodKey, tuple[Period, ...]] = field(default_factory=dict)
    """Which stretches of items' periods were reported and taken, also of others than the listed ones."""
    scales: Mapping[PeriodKey, Decimal] = field(default_factory=dict)
    """The scales that periods of items that have ended, and those after them, were begun with."""
    before: Mapping[str, Remembered] = field(default_factory=dict)
    """Per item of which nothing is remembered in its current period, the last one before that was reported."""
    past: Mapping[str, tuple[PastPeriod, ...]] = field(default_factory=dict)
    """Per item, its last periods, the newest first."""
    changed_within: frozenset[str] = frozenset()
    """Items that were held before the end of their period since their mapping had changed."""
    waiting: Mapping[str, tuple[Waiting, ...]] = field(default_factory=dict)
    """Per item, what its earlier periods do not bill and may be added to this one, the oldest first."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Per item, why what was written of it could not be read."""
    falls: Mapping[str, tuple[Fall, ...]] = field(default_factory=dict)
    """Per item, how its usage fell within its period, the oldest first."""

    def carried_into(self, item: str) -> tuple[Carried, ...]:
        """Return what was added to an item's period by the last run that wrote it."""
        return tuple(Carried(one.period_start, one.taken) for one in self.waiting.get(item, ()) if one.taken)
