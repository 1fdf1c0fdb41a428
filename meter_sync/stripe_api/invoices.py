"""Which billing periods Stripe's invoices bill, and which of these are drafts still."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from meter_sync.core.billing.item import Period
from meter_sync.stripe_api.connection import StripeReader
from meter_sync.stripe_api.paging import rows
from meter_sync.stripe_api.wire import InvoiceData, InvoiceLineData, instant


@dataclass(frozen=True, slots=True)
class Invoiced:
    """A period of an item that is on an invoice."""

    item: str
    period: Period
    is_draft: bool
    price: str | None
    quantity: int
    """What is billed, over all lines of the item: a tiered price has several."""


@dataclass(frozen=True, slots=True)
class Invoices:
    """The periods of items that are on invoices."""

    periods: Sequence[Invoiced] = ()

    def by_start(self) -> dict[tuple[str, datetime], Invoiced]:
        """Return what is billed, for each item and period's start."""
        found: dict[tuple[str, datetime], Invoiced] = {}
        for one in self.periods:
            key = (one.item, one.period.start)
            found[key] = replace(one, quantity=one.quantity + (found[key].quantity if key in found else 0))
        return found


async def invoices_since(stripe: StripeReader, since: datetime, subscription: str | None) -> Invoices:
    """Return what the invoices bill that were made since an instant, of one subscription or all.

    The lines beyond the first ten of an invoice are asked for by themselves.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    filters: dict[str, Any] = {"created": {"gte": int(since.timestamp())}}
    if subscription:
        filters["subscription"] = subscription
    found: list[Invoiced] = []
    for invoice in await rows(InvoiceData, stripe, "/v1/invoices", "invoices", "an invoice", filters):
        for line in await _lines(stripe, invoice):
            if line.item:
                period = Period(instant(line.period.start), instant(line.period.end))
                is_draft = invoice.status == "draft"
                found.append(Invoiced(line.item, period, is_draft, line.price, line.quantity or 0))
    return Invoices(found)


async def _lines(stripe: StripeReader, invoice: InvoiceData) -> list[InvoiceLineData]:
    """Return all lines of an invoice, also those beyond the page that comes with it."""
    if not invoice.lines.has_more:
        return invoice.lines.data
    path = f"/v1/invoices/{invoice.id}/lines"
    return await rows(InvoiceLineData, stripe, path, "invoice_lines", f"a line of {invoice.id}", {})
