"""Finishing periods that have ended: the last usage is reported while Stripe takes it, and what is left is named."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from meter_sync.core.billing.intake import DRAFTS_LAST, ending, was_free
from meter_sync.core.billing.item import Ending, SubscriptionItem, Target
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.ownership.successions import is_contained, is_reported
from meter_sync.core.planning.known import Claim
from meter_sync.core.planning.prepare import prepare
from meter_sync.core.planning.stages import Hold, Line, Result, Skip
from meter_sync.ledger.listed import Conclusion, Seen
from meter_sync.stripe_api.invoices import Invoiced, Invoices
from meter_sync.sync.adapters import Adapters
from meter_sync.sync.order import Order
from meter_sync.sync.permitted import readable_invoices
from meter_sync.sync.progress import Progress
from meter_sync.sync.steps import Carried, Metering, carry_out

log = structlog.get_logger()

CustomersMeter = tuple[str, str | None]
"""A customer and a billing meter: usage on it is the customer's."""


@dataclass(frozen=True, slots=True)
class GoingOn:
    """What goes on while other periods end: the listed items, and those that the ledger knows beside them."""

    items: Sequence[SubscriptionItem] = ()
    meters: frozenset[CustomersMeter] = frozenset()
    """The billing meters on which a customer has an item whose period is open…"""
    our_meters: frozenset[CustomersMeter] = frozenset()
    """… and those on which this program reports one."""


def going_on(order: Order, items: Sequence[SubscriptionItem], others: Iterable[Claim]) -> GoingOn:
    """Given the listed items, and what the ledger knows of others, return what goes on."""
    on_meters = [item for item in items if item.price.stripe_meter]
    listed = {_customers_meter(item) for item in on_meters}
    ours = {_customers_meter(item) for item in on_meters if is_reported(item, order.rules)}
    known = [one for one in others if one.stripe_meter]
    return GoingOn(
        items,
        frozenset(listed | {(one.customer, one.stripe_meter) for one in known}),
        frozenset(ours | {(one.customer, one.stripe_meter) for one in known if one.meter}),
    )


def _customers_meter(item: SubscriptionItem) -> CustomersMeter:
    return item.subscription.customer.id, item.price.stripe_meter


PeriodKey = tuple[str, datetime]
"""An item, and the start of its period."""

_BEFORE_THE_END = timedelta(hours=1)
"""An invoice is not made before the end of its period; the hour is for clocks."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """A period that has ended, and what Stripe does with usage of it."""

    seen: Seen
    ending: Ending
    is_invoiced: bool | None = None
    billed: int | None = None
    """What its final invoice bills, where the price moved before the period's end and after it was listed last."""
    is_read_back: bool = False

    @property
    def item(self) -> SubscriptionItem:
        return self.seen.item


async def finish_ended(
    order: Order,
    adapters: Adapters,
    metering: Metering,
    seen: Sequence[Seen],
    goes_on: GoingOn,
    progress: Progress,
) -> Carried:
    """Report the rest of periods that have ended, record how far each has come, and return what became of them."""
    written = adapters.ledger.memory.reported([one.item for one in seen])
    nothing = [one for one in seen if was_free(one.item) or _is_billed_with_another(order, one, goes_on, written)]
    _conclude(adapters, [_conclusion_of(one.item, is_closed=True) for one in nothing], order)
    ended = await _endings(order, adapters, [one for one in seen if one not in nothing], goes_on, written)
    results: list[Result] = []
    gave_way = False
    for together in _once_each(ended):
        carried = await _finish(order, adapters, metering, together, progress)
        results += carried.results
        gave_way |= carried.gave_way
        if carried.error:
            return Carried(results, carried.error, gave_way=gave_way)
    return Carried(results, gave_way=gave_way)


async def _finish(
    order: Order, adapters: Adapters, metering: Metering, ended: Sequence[_Ended], progress: Progress
) -> Carried:
    """Finish one period of each item. Where Stripe refuses the report, say right away what is left."""
    carried = await _carry_out(order, adapters, metering, ended, progress)
    by_item = {one.line.item.id: one for one in carried.results}
    closed = [
        replace(one, ending=Ending.CLOSED)
        for one in ended
        if one.item.id in carried.refused and one.item.price.target is Target.USAGE_RECORD
    ]
    if closed and not carried.error:
        again = await _carry_out(order, adapters, metering, closed, progress)
        by_item |= {one.line.item.id: one for one in again.results}
        carried = replace(again, results=())
    last = {one.item.id: one for one in [*ended, *closed]}
    found = [(last[one.item.id], by_item[one.item.id]) for one in ended if one.item.id in by_item]
    _conclude(adapters, [_concluded(one, result, order) for one, result in found], order)
    return Carried([result for _, result in found], carried.error, gave_way=carried.gave_way)


async def _carry_out(
    order: Order, adapters: Adapters, metering: Metering, ended: Sequence[_Ended], progress: Progress
) -> Carried:
    items = [_as_billed(one) for one in ended]
    memory = adapters.ledger.memory.of(items)
    found = prepare(items, order.rules, metering.meters, memory, order.run.as_of, metering.customers)
    ways = {one.item.id: one for one in ended}
    prepared = [_with_ending(one, ways) for one in found]
    selected = [one for one in prepared if order.selection.admits(one if isinstance(one, Line) else one.line)]
    return await carry_out(order, adapters, selected, memory, progress)


def _as_billed(one: _Ended) -> SubscriptionItem:
    """Return an item as it was while it was used: what was used before a pause is not skipped because of it.

    Once Stripe takes no more, what kept it from being billed does not keep it from being named.
    """
    subscription = one.item.subscription
    if subscription.status == "paused":
        subscription = replace(subscription, status="active")
    if one.ending is not Ending.OPEN:
        customer = replace(subscription.customer, deleted=False)
        subscription = replace(subscription, customer=customer, has_billing_thresholds=False)
    return replace(one.item, subscription=subscription)


def _with_ending(one: Line | Hold | Skip, ways: Mapping[str, _Ended]) -> Line | Hold | Skip:
    """Return a line with its period's ending; one that was held only lest it be billed twice is named at its end."""
    line = one if isinstance(one, Line) else one.line
    ended = ways[line.item.id]
    is_held = isinstance(one, Hold) and ended.ending is Ending.OPEN
    if isinstance(one, Skip) or is_held:
        return one
    is_read_back = ended.is_read_back or ended.seen.read_back_at is not None
    return replace(line, ending=ended.ending, is_read_back=is_read_back, billed=ended.billed)


def _once_each(ended: Iterable[_Ended]) -> list[list[_Ended]]:
    """Return the periods in turns in which each item appears once, its oldest period first."""
    turns: list[list[_Ended]] = []
    for one in ended:
        turn = next((turn for turn in turns if all(one.item.id != other.item.id for other in turn)), None)
        if turn is None:
            turns.append(turn := [])
        turn.append(one)
    return turns


def _is_billed_with_another(order: Order, one: Seen, goes_on: GoingOn, written: Collection[PeriodKey]) -> bool:
    """Say whether nothing was ever reported for an item, because another one bills the same."""
    item = one.item
    if item.is_followed or _customers_meter(item) not in goes_on.our_meters or (item.id, item.period.start) in written:
        return False
    return any(is_contained(item, other, order.rules) for other in goes_on.items)


async def _endings(
    order: Order, adapters: Adapters, seen: Sequence[Seen], goes_on: GoingOn, written: Collection[PeriodKey]
) -> list[_Ended]:
    """Say of each period what Stripe does with usage of it; one of which that is not known yet is left for later."""
    asking = [one for one in seen if _depends_on_invoice(one)]
    invoices = await _invoices(adapters, asking)
    lines = invoices.by_start() if invoices else {}
    found = []
    for one in seen:
        line = lines.get((one.item.id, one.item.period.start))
        meter, is_written = _customers_meter(one.item), (one.item.id, one.item.period.start) in written
        is_shared = meter in goes_on.meters
        may_write = is_written or meter not in goes_on.our_meters
        ended = _ending(order, one, line, is_unread=invoices is None, is_shared=is_shared, may_write=may_write)
        found += [ended] if ended else []
    return found


def _ending(
    order: Order, one: Seen, line: Invoiced | None, *, is_unread: bool, is_shared: bool, may_write: bool
) -> _Ended | None:
    item = one.item
    if line and line.price not in (None, item.price.id):
        return None if line.is_draft else _Ended(one, Ending.CLOSED, True, line.quantity)
    if is_unread and one.is_invoiced and order.run.as_of - item.period.end < DRAFTS_LAST:
        return None  # it may still be a draft: the next run reads it again
    is_draft = line.is_draft if line else False if one.is_invoiced else None
    if is_draft is None and not item.is_followed and is_shared:
        # The customer's events are billed with another item on the meter, whose period goes on: where that one is
        # reported too, and this one never was, nobody could tell two sums apart.
        is_watched = not _is_watched_no_more(item, order)
        return _Ended(one, Ending.OPEN if is_watched and may_write else Ending.CLOSED, is_read_back=True)
    what = ending(item, is_draft, order.run.as_of, order.policy.lookback, is_refused=one.is_refused)
    if what is Ending.UNBILLED and is_unread:
        what = Ending.CLOSED
    return _Ended(one, what, None if is_draft is None else True) if what else None


def _depends_on_invoice(seen: Seen) -> bool:
    """Say whether the invoice of a period has to be looked for: to know if it is final, or which price it is by.

    The price may have moved after the item was listed last and before the period ended.
    """
    item = seen.item
    is_gone = not item.is_followed or item.subscription.status == "paused"
    may_become_final = item.price.target is Target.METER_EVENT or is_gone
    return (may_become_final or seen.is_invoiced is None) and not seen.is_refused


async def _invoices(adapters: Adapters, seen: Sequence[Seen]) -> Invoices | None:
    """Return the invoices that may bill these periods, or None where they cannot be read."""
    if not seen:
        return Invoices()
    since = min(one.item.period.end for one in seen) - _BEFORE_THE_END
    subscriptions = {one.item.subscription.id for one in seen}
    return await readable_invoices(adapters, since, subscriptions.pop() if len(subscriptions) == 1 else None)


def _concluded(one: _Ended, result: Result, order: Order) -> Conclusion:
    """Return what a result says about the end of a period."""
    item = one.item
    is_final = one.ending is not Ending.OPEN and result.lacking is not None
    is_complete = result.outcome in (Outcome.REPORTED, Outcome.UNCHANGED) or result.reason is Reason.PERIOD_CLOSED
    is_news = result.lacking is not None and result.lacking != one.seen.remainder
    return Conclusion(
        item=item.id,
        period_start=item.period.start,
        complete_until=order.run.as_of if is_complete else None,
        is_refused=one.ending is not Ending.OPEN,
        is_invoiced=one.is_invoiced,
        is_read_back=is_final,
        remainder=result.lacking if is_news else None,
        why=result.message,
        is_closed=_is_watched_no_more(item, order) and result.outcome is not Outcome.FAILED,
    )


def _is_watched_no_more(item: SubscriptionItem, order: Order) -> bool:
    return order.run.as_of - item.period.end > order.policy.lookback


def _conclusion_of(item: SubscriptionItem, *, is_closed: bool) -> Conclusion:
    return Conclusion(item.id, item.period.start, is_closed=is_closed)


def _conclude(adapters: Adapters, conclusions: Sequence[Conclusion], order: Order) -> None:
    if adapters.writer is not None:
        adapters.ledger.listed.conclude(conclusions, order.policy.now)
