"""Choosing how the usage of an item is written in Stripe: by its price and the price's billing meter, only here."""

from dataclasses import dataclass
from enum import StrEnum

from meter_sync.core.billing.item import BillingMeter, Price, SubscriptionItem, Target, WindowSize


class Way(StrEnum):
    """How a period's usage becomes what Stripe holds."""

    RECORD = "record"
    """One usage record with the period's total so far, set at the anchor."""
    DAY_RECORDS = "day_records"
    """One usage record for each UTC day of the period."""
    WINDOWS = "windows"
    """One event for each UTC window: the one received last counts, so it is a `set` per window."""
    LAST = "last"
    """One event with the period's total so far: the one with the latest timestamp counts."""
    ADDITIONS = "additions"
    """Events that are added up: each has what is still lacking."""

    @property
    def target(self) -> Target:
        """Where it is written."""
        return Target.USAGE_RECORD if self in {Way.RECORD, Way.DAY_RECORDS} else Target.METER_EVENT

    @property
    def is_by_window(self) -> bool:
        """Whether each hour or day has a quantity of its own."""
        return self in {Way.WINDOWS, Way.DAY_RECORDS}

    @property
    def needs_what_adds_up(self) -> bool:
        """Whether the meter's aggregation must add up over time: the total is billed as a sum of parts."""
        return self.is_by_window or self is Way.ADDITIONS


class Records(StrEnum):
    """For what stretch of time a usage record stands: the `records` of a `[[meters]]` row."""

    PERIOD = "period"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Unsupported:
    """There is no way to write usage for this price; the message says what to create instead."""

    message: str


def way_of(price: Price, records: Records) -> Way | Unsupported:
    """Given a price and the size of its usage records, return the way to write its usage.

    | price | way |
    | --- | --- |
    | no meter | usage record(s) |
    | meter with a window, formula sum | windows |
    | meter without one, formula last | last |
    | meter without one, formula sum | additions |
    | any other meter | none |

    The size of usage records is for prices without a meter only: one that moves to a meter needs no other row.
    `count` counts each event as one, so that a total cannot be expressed (API reference, billing meters).
    """
    if price.target is Target.USAGE_RECORD:
        if records is Records.PERIOD:
            return Way.RECORD
        if price.aggregate_usage == "sum":
            return Way.DAY_RECORDS
        return Unsupported(
            f'records = "{records}" adds up only on a sum price, and {price.id} is a {price.aggregate_usage} price: '
            "take it out of the [[meters]] row"
        )
    if price.billing_meter is None:
        return Unsupported(f"billing meter {price.stripe_meter} of price {price.id} cannot be read with this key")
    return _by_meter(price.billing_meter)


_INSTEAD = "create a meter with formula sum and a window of one hour, and a price on it"


def _by_meter(meter: BillingMeter) -> Way | Unsupported:
    named = f"billing meter {meter.id} ({meter.event_name})"
    if not meter.is_active:
        return Unsupported(f"{named} is inactive: reactivate it, or move the price")
    if meter.customer_mapping != "by_id":
        return Unsupported(
            f"{named} maps customers {meter.customer_mapping} by its key {meter.customer_key!r}, not by the Stripe "
            f"customer's id: {_INSTEAD}"
        )
    size = meter.window or meter.unknown_window
    if meter.formula == "sum" and meter.unknown_window is None:
        return Way.WINDOWS if meter.window else Way.ADDITIONS
    if meter.formula == "last" and size is None:
        return Way.LAST
    window = f" with a window of one {size}" if size else ""
    return Unsupported(f"{named} has the formula {meter.formula}{window}, which cannot hold a total: {_INSTEAD}")


def meter_on(item: SubscriptionItem) -> BillingMeter:
    """Return the billing meter of an item's price. Raise ValueError where it has none: no way leads to its events."""
    if item.price.billing_meter is None:
        raise ValueError(f"price {item.price.id} has no billing meter")
    return item.price.billing_meter


def window_of(way: Way, price: Price) -> WindowSize:
    """Given a way by the hour or day, return which of them."""
    window = price.billing_meter.window if price.billing_meter else None
    return window if way is Way.WINDOWS and window else WindowSize.DAY
