"""What the usage records of a billing period add up to."""

from meter_sync.sandbox.stripe.state.objects import Aggregation, Item, Period


def total_usage(item: Item, aggregation: Aggregation | None, period: Period) -> int:
    """Return the usage of a period, as the price's `aggregate_usage` makes it from the records.

    `last_ever` takes the record of an earlier period if this one has none (API reference,
    recurring.aggregate_usage).
    """
    inside = {at: quantity for at, quantity in item.records.items() if period.start <= at < period.end}
    if aggregation == "last_ever" and not inside:
        inside = {at: quantity for at, quantity in item.records.items() if at < period.end}
    if not inside:
        return 0
    if aggregation == "sum":
        return sum(inside.values())
    if aggregation == "max":
        return max(inside.values())
    return inside[max(inside)]
