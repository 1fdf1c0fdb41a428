"""How far Stripe still takes usage of a billing period, also of one that has ended."""

from datetime import datetime, timedelta
from enum import StrEnum

from meter_sync.core.billing.item import SubscriptionItem, Target
from meter_sync.core.billing.span import usage_end
from meter_sync.core.billing.way import Records, Way, way_of, window_of


class Intake(StrEnum):
    """What Stripe still does with usage of a billing period."""

    RUNNING = "running"
    """It takes it: the period goes on."""
    GRACE = "grace"
    """It still takes it, although the period has ended: its invoice is a draft, or for some minutes."""
    CLOSED = "closed"
    """It takes no more of it: what stands there is what it bills."""
    UNBILLED = "unbilled"
    """Nothing bills the period, whatever was reported: its subscription or item is gone without an invoice."""
    VOIDED = "voided"
    """Nor does anything here: its invoice was voided, as those of a pause may be (pause_collection documentation)."""

    @property
    def is_open(self) -> bool:
        """Whether Stripe takes usage."""
        return self in {Intake.RUNNING, Intake.GRACE}

    @property
    def bills(self) -> bool:
        """Whether something bills the period, or will."""
        return self not in {Intake.UNBILLED, Intake.VOIDED}


INVOICE_COMES_WITHIN = timedelta(hours=1)
"""Stripe drafts the invoice of a period soon after its end, and finalizes it an hour later at the earliest."""

DRAFTS_LAST = timedelta(hours=73)
"""An invoice is a draft for 72 hours at the most (invoice documentation); the hour is margin."""


def usage_end_of(item: SubscriptionItem) -> datetime:
    """Given an item in a period, return where its usage ends with that period, and that of the next one begins."""
    way = way_of(item.price, Records.PERIOD)
    end = usage_end(item.period, window_of(way, item.price) if way is Way.WINDOWS else None)
    # After a change of price in its midst there is nothing before that change.
    return end if item.cycle_start is None else max(item.period.start, end)


def intake_as_known(item: SubscriptionItem, as_of: datetime, *, takes_no_more: bool, is_invoiced: bool) -> Intake:
    """Given an item in a period, and what was found out about its end before, return what Stripe does with its usage.

    As long as nothing was found out of a period that has ended, it may still take more.
    """
    if item.period.end > as_of:
        return Intake.RUNNING
    if not takes_no_more:
        return Intake.GRACE
    if item.is_cut:
        return intake_of_cut(item)
    return Intake.CLOSED if is_invoiced or not _is_gone(item) else Intake.UNBILLED


def intake_of_cut(item: SubscriptionItem) -> Intake:
    """Given an item that left its price, or was removed, in mid-period, return what Stripe does with its usage.

    In the billing mode classic nobody bills what was stamped before; in flexible an invoice item bills what was
    reported by then (Stripe documentation, billing modes). That mode knows no usage records: they go with the item.
    """
    is_billed = item.subscription.is_flexible and item.price.target is Target.METER_EVENT
    return Intake.CLOSED if is_billed else Intake.UNBILLED


def _is_gone(item: SubscriptionItem) -> bool:
    return not item.is_followed or item.subscription.status == "paused"


def intake_of(
    item: SubscriptionItem, is_draft: bool | None, as_of: datetime, watched_for: timedelta, *, is_refused: bool
) -> Intake | None:
    """Given an item in a period that has ended, return what Stripe does with more usage of it; None: not known yet.

    `is_draft` says whether the period's invoice is a draft, None where there is none; `is_refused`, whether Stripe has
    said before that it takes no more.

    - Usage records are taken for a few minutes after the end, on `sum` prices, without a guarantee (legacy guide):
      what Stripe answers decides, so they are tried as long as the period is watched for late usage.
    - Meter events count until the invoice is finalized (billing meter guide): any draft takes them, also one that came
      late, after it was thought that none would.
    - Where the subscription or the item is gone, or the subscription is paused, and no invoice comes, nothing bills the
      period: usage of a subscription that is canceled at once is not invoiced unless that was asked for (API reference,
      cancel).
    """
    age = as_of - item.period.end
    if _is_gone(item) and is_draft is None:
        return Intake.UNBILLED if age >= INVOICE_COMES_WITHIN else None
    if is_draft and item.price.target is Target.METER_EVENT:
        return Intake.GRACE
    if is_refused or age > watched_for:
        return Intake.CLOSED
    if item.price.target is Target.USAGE_RECORD:
        is_taken = item.is_followed or is_draft
    else:
        is_taken = is_draft is None and age < INVOICE_COMES_WITHIN
    return Intake.GRACE if is_taken else Intake.CLOSED
