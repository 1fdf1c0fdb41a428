"""What goes on on customers' billing meters while other periods end."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meter_sync.core.billing.item import SubscriptionItem
from meter_sync.core.metering.mapping import MappingRules
from meter_sync.core.ownership.billed_usage import BilledUsage
from meter_sync.core.ownership.successions import is_contained, is_reported

CustomersMeter = tuple[str, str | None]
"""A customer and a billing meter: usage on it is the customer's."""


@dataclass(frozen=True, slots=True)
class GoingOn:
    """What goes on while other periods end: the listed items, and those that the ledger knows beside them."""

    items: Sequence[SubscriptionItem]
    meters: frozenset[CustomersMeter]
    """The billing meters on which a customer has an item whose period is open…"""
    our_meters: frozenset[CustomersMeter]
    """… and those on which this program reports one."""

    def has_meter_of(self, item: SubscriptionItem) -> bool:
        """Say whether an item of the customer goes on on the item's billing meter."""
        return _customers_meter(item) in self.meters

    def reports_meter_of(self, item: SubscriptionItem) -> bool:
        """Say whether this program reports one of these."""
        return _customers_meter(item) in self.our_meters

    def bills_all_of(self, item: SubscriptionItem, rules: MappingRules) -> bool:
        """Say whether an item that was never reported has ended, because another one bills the same."""
        if item.is_followed or not self.reports_meter_of(item):
            return False
        return any(is_contained(item, other, rules) for other in self.items)


def going_on(items: Sequence[SubscriptionItem], others: Iterable[BilledUsage], rules: MappingRules) -> GoingOn:
    """Given the listed items, and what the ledger knows of others, return what goes on."""
    on_meters = [item for item in items if item.price.stripe_meter]
    known = [one for one in others if one.stripe_meter]
    listed = {_customers_meter(item) for item in on_meters}
    ours = {_customers_meter(item) for item in on_meters if is_reported(item, rules)}
    return GoingOn(
        items,
        frozenset(listed | {(one.customer, one.stripe_meter) for one in known}),
        frozenset(ours | {(one.customer, one.stripe_meter) for one in known if one.meter}),
    )


def _customers_meter(item: SubscriptionItem) -> CustomersMeter:
    return item.subscription.customer.id, item.price.stripe_meter
