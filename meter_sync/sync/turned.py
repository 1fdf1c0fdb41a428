"""Finding periods that have ended: in the ledger, in Stripe's answer about what is gone, and in its events."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from meter_sync.core.billing.intake import DRAFTS_LAST
from meter_sync.core.billing.item import Period, SubscriptionItem
from meter_sync.core.ownership.successions import is_billed_alike, is_reported, successions
from meter_sync.ledger.listed import Seen
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable
from meter_sync.stripe_api.listing import Listing
from meter_sync.stripe_api.subscription_events import Removals
from meter_sync.sync.adapters import Adapters
from meter_sync.sync.order import Order
from meter_sync.sync.permitted import readable_invoices, readable_removals

log = structlog.get_logger()

_OVERLAP = timedelta(minutes=5)
"""Events are read again from a little before the last whole run on: they may become visible late."""


async def find_ended(order: Order, adapters: Adapters, listing: Listing) -> list[Seen]:
    """Return the periods that have ended and are not closed, of all that is selected, the oldest first.

    What the listing saw is recorded, and so is what is gone since. A dry run records nothing: it knows of the ends that
    the ledger knows.
    """
    ledger, as_of = adapters.ledger, order.run.as_of
    if adapters.writer is not None:
        unseen = ledger.listed.never_seen([item.id for item in listing.items])
        ledger.listed.record(listing.items, order.policy.now)
        await _find_gone(order, adapters, listing)
        await _find_invoiced(order, adapters, listing, unseen)
        _hand_over(order, adapters)
    ended = ledger.listed.ended(as_of)
    if not order.selection.narrows_the_listing:
        return ended
    subscriptions = {item.subscription.id for item in listing.items} | set(order.selection.subscriptions)
    return [
        one
        for one in ended
        if one.item.subscription.id in subscriptions or one.item.subscription.customer.id in order.selection.customers
    ]


def _hand_over(order: Order, adapters: Adapters) -> None:
    """Let items go on with what was reported for those whose place they took.

    One that is metered in another way takes over only what was reported, and is then held for that; one that this
    program does not report takes over nothing.
    """
    gone = [
        one.item
        for one in adapters.ledger.listed.ended(order.run.as_of)
        if one.item.price.stripe_meter and not one.item.is_followed
    ]
    there = [one.item for one in adapters.ledger.listed.of_subscriptions({item.subscription.id for item in gone})]
    for old, new in successions(gone, there):
        reported = adapters.ledger.memory.of([old]).remembered.get(old.id)
        goes_on = is_billed_alike(new, old, order.rules) or (reported is not None and reported.quantity != 0)
        if (
            is_reported(new, order.rules)
            and goes_on
            and adapters.ledger.successions.hand_over(old, new, order.policy.now)
        ):
            log.info("handed_over", item=old.id, to=new.id)


async def _find_gone(order: Order, adapters: Adapters, listing: Listing) -> None:
    """Record the end of what is not listed any more."""
    listed = {item.id for item in listing.items}
    selected = set(order.selection.subscriptions) - {item.subscription.id for item in listing.items}
    gone = Removals()
    missing: list[Seen] = []
    if order.selection.is_everything:
        gone = await _removals(adapters)
        missing = adapters.ledger.listed.missing(listed)
    elif order.selection.subscriptions:
        wanted = order.selection.subscriptions
        missing = [one for one in adapters.ledger.listed.missing(listed) if one.item.subscription.id in wanted]
        gone = replace(await _removals(adapters), subscriptions=frozenset()) if missing else gone
    ask = {one.item.subscription.id for one in missing} | selected | gone.subscriptions
    for subscription in sorted(ask):
        of_subscription = [one for one in missing if one.item.subscription.id == subscription]
        await _record_fate(order, adapters, subscription, of_subscription, gone.items)


async def _record_fate(
    order: Order, adapters: Adapters, subscription: str, missing: Sequence[Seen], removed: Mapping[str, datetime]
) -> None:
    try:
        fate = await adapters.lister.fate(subscription)
    except (StripeRefused, StripeUnavailable) as error:
        log.warning("subscription_unread", subscription=subscription, message=error.message)
        if isinstance(error, StripeRefused) and error.is_missing:
            for one in missing:
                adapters.ledger.listed.record_end(one.item, min(order.run.as_of, one.item.period.end))
        return
    if fate.ended_at is not None:
        last = [_ended(item, fate.ended_at) for item in fate.items]
        adapters.ledger.listed.record(last, order.policy.now)
    following = {item.id: item.period.start for item in fate.items}
    for one in missing:
        item = one.item
        if fate.ended_at is None and item.id in following:
            continue
        if fate.ended_at is not None and following.get(item.id, item.period.start) > item.period.start:
            continue
        at = fate.ended_at or removed.get(item.id, order.run.as_of)
        adapters.ledger.listed.record_end(item, min(at, item.period.end))


def _ended(item: SubscriptionItem, at: datetime) -> SubscriptionItem:
    """Return an item with the period that its subscription's end cut short."""
    end = max(item.period.start, min(item.period.end, at))
    return replace(item, period=Period(item.period.start, end), is_followed=False)


async def _removals(adapters: Adapters) -> Removals:
    """Return what went away since the last whole run, where the key may read events."""
    since = adapters.ledger.runs.last_complete() or adapters.ledger.listed.first_seen()
    return (await readable_removals(adapters, since - _OVERLAP) if since else None) or Removals()


async def _find_invoiced(order: Order, adapters: Adapters, listing: Listing, unseen: Collection[str]) -> None:
    """Record the periods that invoices have of items that the ledger did not know before this listing.

    The ledger is new, or was lost, just after they ended; or they began and ended since the last full run; or a webhook
    names a subscription before any full run has seen it.
    """
    selected, ledger = order.selection.subscriptions, adapters.ledger
    items = {item.id: item for item in listing.items if item.created < item.period.start and item.id in unseen}
    if not items or not (order.selection.is_everything or selected):
        return
    since = order.run.as_of - DRAFTS_LAST
    invoices = await readable_invoices(adapters, since, selected[0] if len(selected) == 1 else None)
    last_run = ledger.runs.last_complete()
    found = [
        replace(items[one.item], period=one.period)
        for one in (invoices.periods if invoices else ())
        if one.item in items
        and one.period.end <= items[one.item].period.start
        and (one.is_draft or (last_run and one.period.end > last_run))
    ]
    ledger.listed.record(found, order.policy.now)
