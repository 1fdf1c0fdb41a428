"""Lines of invoices: what an item used in a period, and what it costs.

Sources: Stripe's documentation of transformed quantities and of tiers. Only metered lines are modelled: an invoice here
shows usage and nothing else.
"""

from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Decimal

from meter_sync.sandbox.instants import unix_seconds
from meter_sync.sandbox.stripe.rules.meter_event_totals import period_usage
from meter_sync.sandbox.stripe.rules.usage_record_totals import total_usage
from meter_sync.sandbox.stripe.state.objects import InvoiceLine, Item, Period, Price
from meter_sync.sandbox.stripe.state.stripe_state import StripeState


def _amount_cents(price: Price, quantity: int) -> Decimal:
    """Return what a quantity costs in whole cents, rounded half up once, at the line.

    Assumed of tiers: Stripe may show a line for each, and round each.
    """
    units = Decimal(quantity)
    if price.tiers:
        return _by_tiers(price, quantity).quantize(Decimal(1), ROUND_HALF_UP)
    transform = price.transform_quantity
    if transform is not None:
        rounding = ROUND_CEILING if transform.round == "up" else ROUND_FLOOR
        units = (units / transform.divide_by).to_integral_value(rounding)
    return (units * price.unit_amount_decimal).quantize(Decimal(1), ROUND_HALF_UP)


def _by_tiers(price: Price, quantity: int) -> Decimal:
    """Return what a quantity costs by tiers: each unit by its own, or all by that of the last (tiers_mode)."""
    cost, before = Decimal(0), 0
    for tier in price.tiers:
        is_last = tier.up_to is None or quantity <= tier.up_to
        upper = quantity if is_last or tier.up_to is None else tier.up_to
        if price.tiers_mode == "graduated":
            cost += (upper - before) * tier.unit_amount_decimal + tier.flat_amount_decimal
        elif is_last:
            cost = quantity * tier.unit_amount_decimal + tier.flat_amount_decimal
        if is_last:
            break
        before = upper
    return cost


def _quantity(state: StripeState, price: Price, item: Item, period: Period, since: int | None) -> int:
    """Return what an item used in a period: by its usage records, or by its customer's meter events.

    Meter events may have decimal values; what is billed of their total here are whole units.
    """
    if price.meter is None:
        return total_usage(item, price.aggregate_usage, period)
    customer = state.subscriptions[item.subscription].customer
    return int(period_usage(state, state.meters[price.meter], customer, period, since))


def line_for(
    state: StripeState, price: Price, item: Item, period: Period, since: int | None, *, free: bool
) -> InvoiceLine:
    """Return the line for what an item used in a period, of its meter's events since an instant.

    A trial's usage costs nothing.
    """
    quantity = _quantity(state, price, item, period, since)
    cost = Decimal(0) if free else _amount_cents(price, quantity)
    return InvoiceLine(item.id, price.id, quantity, cost, period)


def preview(state: StripeState, subscription_id: str) -> list[InvoiceLine]:
    """Return the lines that the subscription's next invoice would have if the open periods ended now."""
    subscription = state.subscriptions.find(subscription_id)
    free = subscription.status == "trialing"
    priced = [(state.price_of(item), item) for item in state.items_of(subscription)]
    return [
        line_for(state, price, item, item.period, item.billed_since, free=free)
        for price, item in priced
        if price.usage_type == "metered"
    ]


def total(state: StripeState, item_id: str, at: datetime | None = None) -> int:
    """Return the aggregated usage of an item's period that contains `at` (default: the open one)."""
    item = state.items[item_id]
    periods = [(item.period, item.billed_since)]
    if at is not None:
        instant = unix_seconds(at)
        every = [*((closed.period, closed.billed_since) for closed in item.closed), *periods]
        periods = [(period, since) for period, since in every if period.start <= instant < period.end]
    if not periods:
        raise ValueError(f"{item_id} has no period that contains {at}")
    return _quantity(state, state.price_of(item), item, *periods[0])
