"""The first look: reading from Stripe what the ledger does not know, before anything is checked or written."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from meter_sync.core.billing.event_times import summary_before
from meter_sync.core.billing.item import Period
from meter_sync.core.billing.way import Way, meter_on, window_of
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.draft import closed_with
from meter_sync.core.planning.first_sight import looked_at_events, looked_at_records
from meter_sync.core.planning.policy import Policy
from meter_sync.core.planning.results import failed, held, interrupted
from meter_sync.core.planning.stages import AfterSilence, Planned, Result, UnfinishedLook
from meter_sync.core.planning.windows import with_standing_windows
from meter_sync.core.text import utc
from meter_sync.errors import Interrupted
from meter_sync.stripe_api.connection import StripeReader, StripeRefused, StripeUnavailable
from meter_sync.stripe_api.meter_events import event_total, window_totals
from meter_sync.sync.job import Job
from meter_sync.sync.standing import standing_total
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
            said = f"Stripe's total could not be read: {error.message}; nothing was written"
            after[id] = failed(planned.found, Reason.STRIPE_ERROR, said)
        job.progress.advance()

    await each(unknown, look_at, len(unknown))
    return [after.get(one.item.id, one) for one in plan]


def _unknown(job: Job, plan: Iterable[Planned | Result]) -> list[Planned]:
    if job.writer is None:
        return []
    return [one for one in plan if isinstance(one, Planned) and one.look and one.found.row.report]


async def _look_at_records(planned: Planned, stripe: StripeReader, policy: Policy) -> Looked:
    if isinstance(planned.look, UnfinishedLook):
        return looked_at_records(planned, planned.look.total_before, policy.allowed)
    return looked_at_records(planned, await standing_total(planned.metered, stripe), policy.allowed)


async def _look_at_events(planned: Planned, stripe: StripeReader, policy: Policy) -> Looked:
    is_known = isinstance(planned.look, AfterSilence)
    blocked = None if is_known else await _held_by_what_was_before(planned, stripe, policy)
    return blocked or looked_at_events(planned, await standing_total(planned.metered, stripe), policy)


async def _held_by_what_was_before(planned: Planned, stripe: StripeReader, policy: Policy) -> Result | None:
    """Hold an item that was added in mid-period, where Stripe has the customer's events from before on its meter.

    They are of an item whose place it took while no ledger knew, or of another program. Stripe bills them with this
    item, so what should stand there cannot be told.
    """
    item = planned.item
    before = summary_before(item)
    if before is None or Reason.FOREIGN_USAGE in policy.allowed:
        return None
    total = await event_total(stripe, meter_on(item).id, item.subscription.customer.id, before)
    if not total:
        return None
    return held(
        planned.found,
        Reason.FOREIGN_USAGE,
        f"Stripe holds {total} of its customer on the billing meter from before it was added at "
        f"{utc(item.since)}, of an item whose place it took or of another program, and bills that with "
        "this item; nothing was written: settle this period by hand, or report what was used since it was added with "
        "--allow foreign_usage",
    )


async def _look_at_windows(planned: Planned, stripe: StripeReader, policy: Policy) -> Looked:
    """Read what stands in each window, but first whether anything does: that is one request, not eight."""
    blocked = await _held_by_what_was_before(planned, stripe, policy)
    if blocked:
        return blocked
    item, span = planned.item, planned.metered.span
    meter, customer = meter_on(item), item.subscription.customer.id
    window = window_of(planned.metered.way, item.price)
    whole = Period(window.floor(span.start), window.floor(span.end - timedelta(seconds=1)) + window.length)
    any_there = await event_total(stripe, meter.id, customer, whole)
    found = await window_totals(stripe, meter, customer, window, whole) if any_there else {}
    return with_standing_windows(planned, found, policy)


async def _read_back(planned: Planned, stripe: StripeReader, _policy: Policy) -> Looked:
    """Read what stands of a period of which Stripe takes no more; where it does not say, what it took stands."""
    try:
        standing = await standing_total(planned.metered, stripe)
    except StripeRefused as refusal:
        log.warning("not_read_back", item=planned.item.id, message=refusal.message)
        standing = planned.write.quantity
    return replace(planned, write=closed_with(planned.write, standing), look=None)


def _look_for(planned: Planned) -> Callable[[Planned, StripeReader, Policy], Awaitable[Looked]]:
    return _LOOKS[planned.write.method.way] if planned.write.intake.is_open else _read_back


_LOOKS: dict[Way, Callable[[Planned, StripeReader, Policy], Awaitable[Looked]]] = {
    Way.RECORD: _look_at_records,
    Way.DAY_RECORDS: _look_at_records,
    Way.LAST: _look_at_events,
    Way.ADDITIONS: _look_at_events,
    Way.WINDOWS: _look_at_windows,
}
