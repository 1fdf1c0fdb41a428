"""What the account itself holds for what its shadow has copies of: what is billed today beside what would be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from meter_sync.config import Settings
from meter_sync.core.billing.event_times import summary_span
from meter_sync.core.billing.item import Period, SubscriptionItem
from meter_sync.core.metering.mapping import COPY_OF
from meter_sync.core.planning.selection import Selection
from meter_sync.core.telling.comparison import Comparison
from meter_sync.errors import MeterSyncError
from meter_sync.net.stop import Stop
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.listing import Lister
from meter_sync.stripe_api.meter_events import past_total
from meter_sync.stripe_api.usage_records import RecordedPeriod, period_total
from meter_sync.sync.job import Clock, open_reader
from meter_sync.sync.workers import each


@dataclass(frozen=True, slots=True)
class Beside:
    """An item of the account beside its copy."""

    copy: SubscriptionItem
    original: str
    """The id of the item that it is a copy of."""
    in_shadow: int | None
    """What Stripe holds for the copy."""
    in_account: int | None = None
    """What it holds for the original: what whoever reports usage today has reported."""
    why: str | None = None
    """Why that is not known."""

    @property
    def difference(self) -> int | None:
        """How much more the shadow has; less is negative. None where that is not known."""
        return None if self.in_shadow is None or self.in_account is None else self.in_shadow - self.in_account


@dataclass(frozen=True, slots=True)
class WithOriginals:
    """What was found out of the account itself."""

    items: Sequence[Beside] = ()
    not_copied: Sequence[str] = ()
    """Items of the account that have no copy among those that were compared."""
    error: MeterSyncError | None = None
    """What ended it before its time, if anything did."""


async def compare_with_originals(
    account: Settings, compared: Sequence[Comparison], clock: Clock, stop: Stop
) -> WithOriginals:
    """Given the settings of the account and the copies as they were verified, return what the account holds beside.

    Nothing is raised, and nothing written.
    """
    try:
        async with open_reader(account, clock, stop) as stripe:
            listing = await Lister(stripe, with_customers=False).find(Selection(), ())
            originals = {item.id: item for item in listing.items}
            until = clock().replace(microsecond=0)
            found = dict[str, Beside]()

            async def read(one: Comparison) -> None:
                id = one.found.item.metadata[COPY_OF]
                found[one.found.item.id] = await _beside(one, id, originals, until, stripe)

            copies = [one for one in compared if COPY_OF in one.found.item.metadata]
            await each(copies, read, len(copies))
            copied = {one.found.item.metadata[COPY_OF] for one in copies}
            return WithOriginals(list(found.values()), [id for id in originals if id not in copied])
    except MeterSyncError as error:
        return WithOriginals(error=error)


async def _beside(
    one: Comparison, id: str, originals: Mapping[str, SubscriptionItem], until: datetime, stripe: StripeReader
) -> Beside:
    beside = Beside(one.found.item, id, one.actual)
    original = originals.get(id)
    if original is None:
        return replace(beside, why="it is gone: meter-sync setup shadow takes its copy away")
    if original.period != one.found.item.period:
        return replace(beside, why="its billing period is another one than its copy has")
    try:
        return replace(beside, in_account=await _held(original, until, stripe))
    except StripeRefused as refusal:
        return replace(beside, why=refusal.message)
    except StripeUnavailable as failure:
        return replace(beside, why=failure.message)


async def _held(item: SubscriptionItem, until: datetime, stripe: StripeReader) -> int:
    """Return what Stripe holds for an item in its open period, whoever has reported it."""
    if item.price.stripe_meter is None:
        return await period_total(stripe, RecordedPeriod(item, is_over=False))
    span = summary_span(Period(item.period.start, until))
    if span.start >= span.end:
        return 0
    return await past_total(stripe, item.price.stripe_meter, item.subscription.customer.id, span)
