"""Learning at the start of a run what Stripe has rejected since the last one."""

from collections.abc import Sequence
from datetime import timedelta

import structlog

from meter_sync.core.model import SubscriptionItem
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable
from meter_sync.stripe_api.error_events import Uncounted, rejections
from meter_sync.stripe_api.meter_events import event_total
from meter_sync.sync.adapters import Adapters

log = structlog.get_logger()

LONGEST_RUN = timedelta(hours=1)
"""An event may be received so long after the instant that its run is about."""


async def note_rejections(items: Sequence[SubscriptionItem], adapters: Adapters) -> None:
    """Read the error events since the last one seen, where the key may, and note in the ledger what they are about.

    A 2xx of Stripe does not mean billed: it validates events later. Where it only counts what it rejected, what it
    holds for each customer written in that time is compared with what it took.
    """
    if adapters.writer is None or not any(item.price.stripe_meter for item in items):
        return
    found = await rejections(adapters.writer, adapters.ledger.error_events_position())
    if found is None or found.read_until is None:
        return
    for uncounted in found.uncounted:
        await _compare(uncounted, adapters)
    how_many = adapters.ledger.reject(found.by_identifier, found.read_until)
    log.info("rejections", named=how_many, uncounted=len(found.uncounted))


async def _compare(uncounted: Uncounted, adapters: Adapters) -> None:
    for one in adapters.ledger.written(uncounted.stripe_meter, uncounted.start - LONGEST_RUN):
        try:
            total = await event_total(adapters.stripe, uncounted.stripe_meter, one.customer, one.summarized)
        except (StripeRefused, StripeUnavailable) as error:
            log.warning("rejection_not_compared", item=one.item, message=error.message)
            continue
        if total != one.acknowledged:
            adapters.ledger.doubt(one, f"{uncounted.message}: it holds {total} of the {one.acknowledged} that it took")
