"""A closing run: only items whose period ends about now, as the full runs have left them in the ledger.

Nothing is listed, so that it can come every minute; what a listing would find is the next full run's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from meter_sync.core.planning.prepare import prepare
from meter_sync.core.planning.stages import Action, Line, Result, result
from meter_sync.errors import Interrupted, MeterSyncError
from meter_sync.sync.adapters import Adapters
from meter_sync.sync.binding import bind
from meter_sync.sync.ended import finish_ended, going_on
from meter_sync.sync.look import interrupted
from meter_sync.sync.order import Order
from meter_sync.sync.progress import Progress
from meter_sync.sync.steps import Carried, Metering, carry_out


async def close(order: Order, adapters: Adapters, within: timedelta, progress: Progress) -> Carried:
    """Report what ends within so long, and what has ended and was not reported in full since."""
    as_of, ledger = order.run.as_of, adapters.ledger
    due = ledger.listed.due(as_of, within, order.policy.lookback)
    items = [one.item for one in due if one.item.period.end > as_of]
    done: Sequence[Result] = ()
    waiting: list[Action] = []
    try:
        await bind(adapters)
        metering = await _metering(order, adapters, {one.item.subscription.customer.id for one in due})
        memory = replace(ledger.memory.of(items), other_claims=ledger.claims.open_after(as_of))
        prepared = prepare(items, order.rules, metering.meters, memory, as_of, metering.customers)
        waiting = [interrupted(one) if isinstance(one, Line) else one for one in prepared]
        over = [one for one in due if one.item.period.end <= as_of]
        others = going_on(order, items, memory.other_claims)
        ended = await finish_ended(order, adapters, metering, over, others, progress)
        done = ended.results
        if ended.error:
            raise ended.error
        carried = await carry_out(order, adapters, prepared, memory, progress)
        gave_way = ended.gave_way or carried.gave_way
        return Carried([*done, *carried.results], carried.error, gave_way=gave_way)
    except MeterSyncError as error:
        told_by_the_items = isinstance(error, Interrupted) and waiting
        return Carried([*done, *(result(action) for action in waiting)], None if told_by_the_items else error)


async def _metering(order: Order, adapters: Adapters, stripe_customers: set[str]) -> Metering:
    meters = await adapters.openmeter.meters()
    customers: Mapping[str, str] = {}
    if order.rules.asks_for_customers:
        customers = await adapters.openmeter.customers(stripe_customers)
    return Metering(meters, customers)
