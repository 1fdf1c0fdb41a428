"""What Stripe's invoices bill of the periods of a statement: the only part of it that asks a server."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from meter_sync.config import Settings
from meter_sync.core.billing.item import Period, PeriodKey
from meter_sync.net.stop import Stop
from meter_sync.stripe_api.invoices import by_start, invoices_since
from meter_sync.sync.job import open_reader

_BEFORE_THE_END = timedelta(hours=1)
"""An invoice is not made before the end of its period; the hour is for clocks."""


async def invoiced(
    settings: Settings, time: Period, clock: Callable[[], datetime], stop: Stop
) -> Mapping[PeriodKey, tuple[int, str | None]]:
    """Return the quantity of each item's period on an invoice, and which invoice that is.

    Of lines that do not say how much they bill, and of invoices that are voided or drafts, nothing is said. Raise
    MeterSyncError.
    """
    async with open_reader(settings, clock, stop) as stripe:
        found = await invoices_since(stripe, time.start - _BEFORE_THE_END, None)
    return {
        key: (one.quantity, one.invoice)
        for key, one in by_start(found.lines).items()
        if one.says_quantity and one.is_draft is False and not one.is_void
    }
