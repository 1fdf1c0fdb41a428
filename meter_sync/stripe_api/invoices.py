"""Which billing periods Stripe's invoices bill, and which of these are drafts still."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meter_sync.core.model import SubscriptionItem
from meter_sync.errors import MeterSyncError
from meter_sync.stripe_api.connection import StripeReader, StripeRefused
from meter_sync.stripe_api.wire import InvoiceData, Page, instant, read

_PAGE_SIZE = 100


@dataclass(frozen=True, slots=True)
class Invoices:
    """The periods of items that are on invoices: whether the invoice of each is a draft."""

    is_draft: Mapping[tuple[str, datetime], bool]

    def of(self, item: SubscriptionItem) -> bool | None:
        """Say whether the invoice of an item's period is a draft; None where there is no invoice."""
        return self.is_draft.get((item.id, item.period.start))


async def invoices_since(stripe: StripeReader, since: datetime, subscription: str | None) -> Invoices:
    """Return what the invoices bill that were made since an instant, of one subscription or all.

    The lines beyond the first ten of an invoice are asked for by themselves.
    Raise StripeRefused, also for an answer that is not understood, StripeUnavailable or ConfigurationError.
    """
    filters: dict[str, Any] = {"created": {"gte": int(since.timestamp())}, "limit": _PAGE_SIZE}
    if subscription:
        filters["subscription"] = subscription
    found: dict[tuple[str, datetime], bool] = {}
    after: dict[str, str] = {}
    while True:
        answer = await stripe.get("/v1/invoices", "invoices", {**filters, **after})
        page = _read(Page[InvoiceData], answer.data)
        for invoice in page.data:
            lines = await _lines(stripe, invoice) if invoice.lines.has_more else invoice.lines.data
            for line in lines:
                if line.item:
                    found[line.item, instant(line.period.start)] = invoice.status == "draft"
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
