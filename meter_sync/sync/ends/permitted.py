"""Reading from Stripe what a key may lack the permission for: a run makes do without, and says so in the log.

What was not read is not known: neither that there is nothing, nor that there is something.
"""

from collections.abc import Awaitable, Collection
from datetime import datetime
from enum import StrEnum
from typing import TypeVar

import structlog

from meter_sync.stripe_api.connection import PermissionMissing, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.events import Changes, changes
from meter_sync.stripe_api.invoices import (
    BilledAtChange,
    Invoices,
    billed_at_changes,
    invoices_on_clock,
    invoices_since,
)
from meter_sync.sync.job import Job

log = structlog.get_logger()

Found = TypeVar("Found")


class Unread(StrEnum):
    """Why something was not read."""

    FORBIDDEN = "forbidden"
    """The key may not: it will never be known."""
    NO_ANSWER = "no_answer"
    """Stripe did not say: a later run asks again."""
    NOT_UNDERSTOOD = "not_understood"
    """It said it in a way that this version does not understand: a later one may."""


async def readable_invoices(job: Job, since: datetime, subscriptions: Collection[str]) -> Invoices | Unread:
    """Return what the invoices bill that were made since an instant, or why that was not read.

    They are of these subscriptions, and perhaps of others.
    """
    only = next(iter(subscriptions)) if len(subscriptions) == 1 else None
    reading = (
        invoices_since(job.stripe, since, only)
        if job.test_clock is None
        else invoices_on_clock(job.stripe, sorted(subscriptions))
    )
    return await _if_permitted(reading, "invoices_unread")


async def readable_changes(job: Job, since: datetime, ended_since: datetime) -> Changes | Unread:
    """Return what changed of subscriptions since an instant, or why that was not read.

    Of what ended, or was removed, only what did since `ended_since` is among it.
    """
    clock = job.test_clock
    reading = changes(job.stripe, since, ended_since) if clock is None else _changes_on_clock(job, clock, ended_since)
    return await _if_permitted(reading, "events_unread")


async def readable_canceled(job: Job, since: datetime) -> frozenset[str] | Unread:
    """Return the subscriptions that were canceled since an instant, as no event may tell, or why that was not read."""
    return await _if_permitted(job.lister.canceled_since(since), "events_unread")


async def _changes_on_clock(job: Job, test_clock: str, since: datetime) -> Changes:
    """Return what went away on a test clock since an instant of its time, as its subscriptions tell.

    Its events are not asked for: users report that they are stamped with the time of day, which says nothing about the
    clock's, and whether they are listed at all is said nowhere. So when an item was removed, or its price changed, is
    not known: the run's instant counts.
    """
    return Changes(await job.lister.canceled_on_clock(test_clock, since))


async def readable_billed_at_changes(job: Job, customer: str, since: datetime) -> list[BilledAtChange] | Unread:
    """Return what invoice items bill of a customer's subscription items, or why that was not read."""
    return await _if_permitted(billed_at_changes(job.stripe, customer, since), "invoices_unread")


async def _if_permitted(reading: Awaitable[Found], event: str) -> Found | Unread:
    """Raise ConfigurationError for what is wrong with more than a permission, and Interrupted."""
    try:
        return await reading
    except (PermissionMissing, StripeRefused, StripeUnavailable) as error:
        log.warning(event, message=f"how some periods ended is not known: {error.message}")
        return Unread.FORBIDDEN if isinstance(error, PermissionMissing) else Unread.NO_ANSWER
