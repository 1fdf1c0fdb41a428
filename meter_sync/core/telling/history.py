"""What the ledger tells of the past, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from meter_sync.core.billing.item import Period, SubscriptionItem
from meter_sync.core.ownership import Share
from meter_sync.core.planning.memory import Fall, Remembered

KEPT_DAYS = 90
"""Nothing younger is ever forgotten: invoices are asked about, and brakes look back, for months."""


@dataclass(frozen=True, slots=True)
class Sought:
    """Whose history is asked for: joined by AND between kinds and by OR within one; an empty kind selects all."""

    customers: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    meters: tuple[str, ...] = ()
    """Slugs of OpenMeter meters; they find what was ever reported from them."""

    @property
    def is_nothing(self) -> bool:
        """Whether nothing was named."""
        return not (self.customers or self.subscriptions or self.items or self.meters)


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run, as far as it came."""

    id: str
    started_at: datetime
    finished_at: datetime | None
    """None where it was cut off, or is under way."""
    as_of: datetime
    schedule: str
    everything: bool
    """Whether it was about the whole account, not about what a selector named or what was about to end."""
    exit_code: int | None
    counts: Mapping[str, int]
    """How many items ended in each outcome."""
    pages: int | None = None
    """How many pages of items it has read; None where an earlier version did not count them."""


@dataclass(frozen=True, slots=True)
class Whose:
    """An item in a period."""

    customer: str
    subscription: str
    item: str
    period: Period
    meter: str | None
    """The slug of the OpenMeter meter; None where nothing was ever reported."""


@dataclass(frozen=True, slots=True)
class Write:
    """A quantity that was to be written."""

    whose: Whose
    run: str
    step: int
    timestamp: datetime
    """The anchor."""
    usage: Decimal | None
    """None where an earlier run's write was finished."""
    quantity: int
    """What Stripe was to hold of the whole period."""
    at_anchor: int
    """How much of that this program's own record was to hold."""
    previous: int | None
    """What Stripe held before; None where that was not known."""
    intended_at: datetime
    acknowledged_at: datetime | None
    """None where Stripe refused it, did not answer, or it was never sent."""
    request_id: str | None
    as_of: datetime | None = None
    """The instant that its run was about; None where the run is not known any more."""
    carried: int = 0
    """How much of the quantity earlier periods did not bill."""

    @property
    def at(self) -> datetime:
        """When it happened."""
        return self.intended_at


@dataclass(frozen=True, slots=True)
class Held:
    """What kept an item from being reported, in runs in a row that said the same."""

    whose: Whose
    outcome: str
    reason: str
    message: str | None
    usage: Decimal | None
    quantity: int | None
    """What would have been written."""
    previous: int | None
    first_run: str
    first_at: datetime
    last_run: str
    last_at: datetime
    times: int

    @property
    def at(self) -> datetime:
        """When it began."""
        return self.first_at


@dataclass(frozen=True, slots=True)
class Remainder:
    """What Stripe does not bill of a period that has ended, or bills too much."""

    whose: Whose
    quantity: int
    """Less than zero is too much."""
    why: str | None
    named_at: datetime
    settled: int | None
    settled_at: datetime | None
    note: str | None
    waits: bool = False
    """Whether it is added to the item's next period, rather than left to a person."""
    carried: int = 0
    """How much of it later periods have."""

    @property
    def at(self) -> datetime:
        """When it was named."""
        return self.named_at


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """An hour or a day, as it was last to be written."""

    whose: Whose
    start: datetime
    timestamp: datetime
    total: Decimal
    """The usage of the period up to its end."""
    value: int
    acknowledged: int | None
    """What Stripe holds of it; None where that is in doubt."""
    acknowledged_at: datetime | None
    """None where nothing was ever sent: it was zero from the start."""
    identifier: str | None
    request_id: str | None

    @property
    def at(self) -> datetime:
        """When Stripe took it, or what it is about."""
        return self.acknowledged_at or self.timestamp


@dataclass(frozen=True, slots=True)
class Added:
    """An event that was to add to what Stripe holds."""

    whose: Whose
    run: str
    identifier: str
    base: int
    """What Stripe held before."""
    value: int
    timestamp: datetime
    intended_at: datetime
    delivered_at: datetime | None
    """None where it is not known whether it arrived."""
    request_id: str | None
    cancelled_at: datetime | None
    rejected: str | None
    """Why Stripe rejected it after it had taken it."""

    @property
    def at(self) -> datetime:
        """When it happened."""
        return self.intended_at


Entry = Write | Held | Remainder | WrittenPart | Added


@dataclass(frozen=True, slots=True)
class Story:
    """All that the ledger tells of an item in one period."""

    item: SubscriptionItem
    """As it was listed last."""
    whose: Whose
    entries: Sequence[Entry]
    """Oldest first."""
    remembered: Remembered | None = None
    """What was last intended; None where nothing ever was."""
    usage_start: datetime | None = None
    """From where on usage counts…"""
    reported: tuple[Period, ...] | None = None
    """… and which stretches were reported."""
    share: Share | None = None
    """What of the period is the item's own, as far as the ledger knows of others."""
    complete_until: datetime | None = None
    """Once it has ended, until when it was reported in full."""
    closed_at: datetime | None = None
    """When it was watched for late usage for the last time."""
    closed_why: str | None = None
    """What became of it then, if that needs words."""
    carried: Mapping[datetime, int] = field(default_factory=dict)
    """What was added to it, by the start of the period that does not bill it…"""
    carried_on: Mapping[datetime, int] = field(default_factory=dict)
    """… and what of it was added to later periods, by theirs."""
    falls: Sequence[Fall] = ()
    """How its usage fell, which has not come back."""
