"""Which billing periods Stripe's invoices bill, and which of these are drafts still."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from meter_sync.core.model import Period
from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.connection import StripeReader, StripeRefused
from meter_sync.stripe_api.wire import InvoiceData, Page, instant, read

_PAGE_SIZE = 100


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
    filters: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": _PAGE_SIZE}
    if subscription:
        filters["subscription"] = subscription
    found: list[Invoiced] = []
    after: dict[str, str] = {}
    while True:
        answer = await stripe.get("/v1/invoices", "invoices", {**filters, **after})
        page = _read(Page[InvoiceData], answer.data)
        for invoice in page.data:
            lines = await _lines(stripe, invoice) if invoice.lines.has_more else invoice.lines.data
            for line in lines:
                if line.item:
                    period = Period(instant(line.period.start), instant(line.period.end))
                    is_draft = invoice.status == "draft"
                    found.append(Invoiced(line.item, period, is_draft, line.price, line.quantity or 0))
        if not page.has_more or not page.data:
            return Invoices(found)
        after = {"starting_after": page.data[-1].id}


async def _lines(stripe: StripeReader, invoice: InvoiceData) -> list[Any]:
    found: list[Any] = []
    after: dict[str, str] = {}
    while True:
        answer = await stripe.get(f"/v1/invoices/{invoice.id}/lines", "invoice_lines", {"limit": _PAGE_SIZE, **after})
        page = _read(type(invoice.lines), answer.data)
        found += page.data
        if not page.has_more or not page.data:
            return found
        after = {"starting_after": page.data[-1].id}


def _read(shape: Any, data: Mapping[str, Any]) -> Any:
    try:
        return read(shape, data, "invoices")
    except MeterSyncError as error:
        raise StripeRefused(error.message, None) from error
