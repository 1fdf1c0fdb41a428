"""The things that are billed, in Stripe's own words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum


class Target(StrEnum):
    """Where the usage of a price is written in Stripe."""

    USAGE_RECORD = "usage_record"
    METER_EVENT = "meter_event"


PeriodKey = tuple[str, datetime]
"""A subscription item, and the start of one of its periods."""


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open stretch of time, from `start` up to and without `end`, in UTC and whole seconds."""

    start: datetime
    end: datetime


class WindowSize(StrEnum):
    """A stretch of UTC time for which one quantity is reported."""

    HOUR = "hour"
    DAY = "day"

    @property
    def length(self) -> timedelta:
        """How long it is: UTC has no daylight saving time."""
        return timedelta(hours=1) if self is WindowSize.HOUR else timedelta(days=1)

    def floor(self, instant: datetime) -> datetime:
        """Return the start of the window that contains the instant."""
        return instant - (instant - _EPOCH) % self.length


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class BillingMeter:
    """A billing meter of Stripe: how its events become a quantity. Only its display name can ever be edited."""

    id: str
    event_name: str
    formula: str
    """How the events of a period become its quantity: sum, count, last."""
    window: WindowSize | None = None
    """Where set, only the most recently received event of each window counts."""
    unknown_window: str | None = None
    """A window of another size."""
    customer_key: str = "stripe_customer_id"
    """The key of an event's payload that names the customer…"""
    customer_mapping: str = "by_id"
    """… and what stands there: `by_id` is the Stripe customer's id."""
    value_key: str = "value"
    is_active: bool = True
    unknown_status: str | None = None
    """A status that is neither active nor inactive."""


@dataclass(frozen=True, slots=True)
class Price:
    """A metered price."""

    id: str
    product: str
    lookup_key: str | None = None
    aggregate_usage: str = "sum"
    """How Stripe makes one number of a period's records: sum, max, last_during_period, last_ever."""
    stripe_meter: str | None = None
    """The billing meter (`mtr_…`) behind the price; None is a legacy price."""
    billing_meter: BillingMeter | None = None
    """That meter, once it was read."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_per_unit: bool = False
    """Whether the line of an invoice says how many units were used: the price has neither tiers, each of which may have
    a line of its own, nor packages (transform_quantity). False where that is not known."""

    @property
    def target(self) -> Target:
        """Choose the way of writing: a billing meter takes meter events, all else usage records.

        Stripe refuses usage records for a price with a meter ("is not on the legacy metered billing
        system"). This is the only place that tells the two apart; which way of writing follows is in `way`.
        """
        return Target.METER_EVENT if self.stripe_meter else Target.USAGE_RECORD


@dataclass(frozen=True, slots=True)
class Customer:
    """A Stripe customer; metadata is empty unless the mapping asked for it."""

    id: str
    deleted: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A living subscription with what the plan needs to know of it."""

    id: str
    customer: Customer
    status: str
    created: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    has_billing_thresholds: bool = False
    trial_end: datetime | None = None
    voids_invoices: bool = False
    """Whether its invoices are voided at present: the collection of its payments is paused so."""
    is_flexible: bool = False
    """Whether what was reported before a change in mid-period is billed, as an invoice item (billing mode flexible)."""
    unknown_billing_mode: str | None = None
    """A billing mode that is neither classic nor flexible."""


@dataclass(frozen=True, slots=True)
class SubscriptionItem:
    """A metered item of a subscription in one billing period, mostly the current one, by one price.

    Where its price changed to or from a billing meter in mid-period, it is in a period of its own before and after
    that: of a billing meter only what is stamped from the change on is billed by the new price (Stripe documentation,
    billing modes).
    """

    id: str
    subscription: Subscription
    price: Price
    period: Period
    created: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
    is_followed: bool = True
    """Whether another period follows this one, unlike where the subscription or the item has ended with it."""
    is_cut: bool = False
    """Whether it ended in mid-period, with its price or with its removal from a subscription that goes on."""
    cycle_start: datetime | None = None
    """Where Stripe's period began, if this one began later, with a change of price."""
    changes_at: datetime | None = None
    """When a change of its subscription is planned within the period: by then all that was used is to be reported."""
    may_change_until: datetime | None = None
    """Until when its subscription may change at any instant, where an update of it waits for a payment."""
    not_understood: str | None = None
    """What of Stripe's answers about it was not understood, in words. What else is known of it is then not all."""

    @property
    def key(self) -> PeriodKey:
        """Which item it is, in which period."""
        return self.id, self.period.start

    @property
    def is_read(self) -> bool:
        """Whether the ledger's row of it could be read: one that could not has no price."""
        return bool(self.price.id)

    @property
    def was_free(self) -> bool:
        """Whether the period was a trial, whose usage costs nothing.

        A subscription that was canceled on trial says so only by a trial's end that never came.
        """
        trial_end, end = self.subscription.trial_end, self.period.end
        is_within = self.subscription.status in {"trialing", "canceled"}
        return trial_end is not None and (trial_end == end or (is_within and trial_end > end))

    @property
    def invoice_key(self) -> PeriodKey:
        """Which item it is, in which period of Stripe's: as a line of an invoice has it."""
        return self.id, self.cycle_start or self.period.start
