"""Learning at the start of a run what Stripe has rejected since the last one."""

from datetime import UTC, datetime, timedelta

import structlog

from meter_sync.core.planning.windows import EVENTS_ARE_TAKEN_FOR
from meter_sync.ledger.rejections import Written
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable
from meter_sync.stripe_api.events import Uncounted, rejections
from meter_sync.stripe_api.meter_events import event_total
from meter_sync.sync.job import Job
from meter_sync.sync.workers import each

log = structlog.get_logger()

READ_AGAIN_AFTER_SECONDS = 10.0
"""Summaries lag by seconds or minutes."""
LONGEST_RUN = timedelta(hours=1)
"""An event may be received so long after the instant that its run is about."""
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


async def record_rejections(job: Job) -> None:
    """Read the error events since the last one seen, where the key may, and record what they are about.

    A 2xx of Stripe does not mean billed: it validates events later. Where it only counts what it rejected, what it
    holds for each customer written in that time is compared with what it took.
    """
    if job.writer is None:
        return
    found = await rejections(job.writer, job.ledger.rejections.read_until())
    if found is None or found.position is None:
        return
    for uncounted in found.uncounted:
        await _compare(job, uncounted)
    how_many = job.ledger.rejections.record(found.by_identifier, found.position)
    log.info("rejections", named=how_many, uncounted=len(found.uncounted))


async def _compare(job: Job, uncounted: Uncounted) -> None:
    """Doubt the items whose summary has something else than what was taken, also when it is read a second time.

    So is one with an addition that had no answer: Stripe would say that it has that one, rejected or not.
    """

    async def compare(one: Written) -> None:
        try:
            for pause_seconds in (0.0, min(READ_AGAIN_AFTER_SECONDS, job.retry_seconds)):
                await job.stop.sleep(pause_seconds)
                total = await event_total(job.stripe, one.stripe_meter, one.customer, one.summarized)
                if total == one.acknowledged and not one.lacks_answer:
                    return
        except (StripeRefused, StripeUnavailable) as error:
            log.warning("rejection_not_compared", item=one.item, message=error.message)
            return
        why = f"{uncounted.message}: it holds {total} of the {one.acknowledged} that it took"
        job.ledger.rejections.record_doubt(one, why, job.clock() - EVENTS_ARE_TAKEN_FOR)

    # Stripe says when by the time of day, which says nothing about a test clock's: all that is on it is compared.
    since = uncounted.start - LONGEST_RUN if job.test_clock is None else _ALWAYS
    await each(job.ledger.rejections.written(uncounted.stripe_meter, since, job.run, job.clock()), compare)
