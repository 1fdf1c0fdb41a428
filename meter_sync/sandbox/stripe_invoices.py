"""The turn of billing periods, and the invoices that it drafts.

Sources: Stripe's documentation of metered billing (billed in arrears, with the invoice of the
period's end), of invoices (a draft is finalized about an hour after it was created) and of
transformed quantities. Only metered lines are modelled: an invoice here shows usage and nothing
else.
"""

import heapq
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from meter_sync.sandbox.billing_periods import Period, period_at
from meter_sync.sandbox.stripe_meters import period_usage
from meter_sync.sandbox.stripe_objects import (
    ClosedPeriod,
    Invoice,
    InvoiceLine,
    Item,
    Price,
    StripeState,
    Subscription,
)
from meter_sync.sandbox.stripe_usage import total_usage

SECONDS_FROM_DRAFT_TO_FINAL = 3600


def amount_cents(price: Price, quantity: int) -> Decimal:
    """Return what a quantity costs in whole cents, rounded half up once, at the line."""
    units = Decimal(quantity)
    transform = price.transform_quantity
    if transform is not None:
        rounding = ROUND_CEILING if transform.round == "up" else ROUND_FLOOR
        units = (units / transform.divide_by).to_integral_value(rounding)
    return (units * price.unit_amount_decimal).quantize(Decimal(1), ROUND_HALF_UP)


def quantity_of(state: StripeState, price: Price, item: Item, period: Period) -> int:
    """Return what an item used in a period: by its usage records, or by its customer's meter events.

    Meter events may have decimal values; what is billed of their total here are whole units.
    """
    if price.meter is None:
        return total_usage(item, price.aggregate_usage, period)
    customer = state.subscriptions[item.subscription].customer
    return int(period_usage(state, state.meters[price.meter], customer, period))


def line_for(state: StripeState, price: Price, item: Item, period: Period, *, free: bool) -> InvoiceLine:
    """Return the line for what an item used in a period; a trial's usage costs nothing."""
    quantity = quantity_of(state, price, item, period)
    cost = Decimal(0) if free else amount_cents(price, quantity)
    return InvoiceLine(item.id, price.id, quantity, cost, period)


def preview(state: StripeState, subscription: Subscription) -> list[InvoiceLine]:
    """Return the lines that the next invoice would have if the open periods ended now."""
    free = subscription.status == "trialing"
    lines = []
    for identifier in subscription.items:
        item = state.items[identifier]
        price = state.price_of(item)
        if price.usage_type == "metered":
            lines.append(line_for(state, price, item, item.period, free=free))
    return lines


def schedule(state: StripeState, subscription: Subscription) -> None:
    """Note when the subscription's next period ends."""
    if subscription.items and not subscription.ended:
        end = min(state.items[identifier].period.end for identifier in subscription.items)
        heapq.heappush(state.due, (end, subscription.id))


def settle(state: StripeState, now: int) -> None:
    """Close every period that has ended by now, oldest first, and finalize what is due."""
    while state.due and state.due[0][0] <= now:
        end, identifier = heapq.heappop(state.due)
        subscription = state.subscriptions[identifier]
        ended = [
            state.items[each]
            for each in subscription.items
            if state.items[each].period.end == end and not subscription.ended
        ]
        if ended:
            _close(state, subscription, ended, end)
    while state.drafts and _is_due(state.invoices[state.drafts[0]], now):
        _finalize(state.invoices[state.drafts.popleft()])


def _is_due(invoice: Invoice, now: int) -> bool:
    return now >= invoice.created + SECONDS_FROM_DRAFT_TO_FINAL


def _finalize(invoice: Invoice) -> None:
    """Freeze an invoice. Nothing collects money here, so only what costs nothing is paid."""
    invoice.finalized_at = invoice.created + SECONDS_FROM_DRAFT_TO_FINAL
    invoice.status = "open" if invoice.total_cents else "paid"


def _close(state: StripeState, subscription: Subscription, ended: list[Item], end: int) -> None:
    """Bill the items whose period ends at this instant, and roll them into the next one."""
    was_trial = subscription.status == "trialing" and subscription.trial_end == end
    start = min(item.period.start for item in ended)
    invoice = draft_invoice(state, subscription, ended, Period(start, end), at=end, free=was_trial)
    for item in ended:
        price = state.price_of(item)
        item.closed.append(ClosedPeriod(item.period, invoice.id, price.id, was_trial))
        item.period = period_at(subscription.anchor, price.interval, price.interval_count, end)
    if was_trial:
        subscription.status = "active"
    schedule(state, subscription)


def draft_invoice(
    state: StripeState,
    subscription: Subscription,
    items: list[Item],
    period: Period,
    *,
    at: int,
    free: bool,
) -> Invoice:
    """Draft the invoice for the open periods of these items."""
    prices = [(state.price_of(item), item) for item in items]
    invoice = Invoice(
        id=state.new_id("in"),
        created=at,
        subscription=subscription.id,
        customer=subscription.customer,
        currency=prices[0][0].currency,
        period=period,
        lines=[
            line_for(state, price, item, item.period, free=free)
            for price, item in prices
            if price.usage_type == "metered"
        ],
    )
    state.invoices.add(invoice, f"customer:{subscription.customer}", f"subscription:{subscription.id}")
    state.drafts.append(invoice.id)
    subscription.latest_invoice = invoice.id
    return invoice


def redraft(state: StripeState, item: Item, closed: ClosedPeriod) -> None:
    """Bring the draft of a closed period up to date with a record that came late."""
    invoice = state.invoices[closed.invoice]
    for place, line in enumerate(invoice.lines):
        if line.item == item.id:
            price = state.prices[closed.price]
            invoice.lines[place] = line_for(state, price, item, closed.period, free=closed.free)


def redraft_customer(state: StripeState, customer: str) -> None:
    """Bring a customer's drafts up to date with a meter event that came late."""
    for identifier in state.invoices.shelf(f"customer:{customer}").older_than(None):
        invoice = state.invoices[identifier]
        if invoice.status != "draft":
            return
        for line in invoice.lines:
            item = state.items[line.item]
            for closed in item.closed:
                if closed.invoice == invoice.id:
                    redraft(state, item, closed)


def is_draft(state: StripeState, closed: ClosedPeriod) -> bool:
    """Whether late records can still change what a closed period is billed."""
    return state.invoices[closed.invoice].status == "draft"
