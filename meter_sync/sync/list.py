"""The list step: which periods are open, which have ended, and which usage each of the open ones needs."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from meter_sync.core.billing.item import SubscriptionItem, WindowSize
from meter_sync.core.billing.way import Way
from meter_sync.core.ownership import going_on
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.prepare import Metering, prepare
from meter_sync.core.planning.stages import Findings, Listed, Metered, Result
from meter_sync.errors import MeterSyncError
from meter_sync.ledger.listed import Seen
from meter_sync.stripe_api.listing import Listing
from meter_sync.stripe_api.prices import nothing_selected
from meter_sync.sync.binding import bind
from meter_sync.sync.ends.find import find_and_record_ended
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Periods, Prepared
from meter_sync.sync.rejections import record_rejections
from meter_sync.sync.workers import first_error_only

log = structlog.get_logger()

EMPTY_PRICE_ASKED_AGAIN_AFTER = timedelta(days=1)


async def list_and_record(job: Job) -> Periods:
    """Return the periods that a run is about, and record what was listed. A dry run records nothing.

    Raise MeterSyncError, also for a selector that matches nothing.
    """
    items, ended, metering, memory = await (_list_all(job) if job.closing is None else _list_due(job, job.closing))
    prepared = _prepared(job, items, ended, metering, memory)
    goes_on = going_on(items, memory.billed_by_others, job.rules)
    if job.closing is None:
        _warn_of_fine_windows(job, prepared.items)
    return Periods(prepared, ended, metering, goes_on)


async def list_to_compare(job: Job) -> tuple[Prepared, Metering]:
    """Return the items of the open periods, as far as they were selected, and what OpenMeter has; record nothing.

    Raise MeterSyncError.
    """
    listing, metering = await _ask(job)
    return _prepared(job, listing.items, (), metering, _recall(job, listing)), metering


_Found = tuple[Sequence[SubscriptionItem], Sequence[Seen], Metering, Memory]
"""Items in their open periods, periods that have ended, and what is known of the usage of both."""


async def _list_all(job: Job) -> _Found:
    """Ask Stripe for the items, for what has ended since, and for what it has rejected."""
    listing, metering = await _ask(job)
    await record_rejections(job, listing.items)
    ended = await find_and_record_ended(job, listing)
    over = {one.item.key for one in ended}
    return [item for item in listing.items if item.key not in over], ended, metering, _recall(job, listing)


async def _list_due(job: Job, within: timedelta) -> _Found:
    """Return what ends about now, as the full runs have left it in the ledger.

    Stripe is asked for no list, so that a closing run can come every minute; what that would find is the next full
    run's.
    """
    as_of, ledger = job.run.as_of, job.ledger
    due = ledger.listed.due(as_of, within, job.policy.lookback)
    items = [one.item for one in due if one.item.period.end > as_of]
    await bind(job)
    customers = await _customers(job, [one.item for one in due])
    metering = Metering(job.rules, await job.openmeter.meters(), customers)
    memory = replace(_remembered(job, items), billed_by_others=ledger.billed_usage.open_after(as_of))
    return items, [one for one in due if one.item.period.end <= as_of], metering, memory


def _prepared(
    job: Job, items: Sequence[SubscriptionItem], ended: Sequence[Seen], metering: Metering, memory: Memory
) -> Prepared:
    """Say of each item that was selected which usage it needs.

    Raise MeterSyncError for a selector that matches nothing, nor anything that has ended.
    """
    prepared = prepare([Listed(item) for item in items], metering, memory, job.run.as_of, job.policy.allowed)
    if not job.selection.is_everything:
        found = [*(one.found for one in prepared), *(Findings(one.item) for one in ended)]
        if unmatched := job.selection.unmatched(found):
            raise nothing_selected(*unmatched)
        prepared = [one for one in prepared if job.selection.admits(one.found)]
        if not prepared and not ended:
            raise MeterSyncError(
                "no metered item matches all the selectors together; nothing was written",
                "leave one of them out",
                code="nothing_selected",
            )
    return Prepared(prepared, memory, is_whole_account=job.run.everything)


async def _ask(job: Job) -> tuple[Listing, Metering]:
    """Ask Stripe for the items and OpenMeter for its meters, both at once, and for its customers if need be."""
    job.progress.begin("list", None)
    await bind(job)
    skip = job.ledger.listed.empty_prices(job.policy.now - EMPTY_PRICE_ASKED_AGAIN_AFTER)
    async with first_error_only(), asyncio.TaskGroup() as group:
        listing = group.create_task(job.lister.find(job.selection, skip))
        meters = group.create_task(job.openmeter.meters())
    found, known = listing.result(), meters.result()
    metering = Metering(job.rules, known, await _customers(job, found.items))
    log.info("list", items=len(found.items), meters=len(set(known.values())))
    return found, metering


async def _customers(job: Job, items: Iterable[SubscriptionItem]) -> dict[str, str]:
    if not job.rules.asks_for_customers:
        return {}
    return dict(await job.openmeter.customers({item.subscription.customer.id for item in items}))


def _recall(job: Job, listing: Listing) -> Memory:
    """Return what the ledger knows of the listed items, and of others that may bill the same."""
    memory, billed = _remembered(job, listing.items), job.ledger.billed_usage
    if job.selection.is_everything:
        _warn_of_unused_rows(job, listing)
    if job.selection.narrows_the_listing:
        return replace(memory, billed_by_others=billed.open_after(job.run.as_of))
    if job.writer is None:
        return memory
    # Of an item that is not listed any more, but not known to have ended, another one must not take the place yet.
    listed = {item.id for item in listing.items}
    open_ones = billed.open_on_meters(job.run.as_of)
    return replace(memory, billed_by_others=tuple(one for one in open_ones if one.item not in listed))


def _remembered(job: Job, items: Sequence[SubscriptionItem]) -> Memory:
    """Return what the ledger knows of items. A dry run, which forgets nothing, does not believe a restored one."""
    memory = job.ledger.memory.of(items)
    if job.writer is None and job.ledger.epochs.is_restored():
        return replace(memory, known_items=frozenset(), remembered={})
    return memory


def _warn_of_unused_rows(job: Job, listing: Listing) -> None:
    """Name the rows that are for no listed item: a misspelt one leaves its items to the metadata, or unbilled."""
    for number, row in enumerate(job.rules.rows, start=1):
        if not any(row.is_for(item) for item in listing.items):
            selector = row.price or row.lookup_key or row.product or row.stripe_meter
            log.warning("meters_row_unused", row=number, selector=selector)


def _warn_of_fine_windows(job: Job, prepared: Sequence[Metered | Result]) -> None:
    """Name the billing meters whose windows are finer than the schedule: their last hours wait for a day's run."""
    meters = {
        meter.id: meter
        for one in prepared
        if isinstance(one, Metered) and one.way is Way.WINDOWS and (meter := one.item.price.billing_meter)
    }
    for meter in meters.values():
        if meter.window is WindowSize.HOUR and job.run.schedule == "daily":
            log.warning(
                "window_finer_than_schedule",
                stripe_meter=meter.id,
                event_name=meter.event_name,
                message="its windows are of one hour and the runs a day apart: the last hours of a period are only "
                "billed if a run comes before its invoice is final; run hourly, or add the line with --closing",
            )
