"""Finding periods that have ended: in the ledger, in Stripe's answer about what is gone, and in its events."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from meter_sync.core.billing.changes import stretches
from meter_sync.core.billing.intake import DRAFTS_LAST
from meter_sync.core.billing.item import Period, SubscriptionItem
from meter_sync.ledger.listed import CLOSED_WITHIN, Seen
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable
from meter_sync.stripe_api.events import Changes
from meter_sync.stripe_api.listing import Fate, Listing
from meter_sync.stripe_api.subscriptions import Removed
from meter_sync.sync.ends.permitted import Unread, readable_canceled, readable_changes, readable_invoices
from meter_sync.sync.job import Job
from meter_sync.sync.workers import each

log = structlog.get_logger()

_OVERLAP = timedelta(minutes=5)
"""Events are read again from a little before the last whole run on: they may become visible late."""
_EVENTS_LAST = timedelta(days=30)
"""For so long Stripe keeps events (API reference)."""


@dataclass(frozen=True, slots=True)
class Stretches:
    """Listed items in their periods, which begin anew where a price changed to or from a billing meter."""

    open: Sequence[SubscriptionItem]
    """Each in the one that it is in."""
    news: Sequence[SubscriptionItem]
    """Those of them that the ledger does not know so."""
    missed: Sequence[SubscriptionItem] = ()
    """Items in periods that began with a change since the last run, and have ended since."""


Newest = Mapping[str, SubscriptionItem]
"""Items by their ids, as the ledger knows them in their newest periods."""


def known_before(job: Job, listed: Sequence[SubscriptionItem]) -> Newest:
    """Return the listed items as the ledger knows them, where it does."""
    return job.ledger.listed.as_known(listed)


def in_their_periods(
    job: Job, listed: Sequence[SubscriptionItem], newest: Newest, changes: Changes, until: datetime | None = None
) -> Stretches:
    """Return the listed items, each in the period that it is in, and in those that it was in since it was known.

    `until` is when their subscription ended, if it has.
    """
    as_of, now, news, missed = until or job.run.as_of, *(list[SubscriptionItem]() for _ in range(3))
    for item in listed:
        before_now = newest.get(item.id)
        is_moved = before_now is not None and before_now.price.id != item.price.id
        told = changes.new_prices.get(item.id) or (_as_planned(before_now, as_of) if before_now and is_moved else ())
        *before, last = stretches(item, before_now, told, as_of)
        missed += before
        now.append(last)
        if last is not before_now:
            news.append(last)
    return Stretches(now, news, missed)


def _as_planned(before: SubscriptionItem, as_of: datetime) -> Sequence[datetime]:
    """Return when an item changed, or went, where no event tells: at the instant that was planned, if one was."""
    planned = before.changes_at
    return (planned,) if planned and planned <= as_of else ()


async def early_changes(job: Job) -> Changes | None:
    """Return what changed since the last whole run, read while the items are being listed.

    A run over the whole account asks for that in any case. None in another one, and in a dry one.
    """
    return await changes_since_last_run(job) if _always_asks(job) else None


async def changes_of(
    job: Job, listed: Sequence[SubscriptionItem], newest: Newest, early: Changes | None = None
) -> Changes:
    """Return what changed of subscriptions since the last whole run, given what was read of it while listing.

    What was listed may be newer than that: where it shows what was not told yet, Stripe is asked again. A run that did
    not ask does so where it sees a change.
    """
    moved = {item.id for item in listed if (known := newest.get(item.id)) and known.price.id != item.price.id}
    if early is not None and _always_asks(job):
        _record_beginning(job)
        missing = job.ledger.listed.missing({item.id for item in listed}, job.run.as_of)
        is_gone_untold = any(
            one.item.id not in early.removed and one.item.subscription.id not in early.canceled for one in missing
        )
        is_all_told = moved <= early.new_prices.keys() and not is_gone_untold
        return early if is_all_told or not early.is_read else await changes_since_last_run(job)
    wanted = set(job.selection.subscriptions)
    missing = job.ledger.listed.missing({item.id for item in listed}, job.run.as_of) if wanted else []
    is_gone = any(one.item.subscription.id in wanted for one in missing)
    return await changes_since_last_run(job) if moved or is_gone else Changes()


def _always_asks(job: Job) -> bool:
    return job.selection.is_everything and job.writer is not None


async def changes_since_last_run(job: Job) -> Changes:
    """Return what changed of subscriptions since the last whole run, where the key may read events.

    A ledger that is new, or whose beginning was not read yet, asks what ended for as long as periods are watched, and
    which prices changed in open periods.
    """
    runs, markers = job.ledger.runs, job.ledger.markers
    known_since = markers.changes_read_until() or runs.last_complete() or job.ledger.listed.first_seen()
    begins_at = _beginning(job)
    ended_since = min(begins_at or known_since or job.run.as_of, known_since or job.run.as_of)
    since = ended_since if known_since and not begins_at else min(ended_since, job.run.as_of - _EVENTS_LAST)
    found = await readable_changes(job, since - _OVERLAP, ended_since - _OVERLAP)
    if not isinstance(found, Unread):
        return found
    canceled = (
        await readable_canceled(job, ended_since) if begins_at and found is Unread.FORBIDDEN else frozenset[str]()
    )
    if isinstance(canceled, Unread):
        return Changes(is_read=False, is_forbidden=canceled is Unread.FORBIDDEN)
    return Changes(canceled, is_read=False, is_forbidden=found is Unread.FORBIDDEN)


def _beginning(job: Job) -> datetime | None:
    """Return since when a ledger that knows of no complete run is to know what has ended; None for one that does."""
    book, runs = job.ledger.markers, job.ledger.runs
    recorded = book.begins_at()
    if recorded is not None or not _always_asks(job):
        return recorded
    is_new = book.changes_read_until() is None and runs.last_complete() is None
    return job.run.as_of - job.policy.lookback if is_new else None


def _record_beginning(job: Job) -> None:
    """Record the beginning of a new ledger. It stays until all since then was read, whatever happens to the run."""
    beginning = _beginning(job)
    if beginning is not None and job.ledger.markers.begins_at() is None:
        job.ledger.markers.record_beginning(beginning)


async def find_and_record_ended(job: Job, listing: Listing, stretches: Stretches, changes: Changes) -> list[Seen]:
    """Return the periods that have ended and are not closed, of all that is selected, the oldest first.

    What the listing saw is recorded, and so is what is gone since. A dry run records nothing: it knows of the ends that
    the ledger knows.
    """
    book, items = job.ledger.listed, stretches.open
    if job.writer is not None:
        unseen = record_stretches(job, stretches)
        gone = await _record_gone(job, listing, changes)
        invoices = await _record_invoiced(job, [*items, *gone.items], unseen | gone.unseen)
        record_voided(job, changes)
        # The marker moves last: a run that is killed before it reads all of this again.
        is_all_told = gone.is_all_known and not job.ledger.refused
        if changes.is_read and is_all_told and job.selection.is_everything:
            job.ledger.markers.record_changes_read(job.run.started_at)
        _record_begun(job, changes, invoices, is_all_known=is_all_told)
        book.record_prices(listing.asked_prices, listing.empty_archived_prices, job.policy.now)
    ended = book.ended(job.run.as_of)
    if not job.selection.narrows_the_listing:
        return ended
    subscriptions = {item.subscription.id for item in items} | set(job.selection.subscriptions)
    return [
        one
        for one in ended
        if one.item.subscription.id in subscriptions or one.item.subscription.customer.id in job.selection.customers
    ]


def record_voided(job: Job, changes: Changes) -> None:
    """Record of which periods the invoice was voided, or the draft of it deleted, also of those that are closed."""
    book = job.ledger.listed
    told = {line for one in changes.voided for line in one.lines}
    found = set(book.billed_as(told)) if told else set()
    for one in changes.voided:
        if one.subscription is not None:
            found.update(book.ended_at(one.subscription, one.ends))
    book.record_voided(found, job.policy.now)


def _record_begun(job: Job, changes: Changes, invoices: Unread | None, *, is_all_known: bool) -> None:
    """Record that all is known that ended before the ledger began, once it is, or after a day that it never will be."""
    begins_at = job.ledger.markers.begins_at()
    if begins_at is None or not job.selection.is_everything:
        return
    is_read = (changes.is_read or changes.is_forbidden) and is_all_known and invoices is not Unread.NO_ANSWER
    if is_read or job.run.as_of > begins_at + job.policy.lookback + CLOSED_WITHIN:
        job.ledger.markers.record_begun()


def record_stretches(job: Job, found: Stretches) -> frozenset[str]:
    """Record items in their periods, and return those that were never listed before.

    An item may have missed several: each ends the one before it.
    """
    book, unseen = job.ledger.listed, frozenset[str]()
    for one in found.missed:
        unseen |= book.record([one], job.policy.now)
    return unseen | book.record(found.news, job.policy.now)


@dataclass(frozen=True, slots=True)
class Gone:
    """What was found out about subscriptions that a listing did not have, or not with all their items."""

    is_all_known: bool = True
    """Whether Stripe has said what became of all of them."""
    items: tuple[SubscriptionItem, ...] = ()
    """The items that they have, or had at their end, each in its last period…"""
    unseen: frozenset[str] = frozenset()
    """… and those of them that were never listed before."""


def _together(found: Sequence[Gone]) -> Gone:
    """Return all of these as one: made at once, since what grows one by one is copied as often."""
    return Gone(
        all(one.is_all_known for one in found),
        tuple(item for one in found for item in one.items),
        frozenset().union(*(one.unseen for one in found)),
    )


async def _record_gone(job: Job, listing: Listing, changes: Changes) -> Gone:
    """Record the end of what is not listed any more, and return what was found out about it."""
    listed = {item.id for item in listing.items}
    wanted = set(job.selection.subscriptions)
    canceled, missing = frozenset[str](), list[Seen]()
    if job.selection.is_everything:
        canceled = changes.canceled
        missing = job.ledger.listed.missing(listed, job.run.as_of)
    elif wanted:
        missing = [
            one for one in job.ledger.listed.missing(listed, job.run.as_of) if one.item.subscription.id in wanted
        ]
    unlisted = wanted - {item.subscription.id for item in listing.items}
    unseen = _unseen_removed(job, changes).keys() if job.selection.is_everything else set()
    ask = {one.item.subscription.id for one in missing} | unlisted | canceled | unseen
    return await record_fates(job, ask, [one.item for one in missing], changes)


_Unanswered = StripeRefused | StripeUnavailable


async def record_fates(
    job: Job, subscriptions: Collection[str], missing: Sequence[SubscriptionItem], changes: Changes
) -> Gone:
    """Ask Stripe what became of subscriptions, record the ends of their missing items, and return what it answered.

    They are asked for at once and recorded one by one. Items that came and went since the last run are recorded too.
    """
    unseen, of = _unseen_removed(job, changes), defaultdict[str, list[SubscriptionItem]](list)
    for item in missing:
        of[item.subscription.id].append(item)
    fates = dict[str, Fate | _Unanswered]()

    async def ask(subscription: str) -> None:
        try:
            fates[subscription] = await job.lister.fate(subscription, unseen.get(subscription, ()))
        except (StripeRefused, StripeUnavailable) as error:
            fates[subscription] = error

    await each(sorted(subscriptions), ask, len(subscriptions))
    return _together(
        [
            _record_fate(job, subscription, fates[subscription], of[subscription], changes)
            for subscription in sorted(subscriptions)
        ]
    )


def _record_fate(
    job: Job, subscription: str, fate: Fate | _Unanswered, missing: Sequence[SubscriptionItem], changes: Changes
) -> Gone:
    book, as_of = job.ledger.listed, job.run.as_of
    if isinstance(fate, StripeRefused | StripeUnavailable):
        log.warning("subscription_unread", subscription=subscription, message=fate.message)
        is_gone = isinstance(fate, StripeRefused) and fate.is_missing
        for item in missing if is_gone else ():
            book.record_end(item, min(as_of, item.period.end), is_cut=False)
        return Gone(is_gone)
    _record_come_and_gone(job, fate.removed, changes)
    found = in_their_periods(job, fate.items, known_before(job, fate.items), changes, fate.ended_at)
    items, new = found.open, frozenset[str]()
    if fate.ended_at is not None:
        items = [_cut_short(item, fate.ended_at) for item in items]
        new = record_stretches(job, replace(found, open=items, news=items))
    following = {item.id: item.period.start for item in items}
    for item in missing:
        if fate.ended_at is None and item.id in following:
            continue
        if fate.ended_at is not None and following.get(item.id, item.period.start) > item.period.start:
            continue
        removed = changes.removed.get(item.id)
        if removed and item.period.end < removed.at:
            book.record([_until_removal(item, removed.at)], job.policy.now)
            continue
        told = [at for at in (fate.ended_at, removed.at if removed else None) if at]
        ends = told or _as_planned(item, as_of) or [as_of]
        # What a subscription had not at its end was removed before, if only in the same second.
        goes_on_without = min(ends) != fate.ended_at or item.id not in following
        is_cut = min(ends) < item.period.end and goes_on_without
        book.record_end(item, min(*ends, item.period.end), is_cut=is_cut)
    if fate.ended_at is None:
        new = record_stretches(job, found)
    return Gone(True, tuple(items), new)


def _unseen_removed(job: Job, changes: Changes) -> dict[str, list[Removed]]:
    """Return, by subscription, the metered items that were removed from it, and that no run has ever seen."""
    metered = [one for one in changes.removed.values() if one.metered_price]
    known = job.ledger.listed.newest({one.id for one in metered})
    found = defaultdict[str, list[Removed]](list)
    for one in metered:
        if one.id not in known:
            found[one.subscription].append(one)
    return found


def _record_come_and_gone(job: Job, gone: Sequence[SubscriptionItem], changes: Changes) -> None:
    """Record items that no run has seen and that were removed since, each in a period that was cut.

    An item that lived through the end of a period is recorded in the last one only.
    """
    for item in gone:
        at = changes.removed[item.id].at
        found = in_their_periods(job, [item], known_before(job, [item]), changes, at)
        cut = [replace(_cut_short(one, at), is_cut=True) for one in found.open]
        record_stretches(job, replace(found, open=cut, news=cut))


def _cut_short(item: SubscriptionItem, at: datetime) -> SubscriptionItem:
    """Return an item with the period that its subscription's end cut short."""
    end = max(item.period.start, min(item.period.end, at))
    return replace(item, period=Period(item.period.start, end), is_followed=False)


def _until_removal(item: SubscriptionItem, at: datetime) -> SubscriptionItem:
    """Return an item in the period after the one that it was seen in, in which it was removed before the next run."""
    period = Period(item.period.end, at)
    return replace(item, period=period, is_followed=False, is_cut=True, cycle_start=None)


async def _record_invoiced(job: Job, listed: Sequence[SubscriptionItem], unseen: Collection[str]) -> Unread | None:
    """Record the periods that invoices have of items that the ledger did not know before this listing.

    The ledger is new, or was lost, just after they ended; or they began and ended since the last full run; or a webhook
    names a subscription before any full run has seen it. As long as it is not known what ended before the ledger began,
    all items are asked for. Return why the invoices were not read, if so.
    """
    book, selected, as_of = job.ledger.listed, job.selection.subscriptions, job.run.as_of
    begins_at = job.ledger.markers.begins_at()
    items = {item.id: item for item in listed if item.created < item.period.start and (begins_at or item.id in unseen)}
    if not items or not (job.selection.is_everything or selected):
        return None
    known_since = begins_at or job.ledger.runs.last_complete() or as_of - job.policy.lookback
    since = min(known_since, as_of - DRAFTS_LAST)
    invoices = await readable_invoices(job, since, {item.subscription.id for item in items.values()})
    if isinstance(invoices, Unread):
        return invoices
    known = book.recorded(items.keys())
    found = [
        _as_invoiced(items[one.item], one.period)
        for one in invoices.lines
        if one.item in items
        and (one.item, one.period.start) not in known
        and one.period.end <= items[one.item].period.start
        and (one.is_draft or one.period.end > known_since)
    ]
    for one in sorted(found, key=lambda item: item.period.start):
        book.record([one], job.policy.now)
    return None


def _as_invoiced(item: SubscriptionItem, period: Period) -> SubscriptionItem:
    """Return an item in an earlier period, as an invoice has it."""
    then = replace(item, period=period, is_followed=True, is_cut=False, cycle_start=None)
    return replace(then, changes_at=None, may_change_until=None)
