"""Which billing periods Stripe's invoices bill, and which of these are drafts still."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog
from pydantic import AliasPath, Field, model_validator

from meter_sync.core.billing.item import Period, PeriodKey
from meter_sync.stripe_api.connection import StripeReader
from meter_sync.stripe_api.paging import pages, refusing, rows
from meter_sync.stripe_api.shapes import (
    Identified,
    Identifier,
    NotUnderstood,
    Page,
    PathIdentifier,
    Quantity,
    Shape,
    Text,
    UnixSeconds,
)

log = structlog.get_logger()

_IS_DRAFT = {"draft": True, "open": False, "paid": False, "uncollectible": False, "void": False}
"""Whether an invoice still takes usage, by its status (API reference)."""


@dataclass(frozen=True, slots=True)
class Invoiced:
    """A period of an item that is on an invoice."""

    item: str
    period: Period
    is_draft: bool | None
    """None in a status that this version does not know."""
    price: str | None
    quantity: int
    """What is billed, over all lines of the item: a tiered price has several."""
    is_void: bool = False
    """Whether the invoice was voided: nobody pays it."""
    invoice: str | None = None
    """Which invoice that is."""
    says_quantity: bool = True
    """Whether each of its lines says how much it bills: one may bill a quantity that is no whole number."""


@dataclass(frozen=True, slots=True)
class Invoices:
    """What invoices bill, as far as they are understood."""

    lines: Sequence[Invoiced] = ()
    not_understood: Mapping[str, str] = field(default_factory=dict)
    """Why one of the invoices of a subscription is not understood: nothing is known of what it bills."""


def by_start(invoiced: Iterable[Invoiced]) -> dict[PeriodKey, Invoiced]:
    """Return what is billed, for each item and period's start.

    Several invoices may have the same start. Where any of them is a draft it takes usage, whatever became of the
    others; and what was voided bills nothing beside one that was not.
    """
    found = defaultdict[PeriodKey, list[Invoiced]](list)
    for one in invoiced:
        found[one.item, one.period.start].append(one)
    return {key: _together(lines) for key, lines in found.items()}


def _together(lines: Sequence[Invoiced]) -> Invoiced:
    billing = [one for one in lines if not one.is_void] or lines
    newest = max(billing, key=lambda one: one.period.end)
    states = {one.is_draft for one in billing}
    is_draft = True if True in states else None if None in states else False
    return replace(
        newest,
        is_draft=is_draft,
        quantity=sum(one.quantity for one in billing),
        says_quantity=all(one.says_quantity for one in billing),
    )


class LineItem(Shape):
    """Which subscription item a line bills."""

    subscription_item: PathIdentifier | None = None


class LineParent(Shape):
    """What a line comes from (API version basil and later)."""

    subscription_item_details: LineItem | None = None


class LinePrice(Shape):
    """The price of a line."""

    price: Identifier


class LinePricing(Shape):
    """How a line is priced (API version basil and later)."""

    price_details: LinePrice | None = None


class InvoiceLineData(Identified):
    """A line of an invoice."""

    start: UnixSeconds = Field(validation_alias=AliasPath("period", "start"))
    end: UnixSeconds = Field(validation_alias=AliasPath("period", "end"))
    quantity: Quantity | None = None
    parent: LineParent | None = None
    pricing: LinePricing | None = None


class InvoiceData(Identified):
    """An invoice with the first of its lines."""

    id: PathIdentifier
    status: Text
    lines: Page[InvoiceLineData]

    @model_validator(mode="after")
    def _has_each_line_once(self) -> "InvoiceData":
        if len({line.id for line in self.lines.data}) < len(self.lines.data):
            raise ValueError("it has a line twice")
        return self


class InvoiceOrigin(Shape):
    """Which subscription an invoice is of."""

    subscription: PathIdentifier


class InvoiceParent(Shape):
    """What an invoice comes from (API version basil and later)."""

    subscription_details: InvoiceOrigin | None = None


class InvoiceParentData(Shape):
    """As much of an invoice as it takes to name its subscription."""

    parent: InvoiceParent | None = None


class ItemOrigin(Shape):
    """Which subscription item an invoice item comes from."""

    subscription_item: PathIdentifier | None = None


class ItemParent(Shape):
    """What an invoice item comes from (API version basil and later)."""

    subscription_details: ItemOrigin | None = None


class InvoiceItemData(Identified):
    """An invoice item: what is billed beside the periods of an invoice, such as usage from before a change."""

    date: UnixSeconds
    quantity: Quantity | None = None
    parent: ItemParent | None = None


@dataclass(frozen=True, slots=True)
class BilledAtChange:
    """What an invoice item bills of a subscription item that left its price, or was removed, in mid-period."""

    item: str
    at: datetime
    quantity: int


async def billed_at_changes(stripe: StripeReader, customer: str, since: datetime) -> list[BilledAtChange]:
    """Return the invoice items of a customer that come from subscription items, made since an instant.

    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    filters = {"customer": customer, "created": {"gte": int(since.timestamp())}}
    found = []
    for one in await rows(InvoiceItemData, stripe, "/v1/invoiceitems", "invoice_items", "an invoice item", filters):
        origin = one.parent.subscription_details if one.parent else None
        if origin and origin.subscription_item:
            found.append(BilledAtChange(origin.subscription_item, one.date, one.quantity or 0))
    return found


async def invoices_since(stripe: StripeReader, since: datetime, subscription: str | None) -> Invoices:
    """Return what the invoices bill that were made since an instant, of one subscription or all.

    The lines beyond the first ten of an invoice are asked for by themselves.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    filters: dict[str, Any] = {"created": {"gte": int(since.timestamp())}}
    if subscription:
        filters["subscription"] = subscription
    return await _invoiced(stripe, filters)


async def invoices_on_clock(stripe: StripeReader, subscriptions: Iterable[str]) -> Invoices:
    """Return what all invoices bill of some subscriptions on a test clock.

    Lists omit them unless a customer or a subscription is named (Stripe documentation, Test clocks: "Test clock
    objects omitted in list all results"). Whether they are stamped with the clock's time or the time of day is said
    nowhere, so it is not asked for those since an instant: a test clock has three customers with three subscriptions
    each, at most.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    found = [await _invoiced(stripe, {"subscription": each}) for each in subscriptions]
    not_understood = {subscription: why for each in found for subscription, why in each.not_understood.items()}
    return Invoices([one for each in found for one in each.lines], not_understood)


async def _invoiced(stripe: StripeReader, filters: Mapping[str, Any]) -> Invoices:
    """Read each invoice by itself: one that is not understood is the matter of its subscription."""
    found: list[Invoiced] = []
    not_understood: dict[str, str] = {}
    with refusing():
        async for row in pages(stripe, "/v1/invoices", "invoices", filters):
            try:
                found += await _lines_of(stripe, InvoiceData.read(row, "an invoice"))
            except NotUnderstood as error:
                subscription = _subscription_of(row)
                log.warning("not_understood", id=row["id"], message=f"{error.why}; its items are left as they are")
                if subscription:
                    not_understood[subscription] = error.why
    return Invoices(found, not_understood)


def _subscription_of(row: dict[str, Any]) -> str | None:
    """Return the subscription that an invoice is of, or None for one of none. Raise NotUnderstood."""
    parent = InvoiceParentData.read(row, "what an invoice is of").parent
    details = parent.subscription_details if parent else None
    return details.subscription if details else None


async def _lines_of(stripe: StripeReader, invoice: InvoiceData) -> list[Invoiced]:
    found, lines = [], invoice.lines.data
    if invoice.lines.has_more:
        path, what = f"/v1/invoices/{invoice.id}/lines", f"a line of {invoice.id}"
        lines = [InvoiceLineData.read(row, what) async for row in pages(stripe, path, "invoice_lines", {})]
    for line in lines:
        billed = line.parent.subscription_item_details if line.parent else None
        if billed and billed.subscription_item:
            priced = line.pricing.price_details if line.pricing else None
            price = priced.price if priced else None
            period, is_draft = Period(line.start, line.end), _IS_DRAFT.get(invoice.status)
            is_void, says = invoice.status == "void", line.quantity is not None
            one = Invoiced(billed.subscription_item, period, is_draft, price, line.quantity or 0, is_void)
            found.append(replace(one, invoice=invoice.id, says_quantity=says))
    return found
