"""The things that are billed, in Stripe's own words."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum


class Target(StrEnum):
    """Where the usage of a price is written in Stripe."""

    USAGE_RECORD = "usage_record"
    METER_EVENT = "meter_event"


@dataclass(frozen=True, slots=True)
class Period:
    """A half-open stretch of time, from `start` up to and without `end`, in UTC and whole seconds."""

    start: datetime
    end: datetime


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
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """Choose the way of writing: a billing meter takes meter events, all else usage records.

        Stripe refuses usage records for a price with a meter ("is not on the legacy metered billing
        system"). This is the only place that tells the two apart.
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


@dataclass(frozen=True, slots=True)
class SubscriptionItem:
    """A metered item of a subscription in its current billing period."""

    id: str
    subscription: Subscription
    price: Price
    period: Period
    created: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)
