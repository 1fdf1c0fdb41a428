"""What Stripe's events tell of the time between two runs.

That is what it rejected after all, what changed of subscriptions or went away, and which invoices bill nobody any more.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import structlog
from pydantic import AliasPath, Field, StringConstraints, ValidationError

from meter_sync.core.billing.item import Period, PeriodKey
from meter_sync.stripe_api.connection import PermissionMissing, StripeReader, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.paging import PAGE_SIZE, pages, refusing
from meter_sync.stripe_api.shapes import (
    Identified,
    Identifier,
    Instant,
    Metadata,
    NotUnderstood,
    Page,
    PathIdentifier,
    Quantity,
    Shape,
    Text,
    UnixSeconds,
)
from meter_sync.stripe_api.subscriptions import Removed

log = structlog.get_logger()

METER_ERRORS = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
DELETED = "customer.subscription.deleted"
UPDATED = "customer.subscription.updated"
VOIDED = "invoice.voided"
DRAFT_DELETED = "invoice.deleted"

_DUPLICATE = "duplicate_meter_event"
"""Stripe's code for an identifier that it has already (API reference, API v2), which says that the event is there.

Whether reports have it of what was repeated through the meter event stream, no documentation says.
"""

_WHAT = "the error events"


@dataclass(frozen=True, slots=True)
class Uncounted:
    """Rejections of which only the number is known: those of a billing meter, or of any, since `start`."""

    stripe_meter: str | None
    start: datetime
    message: str


@dataclass(frozen=True, slots=True)
class Rejections:
    """What was rejected since the events were last read."""

    position: str | None = None
    """From where to read on: when the newest event was made, as Stripe wrote it, and the ids of those made then.

    None where there was nothing new. Two events may be of the same instant.
    """
    by_identifier: dict[str, str] = field(default_factory=dict)
    """Why, for each event that is named."""
    uncounted: list[Uncounted] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class VoidedInvoice:
    """What an invoice billed that was voided, or deleted while it was a draft."""

    lines: frozenset[PeriodKey]
    """The items and the starts of their periods, as far as the event tells."""
    subscription: str | None = None
    """Its subscription, where the event did not tell all of its lines…"""
    ends: frozenset[datetime] = frozenset()
    """… and when the periods of the others end: those of one invoice end together, or at a few instants."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed of subscriptions."""

    canceled: frozenset[str] = frozenset()
    """Subscriptions that were canceled."""
    updated: frozenset[str] = frozenset()
    """Subscriptions of which an item was removed, or changed its price."""
    removed: Mapping[str, Removed] = field(default_factory=dict)
    """The items that were removed from subscriptions that go on, by their ids."""
    new_prices: Mapping[str, tuple[datetime, ...]] = field(default_factory=dict)
    """When items changed their price."""
    voided: tuple[VoidedInvoice, ...] = ()
    """What invoices billed that bill nobody any more."""
    is_read: bool = True
    """Whether Stripe has said it; if not, nothing is known of it."""
    is_forbidden: bool = False
    """Whether it may never say it, to this key."""


class SampleError(Shape):
    """An event that Stripe rejected."""

    error_message: Text
    identifier: Identifier = Field(validation_alias=AliasPath("request", "identifier"))


class Cause(Shape):
    """Rejections for one cause, of which only samples are named."""

    code: Text
    error_count: Annotated[Quantity, Field(ge=0)]
    sample_errors: list[SampleError]


class ErrorData(Shape):
    """What an error event reports."""

    causes: list[Cause] = Field(validation_alias=AliasPath("reason", "error_types"))
    validation_start: Instant
    validation_end: Instant


class ErrorReport(Shape):
    """An event of Stripe's that reports rejected meter events."""

    id: PathIdentifier
    created: Identifier
    related_object: Identified | None = None
    data: ErrorData | None = None


class EventPage(Shape):
    """A page of events, in the shape of Stripe's second API."""

    data: list[ErrorReport]
    next_page_url: Annotated[str, StringConstraints(pattern=r"^/v2/core/events[?]")] | None = None


class PeriodThen(Shape):
    """A billing period, which an item has since basil, and its subscription before."""

    current_period_start: UnixSeconds | None = None
    current_period_end: UnixSeconds | None = None

    @property
    def period(self) -> Period | None:
        """That period, or None where the other has it."""
        start, end = self.current_period_start, self.current_period_end
        return Period(start, end) if start and end and start <= end else None


class PriceThen(Identified):
    """An item's price at some time."""

    usage_type: Text | None = Field(None, validation_alias=AliasPath("recurring", "usage_type"))


class ItemThen(PeriodThen):
    """An item of a subscription at some time, as far as all API versions agree."""

    id: PathIdentifier
    price: PriceThen | None = None
    created: UnixSeconds | None = None
    metadata: Metadata = Field(default_factory=dict)


Items = list[ItemThen] | None


class SubscriptionThen(PeriodThen):
    """A subscription at some time."""

    status: Text | None = None


class SubscriptionEvent(Identified):
    """An event about a subscription, with the items that it has, and those that it had if they are others."""

    type: Text
    created: UnixSeconds
    subscription: PathIdentifier = Field(validation_alias=AliasPath("data", "object", "id"))
    test_clock: Identifier | None = Field(None, validation_alias=AliasPath("data", "object", "test_clock"))
    then: SubscriptionThen = Field(validation_alias=AliasPath("data", "object"))
    before: Items = Field(None, validation_alias=AliasPath("data", "previous_attributes", "items", "data"))
    after: Items = Field(None, validation_alias=AliasPath("data", "object", "items", "data"))

    @property
    def removed_items(self) -> list[Removed]:
        """The items that the subscription had before and has no more."""
        if self.before is None or self.after is None:
            return []
        left = {item.id for item in self.after}
        return [self._removed(item) for item in self.before if item.id not in left]

    def _removed(self, item: ItemThen) -> Removed:
        return Removed(
            id=item.id,
            subscription=self.subscription,
            at=self.created,
            status=self.then.status,
            metered_price=item.price.id if item.price and item.price.usage_type == "metered" else None,
            period=item.period or self.then.period,
            created=item.created,
            metadata=item.metadata,
        )

    @property
    def repriced_items(self) -> list[str]:
        """The items that have another price than before."""
        prices = {item.id: item.price.id for item in self.before or () if item.price}
        return [
            item.id for item in self.after or () if item.price and prices.get(item.id, item.price.id) != item.price.id
        ]


class LineOrigin(Shape):
    """Which subscription item a line bills."""

    subscription_item: PathIdentifier | None = None


class LineParent(Shape):
    """What a line comes from (API version basil and later)."""

    subscription_item_details: LineOrigin | None = None


class LineThen(LineOrigin):
    """A line of an invoice; before basil it named its subscription item itself."""

    start: UnixSeconds = Field(validation_alias=AliasPath("period", "start"))
    end: UnixSeconds = Field(validation_alias=AliasPath("period", "end"))
    parent: LineParent | None = None

    @property
    def item(self) -> str | None:
        """The subscription item that it bills, if it bills one."""
        details = self.parent.subscription_item_details if self.parent else None
        return self.subscription_item or (details.subscription_item if details else None)


class InvoiceParent(Shape):
    """What an invoice comes from (API version basil and later)."""

    subscription: Identifier | None = Field(None, validation_alias=AliasPath("subscription_details", "subscription"))


class InvoiceThen(Shape):
    """An invoice with the first of its lines; before basil it named its subscription itself."""

    subscription: Identifier | None = None
    parent: InvoiceParent | None = None
    lines: Page[LineThen]

    @property
    def voided(self) -> VoidedInvoice:
        """What it billed."""
        billed = frozenset((line.item, line.start) for line in self.lines.data if line.item)
        if not self.lines.has_more:
            return VoidedInvoice(billed)
        subscription = self.subscription or (self.parent.subscription if self.parent else None)
        return VoidedInvoice(billed, subscription, frozenset(line.end for line in self.lines.data))


class InvoiceEvent(Identified):
    """An event about an invoice."""

    invoice: InvoiceThen = Field(validation_alias=AliasPath("data", "object"))


async def rejections(stripe: StripeReader, position: str | None) -> Rejections | None:
    """Return what Stripe has rejected after `position`, that of an earlier reading, or None where it cannot be read.

    A key may lack the permission for events: everything else goes on without. Stripe keeps events for 30 days.
    Raise Interrupted, or ConfigurationError for what is wrong with more than that permission.
    """
    since, *known = position.split() if position else [None]
    try:
        with refusing():
            reports = await _reports(stripe, since)
    except (PermissionMissing, StripeRefused, StripeUnavailable) as error:
        log.warning("error_events_unread", message=f"what Stripe rejected after the fact is not known: {error.message}")
        return None
    new = [report for report in reports if report.id not in known]
    if not new:
        return Rejections()
    newest = max(report.created for report in reports)
    found = Rejections(" ".join([newest, *(report.id for report in reports if report.created == newest)]))
    for report in new:
        if report.data is None:
            continue
        causes = [cause for cause in report.data.causes if cause.code != _DUPLICATE]
        for cause in causes:
            for sample in cause.sample_errors:
                found.by_identifier.setdefault(sample.identifier, f"{cause.code}: {sample.error_message}")
        if sum(cause.error_count - len(cause.sample_errors) for cause in causes) > 0:
            codes = ", ".join(dict.fromkeys(cause.code for cause in causes))
            meter = report.related_object.id if report.related_object else None
            found.uncounted.append(Uncounted(meter, report.data.validation_start, codes))
    return found


async def _reports(stripe: StripeReader, since: str | None) -> list[ErrorReport]:
    params: dict[str, Any] = {"types": list(METER_ERRORS), "limit": PAGE_SIZE}
    if since:
        params["created"] = {"gte": since}
    path: str | None = "/v2/core/events"
    found: list[ErrorReport] = []
    asked: set[str] = set()
    while path:
        if path in asked:
            raise NotUnderstood(_WHAT, "a page follows itself")
        asked.add(path)
        page = EventPage.read(await stripe.get(path, "events", params), _WHAT)
        for report in page.data:
            if report.data is None:  # a list may hold the events without their data
                report = ErrorReport.read(await stripe.get(f"/v2/core/events/{report.id}", "event", {}), _WHAT)
            found.append(report)
        path, params = page.next_page_url, {}
    return found


async def changes(stripe: StripeReader, since: datetime, ended_since: datetime) -> Changes:
    """Return what changed of subscriptions since an instant, but for those on a test clock.

    What ended, or was removed, before `ended_since` is not among it.

    Stripe keeps events for 30 days, and tells of up to 20 types at once (API reference, List events).

    Events are in the account's API version of their time, so only what all versions share is read off them.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    types = [DELETED, UPDATED, VOIDED, DRAFT_DELETED]
    filters: dict[str, Any] = {"types": types, "created": {"gte": int(since.timestamp())}}
    canceled, updated = set[str](), set[str]()
    removed: dict[str, Removed] = {}
    new_prices = defaultdict[str, tuple[datetime, ...]](tuple)
    voided = list[VoidedInvoice]()
    with refusing():
        async for row in pages(stripe, "/v1/events", "events", filters):
            try:
                if row.get("type") in (VOIDED, DRAFT_DELETED):
                    voided.append(InvoiceEvent.model_validate(row).invoice.voided)
                    continue
                event = SubscriptionEvent.model_validate(row)
            except ValidationError:
                continue  # of a shape that no version has: it is one item's matter, not the run's
            if event.test_clock is not None:
                continue
            if event.created < ended_since:
                pass
            elif event.type == DELETED:
                canceled.add(event.subscription)
            elif event.type == UPDATED and (event.removed_items or event.repriced_items):
                updated.add(event.subscription)
                removed = {item.id: item for item in event.removed_items} | removed  # the newest event comes first
            for item in event.repriced_items if event.type == UPDATED else ():
                new_prices[item] += (event.created,)
    return Changes(frozenset(canceled), frozenset(updated), removed, new_prices, tuple(voided))
