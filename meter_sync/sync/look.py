"""The first look: reading from Stripe what the ledger does not know, before anything is checked or written."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from meter_sync.core.billing.event_times import after_its_minute, from_its_minute
from meter_sync.core.billing.item import Period
from meter_sync.core.billing.way import Way, meter_on, window_of
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.first_sight import (
    looked_at_events,
    looked_at_records,
    overruling,
    read_back_as,
    with_past,
)
from meter_sync.core.planning.looks import AfterSilence, ReadBack, Resending, UnfinishedLook
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import failed, interrupted
from meter_sync.core.planning.stages import LookWhole, Planned, Result
from meter_sync.core.planning.windows import with_standing_windows
from meter_sync.errors import Interrupted
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.meter_events import event_total, window_totals
from meter_sync.stripe_api.usage_records import period_totals
from meter_sync.sync.job import Job
from meter_sync.sync.standing import past_of_events, recorded_period, standing_total
from meter_sync.sync.workers import each

log = structlog.get_logger()

Looked = Planned | Result


async def look(job: Job, plan: Sequence[Planned | Result]) -> list[Planned | Result]:
    """Given the plan, return it after reading from Stripe what the ledger does not know.

    The period that ends soonest is looked at first; a look that fails is its item's own matter. A dry run, and an item
    whose `[[meters]]` row says `report = false`, do without.
    """
    after: dict[str, Looked] = {}
    unknown = sorted(_unknown(job, plan), key=lambda one: one.item.period.end)
    job.progress.begin("look", len(unknown))

    async def look_at(planned: Planned) -> None:
        id = planned.item.id
        try:
            job.stop.check()
            after[id] = await _look_for(planned)(planned, job.stripe, job.policy)
        except Interrupted:
            after[id] = interrupted(planned.found)
        except (StripeRefused, StripeUnavailable) as error:
            after[id] = _not_read(planned, error)
        job.progress.advance()

    await each(unknown, look_at, len(unknown))
    job.ledger.writes.record_past((one.item.id, after[one.item.id].found.past) for one in unknown if not one.found.past)
    return [after.get(one.item.id, one) for one in plan]


def _not_read(planned: Planned, error: StripeRefused | StripeUnavailable) -> Looked:
    """Return that an item has failed; what was only to be compared is reported all the same."""
    if isinstance(planned.look, LookWhole):
        log.warning("not_compared", item=planned.item.id, message=error.message)
        return replace(planned, look=None)
    said = f"Stripe's total could not be read: {error.message}; nothing was written"
    return failed(planned.found, Reason.STRIPE_ERROR, said)


def _unknown(job: Job, plan: Iterable[Planned | Result]) -> list[Planned]:
    if job.writer is None:
        return []
    return [one for one in plan if isinstance(one, Planned) and one.look and one.found.row.report]


async def _look_at_records(planned: Planned, stripe: StripeReader, policy: Policy) -> Looked:
    if isinstance(planned.look, UnfinishedLook):
        return looked_at_records(planned, planned.look.total_before, policy.allowed)
    total, past = await period_totals(stripe, recorded_period(planned.metered.listed))
    return looked_at_records(with_past(planned, past), total, policy.allowed)


async def _look_at_events(planned: Planned, stripe: StripeReader, policy: Policy) -> Looked:
    with_its_past = planned if isinstance(planned.look, AfterSilence | Resending) else await _with_past(planned, stripe)
    return looked_at_events(with_its_past, await standing_total(planned.metered, stripe), policy)


async def _look_at_last(planned: Planned, stripe: StripeReader, policy: Policy) -> Looked:
    """Read the total that counts, and where there is one, whether it may be stamped later than the one to be sent."""
    looked = await _look_at_events(planned, stripe, policy)
    if isinstance(looked, Result) or not looked.found.standing:
        return looked
    stamps, timestamp = looked.found.stamps_now, looked.write.anchor
    meter, customer = meter_on(looked.item).id, looked.item.subscription.customer.id
    if not await event_total(stripe, meter, customer, from_its_minute(stamps, timestamp)):
        return looked
    return overruling(looked, later=await event_total(stripe, meter, customer, after_its_minute(stamps, timestamp)))


async def _with_past(planned: Planned, stripe: StripeReader) -> Planned:
    """Return a write by events with what Stripe says of its item's last period, where the ledger does not know it.

    That is for the brakes alone: without an answer that can be used, usage is billed all the same.
    """
    if planned.metered.past:
        return planned
    try:
        return with_past(planned, await past_of_events(planned.metered, stripe))
    except StripeRefused as refusal:
        log.warning("past_not_read", item=planned.item.id, message=refusal.message)
        return planned


async def _look_at_windows(planned: Planned, stripe: StripeReader, policy: Policy) -> Looked:
    """Read what stands in each window; where all that was taken is known, only if the total is another one."""
    if isinstance(planned.look, LookWhole):
        if await standing_total(planned.metered, stripe) == planned.look.acknowledged:
            return replace(planned, look=None)
        found = await _standing_windows(planned, stripe)
        every = with_standing_windows(replace(planned, write=planned.look.every), found, policy)
        return replace(every, highest_before=planned.highest_before)
    return with_standing_windows(await _with_past(planned, stripe), await _standing_windows(planned, stripe), policy)


async def _standing_windows(planned: Planned, stripe: StripeReader) -> Mapping[datetime, int]:
    """Read what stands in each window, but first whether anything does: that is one request, not eight."""
    item, span = planned.item, planned.metered.span
    meter, customer = meter_on(item), item.subscription.customer.id
    window = window_of(planned.metered.way, item.price)
    whole = Period(window.floor(span.start), window.floor(span.end - timedelta(seconds=1)) + window.length)
    any_there = await event_total(stripe, meter.id, customer, whole)
    return await window_totals(stripe, meter, customer, window, whole) if any_there else {}


async def _read_back(planned: Planned, stripe: StripeReader, policy: Policy) -> Looked:
    """Read what stands of a period of which Stripe takes no more; where it does not say, what it took stands.

    Where it does not say, and this ledger reported nothing, it is not known what is lacking of what was used.
    """
    read_back = planned.look if isinstance(planned.look, ReadBack) else ReadBack()
    try:
        standing = await standing_total(planned.metered, stripe)
    except StripeRefused as refusal:
        log.warning("not_read_back", item=planned.item.id, message=refusal.message)
        if read_back.reported is None and planned.write.lacking:
            raise
        standing = planned.write.quantity
    return read_back_as(planned, read_back, standing, policy)


def _look_for(planned: Planned) -> Callable[[Planned, StripeReader, Policy], Awaitable[Looked]]:
    return _LOOKS[planned.write.method.way] if planned.write.intake.is_open else _read_back


_LOOKS: dict[Way, Callable[[Planned, StripeReader, Policy], Awaitable[Looked]]] = {
    Way.RECORD: _look_at_records,
    Way.DAY_RECORDS: _look_at_records,
    Way.LAST: _look_at_last,
    Way.ADDITIONS: _look_at_events,
    Way.WINDOWS: _look_at_windows,
}
