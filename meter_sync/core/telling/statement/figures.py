"""The figures of a statement, as data: whoever shows them computes nothing.

All quantities are in the unit that Stripe bills (usage times scale); all times are UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum

from meter_sync.core.billing.item import Period


class State(StrEnum):
    """How far an item's period has come."""

    FREE = "free"
    """It was, or is, a trial: its usage costs nothing."""
    RUNNING = "running"
    """It goes on."""
    AWAITED = "awaited"
    """It has ended, and may still change: its invoice is to come, or a draft, or late usage is watched for."""
    BILLED = "billed"
    """Stripe takes no more usage of it: what was billed of it is known, or that it is not."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """From what was used to what was billed, term by term: what `difference` returns is zero, or something is wrong."""

    used: Decimal = Decimal(0)
    billed: int = 0
    carried_out: int = 0
    """What later periods bill of it, or are to bill."""
    carried_in: int = 0
    """What of the billed quantity is of earlier periods."""
    rounding: Decimal = Decimal(0)
    """What was used beyond whole units; less than zero where units were rounded up."""
    held: int = 0
    """What a brake, or a failure, keeps from being reported."""
    unbilled: int = 0
    """What nobody bills, and a person has to see to; less than zero where too much was billed."""
    settled: int = 0
    """What Stripe does not bill, and a person has settled by hand."""
    unknown: int = 0
    """What was reported, and of which it is not known whether Stripe bills it."""
    still_open: int = 0
    """What stands in Stripe, or is on its way there, and is not billed yet."""
    free: Decimal = Decimal(0)
    """What was used on trial."""

    def __add__(self, other: "Bridge") -> "Bridge":
        """Return both together."""
        return Bridge(*(getattr(self, name) + getattr(other, name) for name in self.__match_args__))

    @property
    def explained(self) -> Decimal:
        """All that the usage has become."""
        became = self.billed + self.carried_out - self.carried_in + self.held + self.unbilled + self.settled
        return became + self.unknown + self.still_open + self.rounding + self.free

    @property
    def difference(self) -> Decimal:
        """What was used and is not explained: zero."""
        return self.used - self.explained


@dataclass(frozen=True, slots=True)
class Cuts:
    """The two ways of saying what a time's usage is, and what lies between them."""

    in_periods: Decimal = Decimal(0)
    """What was used in the periods that ended in it: what its invoices are about."""
    used_before: Decimal = Decimal(0)
    """What of that was used before it began."""
    in_later_periods: Decimal = Decimal(0)
    """What was used in it in periods that end later."""

    def __add__(self, other: "Cuts") -> "Cuts":
        """Return both together."""
        return Cuts(*(getattr(self, name) + getattr(other, name) for name in self.__match_args__))

    @property
    def in_time(self) -> Decimal:
        """What was used in it, whatever its period."""
        return self.in_periods - self.used_before + self.in_later_periods


@dataclass(frozen=True, slots=True)
class Day:
    """A UTC day of a meter."""

    day: date
    used: Decimal
    reported: Decimal
    """How much more Stripe held at its end than the day before, by what it acknowledged."""
    billed: Decimal
    """What of the usage is of periods that were billed."""


@dataclass(frozen=True, slots=True)
class MeterFigures:
    """What is said of a meter of OpenMeter, or of all together."""

    meter: str | None
    """Its slug; None stands for all of them, or for periods of which it is not known which one meters them."""
    bridge: Bridge
    cuts: Cuts
    days: Sequence[Day] = ()
    """Each day of the time."""


class MatterKind(StrEnum):
    """What somebody has to look at, or to know of; in the order in which they are told."""

    INVOICE_DIFFERS = "invoice_differs"
    OVER_BILLED = "over_billed"
    UNBILLED = "unbilled"
    UNKNOWN = "unknown"
    HELD = "held"
    REJECTED = "rejected"
    FAILED = "failed"
    SKIPPED = "skipped"
    SETTLED = "settled"


@dataclass(frozen=True, slots=True)
class Matter:
    """An item's period of which not all is billed as it was used, or of which that is not known."""

    kind: MatterKind
    customer: str
    subscription: str
    item: str
    period: Period
    meter: str | None
    quantity: Decimal | None
    """How much it is about, without a sign; None where that is not known."""
    since: datetime | None
    """Since when it has been so…"""
    age_days: int | None
    """… and for how many days, at the instant of the statement."""
    reason: str
    """Why, in words."""
    to_do: str | None
    """What somebody has to do; None where nothing."""
    note: str | None = None
    """How a person has settled it…"""
    settled_at: datetime | None = None
    """… and when."""
    command: str | None = None
    """What whoever runs this program types for that."""


@dataclass(frozen=True, slots=True)
class Told:
    """One line of how a quantity came about, and what it is about."""

    topic: str
    text: str


@dataclass(frozen=True, slots=True)
class ItemFigures:
    """An item in a period that ended in the time of the statement."""

    subscription: str
    item: str
    period: Period
    meter: str | None
    price: str
    state: State
    bridge: Bridge
    quantity: int | None
    """What Stripe is to bill; None where that is not known."""
    invoiced: int | None = None
    """What the lines of its invoice say, where Stripe was asked…"""
    invoice: str | None = None
    """… and which invoice that is."""
    told: Sequence[Told] = ()
    """How its quantity came about, down to its writes."""


@dataclass(frozen=True, slots=True)
class CustomerFigures:
    """A customer, with what was used and billed of all their items."""

    customer: str
    subjects: Sequence[str]
    """Whose usage it is in OpenMeter."""
    bridge: Bridge
    items: Sequence[ItemFigures]


@dataclass(frozen=True, slots=True)
class Change:
    """How what a customer used of a meter has changed against the time before: as long, or as many months."""

    customer: str
    meter: str | None
    before: Decimal
    now: Decimal


@dataclass(frozen=True, slots=True)
class Completeness:
    """Whether everything was looked at."""

    items: int
    """How many items' periods ended in the time."""
    by_state: Mapping[State, int]
    by_outcome: Mapping[str, int]
    """Of the last complete run: how many items it listed, in each outcome."""
    runs: int
    """How many runs over the whole account there were in the time…"""
    failed_runs: int
    """… how many of them did not do their work…"""
    missed: Sequence[Period]
    """… and when there was none for longer than the schedule promises."""
    schedule: str | None
    pages: int | None = None
    """How many pages of items that last run has read; None where an earlier version did not count them."""


@dataclass(frozen=True, slots=True)
class Signature:
    """Who has signed which statement of the same time."""

    signed_by: str
    signed_at: datetime
    digest: str
    is_of_this: bool
    """Whether the figures are as they were signed."""


@dataclass(frozen=True, slots=True)
class ChangedSince:
    """A signed time whose figures are others by now."""

    since: datetime
    until: datetime
    signed_by: str
    signed_at: datetime
    before: Bridge
    now: Bridge


class Judgement(StrEnum):
    """What the statement says in the end."""

    AGREES = "agrees"
    """All that was used is billed, or explained and needs nobody."""
    OPEN = "open"
    """Nothing is wrong, and not all is billed yet."""
    ATTENTION = "attention"
    """Somebody has to do something."""
    NOTHING = "nothing"
    """There is nothing to be said: no period ended in it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The statement in one sentence."""

    judgement: Judgement
    sentence: str


@dataclass(frozen=True, slots=True)
class Statement:
    """What a statement says of an account in a time."""

    account: str | None
    """Its name in the configuration, where there are several…"""
    stripe_account: str | None
    """… and its id in Stripe, where the ledger knows it."""
    is_live: bool
    since: datetime
    until: datetime
    """The first instant after it."""
    version: str
    ledger_revision: str
    digest: str
    """Of the figures: it is what is signed."""
    as_of: datetime | None
    """The instant that the last complete run was about: all ages are told by it. None where there was none."""
    last_run: str | None
    verdict: Verdict
    whole: MeterFigures
    meters: Sequence[MeterFigures]
    matters: Sequence[Matter]
    """The gravest first."""
    without_report: Sequence[str]
    """Customers with an item in the time of whom nothing was ever reported, and nothing kept it."""
    customers: Sequence[CustomerFigures]
    """Those with the largest quantities first."""
    largest: Sequence[CustomerFigures]
    changes: Sequence[Change]
    """What changed most against the time before."""
    completeness: Completeness
    were_invoices_asked: bool = False
    signatures: Sequence[Signature] = ()
    changed_since: Sequence[ChangedSince] = ()
    is_of_selected: Sequence[str] = field(default=())
    """The customers that it is about, where it is not about all."""
    unread: Sequence[str] = ()
    """What of the ledger could not be read, and is in none of the figures."""

    @property
    def waiting(self) -> Decimal:
        """How much waits for somebody's decision, too much and too little alike, as far as it is known."""
        return sum((one.quantity for one in self.matters if one.to_do and one.quantity), Decimal(0))
