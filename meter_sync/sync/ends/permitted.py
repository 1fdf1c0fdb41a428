"""Reading from Stripe what a key may lack the permission for: a run makes do without, and says so in the log."""

from collections.abc import Awaitable
from datetime import datetime
from typing import TypeVar

import structlog

from meter_sync.stripe_api.connection import PermissionMissing, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.events import Changes, changes
from meter_sync.stripe_api.invoices import BilledAtChange, Invoiced, billed_at_changes, invoices_since
from meter_sync.sync.job import Job

log = structlog.get_logger()

Found = TypeVar("Found")


async def readable_invoices(job: Job, since: datetime, subscription: str | None) -> list[Invoiced] | None:
    """Return what the invoices bill that were made since an instant, or None where they cannot be read."""
    return await _if_permitted(invoices_since(job.stripe, since, subscription), "invoices_unread")


async def readable_changes(job: Job, since: datetime) -> Changes | None:
    """Return what changed of subscriptions since an instant, or None where that cannot be read."""
    return await _if_permitted(changes(job.stripe, since), "events_unread")


async def readable_billed_at_changes(job: Job, customer: str, since: datetime) -> list[BilledAtChange] | None:
    """Return what invoice items bill of a customer's subscription items, or None where that cannot be read."""
    return await _if_permitted(billed_at_changes(job.stripe, customer, since), "invoices_unread")


async def _if_permitted(reading: Awaitable[Found], event: str) -> Found | None:
    """Raise ConfigurationError for what is wrong with more than a permission, and Interrupted."""
    try:
        return await reading
    except (PermissionMissing, StripeRefused, StripeUnavailable) as error:
        log.warning(event, message=f"how some periods ended is not known: {error.message}")
        return None
