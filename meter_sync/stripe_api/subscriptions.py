"""Subscriptions and their items as Stripe shows them, and as the core knows them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from sys import intern
from typing import Any, Self

from pydantic import AliasPath, Field, model_validator

from meter_sync.core.billing.item import Customer, Period, Price, Subscription, SubscriptionItem
from meter_sync.stripe_api.planned import NOTHING_PLANNED, PendingUpdate, PlannedChanges, Schedule, planned_changes
from meter_sync.stripe_api.prices import RecurringPrice
from meter_sync.stripe_api.shapes import Identified, Identifier, Metadata, Page, PathIdentifier, Text, UnixSeconds

_BILLING_MODES = frozenset({"classic", "flexible"})


@dataclass(frozen=True, slots=True)
class Removed:
    """An item that was removed from a subscription, as it was then."""

    id: str
    subscription: str
    at: datetime
    status: str | None = None
    """Its subscription's."""
    metered_price: str | None = None
    """Its price, if that is known to be a metered one."""
    period: Period | None = None
    """The billing period that it was in."""
    created: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


class CustomerData(Identified):
    """An expanded customer; a deleted one has little more than its id."""

    deleted: bool = False
    metadata: Metadata = Field(default_factory=dict)


class NamedItem(Identified):
    """As much of a subscription item as it takes to name it, with its own billing period (API version basil on)."""

    id: PathIdentifier
    created: UnixSeconds
    current_period_start: UnixSeconds
    current_period_end: UnixSeconds
    price: Identified

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> Self:
        if self.current_period_end < self.current_period_start:
            raise ValueError("its period ends before it starts")
        return self


class ItemData(NamedItem):
    """A subscription item."""

    subscription: PathIdentifier
    metadata: Metadata
    price: RecurringPrice


class NamedSubscription(Identified):
    """As much of a subscription as it takes to name its items: the first page of these comes with it, each unread."""

    id: PathIdentifier
    customer: Identifier | Identified
    status: Any = None
    created: UnixSeconds
    test_clock: Any = None
    items: Page[dict[str, Any]]


class SubscriptionData(NamedSubscription):
    """A subscription."""

    customer: Identifier | CustomerData
    status: Text
    billing_mode: Text | None = Field(default=None, validation_alias=AliasPath("billing_mode", "type"))
    pause_collection: Text | None = Field(default=None, validation_alias=AliasPath("pause_collection", "behavior"))
    trial_end: UnixSeconds | None = None
    cancel_at: UnixSeconds | None = None
    ended_at: UnixSeconds | None = None
    metadata: Metadata
    test_clock: Identifier | None = None
    billing_thresholds: dict[str, Any] | None = None
    schedule: Identifier | Schedule | None = None
    pending_update: PendingUpdate | None = None

    @property
    def planned(self) -> PlannedChanges:
        """When it is known to change, as far as its schedule was read."""
        return planned_changes(None if isinstance(self.schedule, str) else self.schedule, self.pending_update)


Alike = Callable[[Mapping[str, str]], Mapping[str, str]]
"""Given metadata, returns equal ones, of something that was read before, or these."""


def _as_they_are(metadata: Mapping[str, str]) -> Mapping[str, str]:
    return metadata


def to_subscription(data: NamedSubscription, alike: Alike = _as_they_are) -> Subscription:
    """Return a subscription as the core knows it; of one that was not understood only whose it is."""
    customer = data.customer
    if not isinstance(data, SubscriptionData):
        return Subscription(data.id, Customer(customer if isinstance(customer, str) else customer.id), "", data.created)
    customer = data.customer
    return Subscription(
        id=data.id,
        customer=Customer(customer, metadata=alike({}))
        if isinstance(customer, str)
        else Customer(customer.id, customer.deleted, alike(customer.metadata)),
        status=intern(data.status),
        created=data.created,
        metadata=alike(data.metadata),
        has_billing_thresholds=bool(data.billing_thresholds),
        trial_end=data.trial_end,
        voids_invoices=data.pause_collection == "void",
        is_flexible=data.billing_mode == "flexible",
        unknown_billing_mode=None if data.billing_mode in _BILLING_MODES else data.billing_mode,
    )


def changes_of(data: NamedSubscription) -> tuple[datetime | None, PlannedChanges]:
    """Return when a subscription is to end, and what else of its changes is known: nothing where it is only named."""
    return (data.cancel_at, data.planned) if isinstance(data, SubscriptionData) else (None, NOTHING_PLANNED)


def to_item(
    data: NamedItem,
    subscription: Subscription,
    price: Price,
    cancel_at: datetime | None = None,
    planned: PlannedChanges = NOTHING_PLANNED,
    alike: Alike = _as_they_are,
) -> SubscriptionItem:
    """Return a subscription item as the core knows it.

    Where its subscription is to end within its period, at `cancel_at`, that is the end of its last one. `planned` is
    what else of its changes is known.
    """
    start, end = data.current_period_start, data.current_period_end
    is_last = cancel_at is not None and start < cancel_at <= end
    period = Period(start, cancel_at if cancel_at is not None and is_last else end)
    return SubscriptionItem(
        id=data.id,
        subscription=subscription,
        price=price,
        period=period,
        created=data.created,
        metadata=alike(data.metadata) if isinstance(data, ItemData) else {},
        is_followed=not is_last,
        changes_at=planned.first_within(period),
        may_change_until=planned.pending_until,
    )


def to_removed_item(data: Removed, subscription: Subscription, price: Price) -> SubscriptionItem | None:
    """Return an item that was removed as the core knows it, or None where events do not say enough of it."""
    if data.period is None or data.created is None:
        return None
    then = replace(subscription, status=data.status or subscription.status)
    return SubscriptionItem(data.id, then, price, data.period, data.created, data.metadata)
