"""How a billing period that has ended comes to its end: whether Stripe still takes usage of it, and what is left."""

from datetime import datetime, timedelta

from meter_sync.core.billing.item import Ending, SubscriptionItem, Target
from meter_sync.core.billing.span import usage_end
from meter_sync.core.billing.way import Records, Way, part_of, way_of

INVOICE_COMES_WITHIN = timedelta(hours=1)
"""Stripe drafts the invoice of a period soon after its end, and finalizes it an hour later at the earliest."""


DRAFTS_LAST = timedelta(hours=73)
"""An invoice is a draft for 72 hours at the most (invoice documentation); the hour is margin."""


def was_free(item: SubscriptionItem) -> bool:
    """Say whether the period was a trial, whose usage costs nothing."""
    subscription, end = item.subscription, item.period.end
    if subscription.trial_end is None:
        return False
    return subscription.trial_end == end or (subscription.status == "trialing" and subscription.trial_end > end)


def usage_ended(item: SubscriptionItem) -> datetime:
    """Given an item in a period, return where its usage ends with that period, and that of the next one begins."""
    way = way_of(item.price, Records.PERIOD)
    return usage_end(item.period, part_of(way, item.price) if way is Way.WINDOWS else None)


def ending(
    item: SubscriptionItem, is_draft: bool | None, as_of: datetime, watched_for: timedelta, *, is_refused: bool
) -> Ending | None:
    """Given an item in a period that has ended, return what Stripe does with more usage of it; None: not known yet.

    `is_draft` says whether the period's invoice is a draft, None where there is none; `is_refused`, whether Stripe has
    said before that it takes no more.

    - Usage records are taken for a few minutes after the end, on `sum` prices, without a guarantee (legacy guide):
      what Stripe answers decides, so they are tried as long as the period is watched for late usage.
    - Meter events count until the invoice is finalized (billing meter guide).
    - Where the subscription or the item is gone, or the subscription is paused, and no invoice comes, nothing bills the
      period: usage of a subscription that is canceled at once is not invoiced unless that was asked for (API reference,
      cancel).
    """
    age = as_of - item.period.end
    is_gone = not item.is_followed or item.subscription.status == "paused"
    if is_gone and is_draft is None:
        return Ending.UNBILLED if age >= INVOICE_COMES_WITHIN else None
    if is_refused or age > watched_for:
        return Ending.CLOSED
    if item.price.target is Target.USAGE_RECORD:
        return Ending.OPEN if item.is_followed or is_draft else Ending.CLOSED
    if is_draft is None:
        return Ending.OPEN if age < INVOICE_COMES_WITHIN else Ending.CLOSED
    return Ending.OPEN if is_draft else Ending.CLOSED
