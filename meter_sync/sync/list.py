"""The list step: which periods are open, which have ended, and which usage each of the open ones needs."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from meter_sync.core.billing.intake import Intake, intake_as_known
from meter_sync.core.billing.item import BillingMeter, SubscriptionItem, WindowSize
from meter_sync.core.billing.way import Way
from meter_sync.core.metering.mapping import subjects, unused_rows, with_later_metadata
from meter_sync.core.metering.meter import Meters
from meter_sync.core.planning.memory import Memory
from meter_sync.core.planning.prepare import Metering, prepare
from meter_sync.core.planning.selection import Selection
from meter_sync.core.planning.stages import Findings, Listed, Metered, Result
from meter_sync.core.schedule import Schedule
from meter_sync.errors import MeterSyncError
from meter_sync.ledger.listed import Seen
from meter_sync.net.tasks import first_error_only, meanwhile
from meter_sync.stripe_api.listing import Listing
from meter_sync.stripe_api.prices import nothing_selected
from meter_sync.sync.binding import bind
from meter_sync.sync.ends.find import (
    changes_of,
    changes_since_last_run,
    early_changes,
    find_and_record_ended,
    in_their_periods,
    known_before,
    record_fates,
)
from meter_sync.sync.job import Job
from meter_sync.sync.periods import Periods, Prepared
from meter_sync.sync.rejections import record_rejections

log = structlog.get_logger()

EMPTY_PRICE_ASKED_AGAIN_AFTER = timedelta(days=1)


async def list_and_record(job: Job) -> Periods:
    """Return the periods that a run is about, and record what was listed. A dry run records nothing.

    Raise MeterSyncError, also for a selector that matches nothing.
    """
    if job.run.everything:
        job.ledger.memory.find_damaged()
    items, over, metering = await _listed(job)
    now = {item.id: item for item in items}
    ended = [replace(one, item=_with_later_metadata(job, one.item, now)) for one in over]
    known = [replace(one, item=_with_later_metadata(job, one.item, now)) for one in _beside(job, items)]
    beside, metering = await _with_subjects(job, metering, items, known)
    listed = [Listed(item) for item in items]
    prepared = _prepared(job, listed, ended, beside, metering)
    if job.closing is None:
        _warn_of_fine_windows(job, prepared.items)
    return Periods(prepared, ended, metering, [*listed, *beside])


async def list_to_compare(job: Job) -> tuple[Prepared, Metering]:
    """Return the items of the open periods, as far as they were selected, and what OpenMeter has; record nothing.

    Raise MeterSyncError.
    """
    listing, metering = await _ask(job)
    newest = known_before(job, listing.items)
    items = in_their_periods(job, listing.items, newest, await changes_of(job, listing.items, newest)).open
    beside, metering = await _with_subjects(job, metering, items, _beside(job, items))
    return _prepared(job, [Listed(item) for item in items], (), beside, metering), metering


async def list_closed(job: Job, within: timedelta) -> tuple[list[Seen], list[Listed], Metering]:
    """Return the periods that ended within some time, by the ledger, those beside them, and what OpenMeter has.

    Stripe is asked for no list of items. Raise MeterSyncError.
    """
    await bind(job)
    seen = job.ledger.listed.ended_since(job.run.as_of - within, job.run.as_of)
    items = [one.item for one in seen]
    metering = _metering(job, await job.openmeter.meters())
    beside, metering = await _with_subjects(job, metering, items, _beside(job, items))
    return seen, beside, metering


_Found = tuple[Sequence[SubscriptionItem], Sequence[Seen], Metering]
"""Items in their open periods, periods that have ended, and what is known of the usage of both."""


async def _listed(job: Job) -> _Found:
    if job.closing is not None:
        return await _list_due(job, job.closing)
    return await (_list_rejected(job) if job.is_about_rejections else _list_all(job))


async def _list_rejected(job: Job) -> _Found:
    """Ask Stripe what it has rejected, and then for the subscriptions that this is about, if there are any."""
    await bind(job)
    await record_rejections(job)
    subscriptions = job.ledger.rejections.subscriptions()
    if not subscriptions:
        return [], [], _metering(job, await job.openmeter.meters())
    return await _list_all(replace(job, selection=Selection(subscriptions=subscriptions)))


async def _list_all(job: Job) -> _Found:
    """Ask Stripe for the items, for what has ended since, and for what it has rejected."""
    async with meanwhile(early_changes(job)) as early:
        listing, metering = await _ask(job)
        if job.selection.is_everything:
            _warn_of_unused_rows(job, listing)
        newest = known_before(job, listing.items)
        changes = await changes_of(job, listing.items, newest, await early)
    found = in_their_periods(job, listing.items, newest, changes)
    if any(item.price.stripe_meter for item in found.open):
        await record_rejections(job)
    ended = await find_and_record_ended(job, listing, found, changes)
    over = {one.item.key for one in ended}
    return [item for item in found.open if item.key not in over], ended, metering


async def _list_due(job: Job, within: timedelta) -> _Found:
    """Return what ends about now, as the full runs have left it in the ledger.

    Stripe is asked for no list of items, so that a closing run can come every minute, but for what changed since the
    last full run: of the subscriptions that it names, and of those that were to change by now, their items are asked
    for.
    """
    as_of, ledger = job.run.as_of, job.ledger
    due = ledger.listed.due(as_of, within, job.policy.lookback)
    await bind(job)
    if await _record_changed(job, due):
        due = ledger.listed.due(as_of, within, job.policy.lookback)
    metering = _metering(job, await job.openmeter.meters())
    items = [one.item for one in due if one.item.period.end > as_of]
    return items, [one for one in due if one.item.period.end <= as_of], metering


async def _record_changed(job: Job, due: Sequence[Seen]) -> bool:
    """Record what became of subscriptions, of those that are due, that changed since the last full run.

    A dry run records nothing. Return whether there were any.
    """
    items = [one.item for one in due if one.item.period.end > job.run.as_of]
    if not items or job.writer is None:
        return False
    changes = await changes_since_last_run(job)
    planned = {one.subscription.id for one in items if one.changes_at and one.changes_at <= job.run.as_of}
    changed = planned | (changes.updated | changes.canceled) & {item.subscription.id for item in items}
    await record_fates(job, changed, items, changes)
    return bool(changed)


def _beside(job: Job, items: Sequence[SubscriptionItem]) -> list[Listed]:
    """Return all other periods that may bill what these items bill, as the ledger knows them.

    Those are the ones that are not closed; and of customers that have several items, or had, or a new one, those that
    are. So it is with customers whose usage is another one's too, or may have been that of one who is gone.
    """
    book, as_of = job.ledger.listed, job.run.as_of
    seen = book.beside({item.key for item in items})
    every = [*items, *(one.item for one in seen)]
    items_of = Counter(customer for _, customer in {(item.id, item.subscription.customer.id) for item in every})
    several = {customer for customer, times in items_of.items() if times > 1}
    several |= {item.subscription.customer.id for item in every if item.created >= item.period.start}
    oldest = min((item.period.start for item in every), default=as_of)
    gone = book.customers_of_gone(oldest)
    several |= gone | _sharing_subjects(job, every) if job.rules.subject_is_metadata else gone & items_of.keys()
    return [as_known(one, as_of) for one in (*seen, *book.closed_since(several, oldest))]


def _sharing_subjects(job: Job, items: Iterable[SubscriptionItem]) -> set[str]:
    """Return the customers of items that have a subject in common with another customer's."""
    customers = defaultdict[str, set[str]](set)
    for item in items:
        for subject in subjects(item, job.rules.subject, {}):
            customers[subject].add(item.subscription.customer.id)
    return {one for several in customers.values() if len(several) > 1 for one in several}


def _with_later_metadata(job: Job, item: SubscriptionItem, now: Mapping[str, SubscriptionItem]) -> SubscriptionItem:
    return with_later_metadata(item, now[item.id], job.rules) if item.id in now else item


def as_known(one: Seen, as_of: datetime) -> Listed:
    """Return an item in its period as the ledger knows it, at an instant."""
    takes_no_more, is_invoiced = one.is_refused or one.closed_at is not None, bool(one.is_invoiced)
    intake = intake_as_known(one.item, as_of, takes_no_more=takes_no_more, is_invoiced=is_invoiced)
    return Listed(one.item, intake, is_invoiced=is_invoiced, settled=one.own)


def _prepared(
    job: Job,
    listed: Sequence[Listed],
    ended: Sequence[Seen],
    beside: Sequence[Listed],
    metering: Metering,
) -> Prepared:
    """Say of each item that was selected which usage it needs.

    Raise MeterSyncError for a selector that matches nothing, nor anything that has ended.
    """
    items = [one.item for one in listed]
    memory = _remembered(job, items)
    others = [*(one.item for one in beside), *(item for item in items if item.id not in memory.remembered)]
    memory = replace(memory, reported=job.ledger.memory.stretches(others))
    prepared = prepare(listed, beside, metering, memory, job.run.as_of, job.policy.allowed)
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
    """Ask Stripe for the key's account and for the items, and OpenMeter for its meters, all at once.

    Nothing is written, to Stripe or to the ledger, before the account is known to be the ledger's.
    """
    job.progress.begin("list", None)
    async with meanwhile(_items_and_meters(job)) as asked:
        await bind(job)  # whatever else goes wrong, another account's key is what has to be said
        listing, known = await asked
    found = _with_what_is_known(job, listing)
    log.info("list", items=len(found.items), meters=len(set(known.known.values())))
    return found, _metering(job, known)


async def _items_and_meters(job: Job) -> tuple[Listing, Meters]:
    skip = job.ledger.listed.empty_prices(job.policy.now - EMPTY_PRICE_ASKED_AGAIN_AFTER)
    async with first_error_only(), asyncio.TaskGroup() as group:
        listing = group.create_task(job.lister.find(job.selection, skip))
        meters = group.create_task(job.openmeter.meters())
    return listing.result(), meters.result()


def _metering(job: Job, meters: Meters) -> Metering:
    return Metering(job.rules, meters.known, meters.unknown)


def _with_what_is_known(job: Job, listing: Listing) -> Listing:
    """Return a listing whose items, where Stripe's answer was not understood, are as the ledger knows them.

    With them are those of subscriptions that could not be read at all: that they are gone is not said.
    """
    book = job.ledger.listed
    newest = book.newest({item.id for item in listing.items if item.not_understood})
    items = [
        replace(known, not_understood=item.not_understood)
        if (known := newest.get(item.id)) and known.key == item.key
        else item
        for item in listing.items
    ]
    unlisted = book.missing({item.id for item in items}, job.run.as_of) if listing.unreadable else []
    for one in unlisted:
        if why := listing.unreadable.get(one.item.subscription.id):
            items.append(replace(one.item, not_understood=why))
    return replace(listing, items=items)


async def _with_subjects(
    job: Job, metering: Metering, items: Sequence[SubscriptionItem], beside: list[Listed]
) -> tuple[list[Listed], Metering]:
    """Return OpenMeter's customers too, if need be: also of those who have no living item any more.

    Where a subject may move from one Stripe customer to another, the closed periods of others who were billed by the
    same ones come with them, and by which subjects it was: what was billed stays billed.
    """
    rules, memory = job.rules, job.ledger.memory
    if rules.asks_for_customers:
        every = [one.subscription.customer for one in (*items, *(one.item for one in beside))]
        known_as = {customer.id: rules.known_as(customer) for customer in every}
        before = memory.openmeter_customers(known_as.keys())
        found = await job.openmeter.customers(set(known_as.values()), {known_as[id]: one for id, one in before.items()})
        metering = replace(metering, customers={id: found[name] for id, name in known_as.items() if name in found})
    if not items or not (rules.asks_for_customers or rules.subject_is_metadata):
        return beside, metering
    listed = {item.key for item in items}
    with_others = [*beside, *_billed_before(job, metering, items, beside)]
    over = {one.item.key for one in with_others if one.intake is not Intake.RUNNING} - listed
    return with_others, replace(metering, subjects_then=memory.subjects_of(over, rules.grouping))


def _billed_before(
    job: Job, metering: Metering, items: Iterable[SubscriptionItem], beside: Sequence[Listed]
) -> list[Listed]:
    """Return the closed periods of Stripe customers who were billed by subjects that are another one's by now."""
    every, rules = [*items, *(one.item for one in beside)], job.rules
    oldest = min((item.period.start for item in every), default=job.run.as_of)
    now = defaultdict[str, set[str]](set)
    for item in every:
        for subject in subjects(item, rules.subject, metering.customers):
            now[subject].add(item.subscription.customer.id)
    billed = job.ledger.memory.customers_billed_by(now.keys(), rules.grouping, oldest)
    others = {customer for customer, by in billed.items() if any(now[subject] - {customer} for subject in by)}
    known = {one.item.key for one in beside}
    found = [one for one in job.ledger.listed.closed_since(others, oldest) if one.item.key not in known]
    return [as_known(one, job.run.as_of) for one in found]


def _remembered(job: Job, items: Sequence[SubscriptionItem]) -> Memory:
    """Return what the ledger knows of items. A dry run, which forgets nothing, does not believe a restored one."""
    memory = job.ledger.memory.of(items)
    if job.writer is None and job.ledger.epochs.is_restored():
        return replace(memory, known_items=frozenset(), remembered={})
    return memory


def _warn_of_unused_rows(job: Job, listing: Listing) -> None:
    """Name the rows that are for no listed item: a misspelt one leaves its items to the metadata, or unbilled."""
    for number, row in unused_rows(listing.items, job.rules):
        log.warning("meters_row_unused", row=number, selector=row.selector)


def _warn_of_fine_windows(job: Job, prepared: Sequence[Metered | Result]) -> None:
    """Name the billing meters whose windows are finer than the schedule: their last hours wait for a day's run."""
    for meter in meters_finer_than(Schedule(job.run.schedule), prepared):
        log.warning(
            "window_finer_than_schedule",
            stripe_meter=meter.id,
            event_name=meter.event_name,
            message="its windows are of one hour and the runs a day apart: the last hours of a period are only "
            "billed if a run comes before its invoice is final; run hourly, or add the line with --closing",
        )


def meters_finer_than(schedule: Schedule, prepared: Iterable[Metered | Result]) -> list[BillingMeter]:
    """Return the billing meters of items whose windows are finer than the schedule."""
    meters = {
        meter.id: meter
        for one in prepared
        if isinstance(one, Metered) and one.way is Way.WINDOWS and (meter := one.item.price.billing_meter)
    }
    is_daily = schedule is Schedule.DAILY
    return [meter for meter in meters.values() if is_daily and meter.window is WindowSize.HOUR]
