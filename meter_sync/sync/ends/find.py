"""Finding periods that have ended: in the ledger, in Stripe's answer about what is gone, and in its events."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from meter_sync.core.billing.intake import DRAFTS_LAST
from meter_sync.core.billing.item import Period, SubscriptionItem
from meter_sync.core.ownership import is_billed_alike, is_reported, successions
from meter_sync.ledger.listed import Seen
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable
from meter_sync.stripe_api.events import Removals
from meter_sync.stripe_api.listing import Listing
from meter_sync.sync.ends.permitted import readable_invoices, readable_removals
from meter_sync.sync.job import Job

log = structlog.get_logger()

_OVERLAP = timedelta(minutes=5)
"""Events are read again from a little before the last whole run on: they may become visible late."""


async def find_and_record_ended(job: Job, listing: Listing) -> list[Seen]:
    """Return the periods that have ended and are not closed, of all that is selected, the oldest first.

    What the listing saw is recorded, and so is what is gone since. A dry run records nothing: it knows of the ends that
    the ledger knows.
    """
    book = job.ledger.listed
    if job.writer is not None:
        unseen = book.record(listing.items, job.policy.now)
        await _record_gone(job, listing)
        await _record_invoiced(job, listing, unseen)
        _hand_over(job)
        book.record_listing(listing.items, listing.asked_prices, listing.empty_archived_prices, job.policy.now)
    ended = book.ended(job.run.as_of)
    if not job.selection.narrows_the_listing:
        return ended
    subscriptions = {item.subscription.id for item in listing.items} | set(job.selection.subscriptions)
    return [
        one
        for one in ended
        if one.item.subscription.id in subscriptions or one.item.subscription.customer.id in job.selection.customers
    ]


def _hand_over(job: Job) -> None:
    """Let items go on with what was reported for those whose place they took.

    One that is metered in another way takes over only what was reported, and is then held for that; one that this
    program does not report takes over nothing.
    """
    ledger = job.ledger
    gone = [
        one.item
        for one in ledger.listed.ended(job.run.as_of)
        if one.item.price.stripe_meter and not one.item.is_followed
    ]
    there = [one.item for one in ledger.listed.of_subscriptions({item.subscription.id for item in gone})]
    for old, new in successions(gone, there):
        reported = ledger.memory.of([old]).remembered.get(old.id)
        goes_on = is_billed_alike(new, old, job.rules) or (reported is not None and reported.quantity != 0)
        if is_reported(new, job.rules) and goes_on and ledger.successions.hand_over(old, new, job.policy.now):
            log.info("handed_over", item=old.id, to=new.id)


async def _record_gone(job: Job, listing: Listing) -> None:
    """Record the end of what is not listed any more."""
    listed = {item.id for item in listing.items}
    wanted = set(job.selection.subscriptions)
    gone, missing = Removals(), list[Seen]()
    if job.selection.is_everything:
        gone = await _removals(job)
        missing = job.ledger.listed.missing(listed)
    elif wanted:
        missing = [one for one in job.ledger.listed.missing(listed) if one.item.subscription.id in wanted]
        gone = replace(await _removals(job), subscriptions=frozenset()) if missing else gone
    unlisted = wanted - {item.subscription.id for item in listing.items}
    ask = {one.item.subscription.id for one in missing} | unlisted | gone.subscriptions
    for subscription in sorted(ask):
        of_subscription = [one.item for one in missing if one.item.subscription.id == subscription]
        await _record_fate(job, subscription, of_subscription, gone.items)


async def _record_fate(
    job: Job, subscription: str, missing: Sequence[SubscriptionItem], removed: Mapping[str, datetime]
) -> None:
    """Ask Stripe what became of a subscription, and record the end of its items that are missing."""
    book, as_of = job.ledger.listed, job.run.as_of
    try:
        fate = await job.lister.fate(subscription)
    except (StripeRefused, StripeUnavailable) as error:
        log.warning("subscription_unread", subscription=subscription, message=error.message)
        if isinstance(error, StripeRefused) and error.is_missing:
            for item in missing:
                book.record_end(item, min(as_of, item.period.end))
        return
    if fate.ended_at is not None:
        book.record([_cut_short(item, fate.ended_at) for item in fate.items], job.policy.now)
    following = {item.id: item.period.start for item in fate.items}
    for item in missing:
        if fate.ended_at is None and item.id in following:
            continue
        if fate.ended_at is not None and following.get(item.id, item.period.start) > item.period.start:
            continue
        at = fate.ended_at or removed.get(item.id, as_of)
        book.record_end(item, min(at, item.period.end))


def _cut_short(item: SubscriptionItem, at: datetime) -> SubscriptionItem:
    """Return an item with the period that its subscription's end cut short."""
    end = max(item.period.start, min(item.period.end, at))
    return replace(item, period=Period(item.period.start, end), is_followed=False)


async def _removals(job: Job) -> Removals:
    """Return what went away since the last whole run, where the key may read events."""
    since = job.ledger.runs.last_complete() or job.ledger.listed.first_seen()
    return (await readable_removals(job, since - _OVERLAP) if since else None) or Removals()


async def _record_invoiced(job: Job, listing: Listing, unseen: Collection[str]) -> None:
    """Record the periods that invoices have of items that the ledger did not know before this listing.

    The ledger is new, or was lost, just after they ended; or they began and ended since the last full run; or a webhook
    names a subscription before any full run has seen it.
    """
    selected = job.selection.subscriptions
    items = {item.id: item for item in listing.items if item.created < item.period.start and item.id in unseen}
    if not items or not (job.selection.is_everything or selected):
        return
    since = job.run.as_of - DRAFTS_LAST
    invoices = await readable_invoices(job, since, {item.subscription.id for item in items.values()})
    last_run = job.ledger.runs.last_complete()
    found = [
        replace(items[one.item], period=one.period)
        for one in (invoices or ())
        if one.item in items
        and one.period.end <= items[one.item].period.start
        and (one.is_draft or (last_run and one.period.end > last_run))
    ]
    job.ledger.listed.record(found, job.policy.now)
