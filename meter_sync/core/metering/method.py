"""The method of metering an item: fixed per item and period."""

from dataclasses import dataclass
from decimal import Decimal

from meter_sync.core.billing.item import Target
from meter_sync.core.billing.quantity import Rounding
from meter_sync.core.billing.way import Way
from meter_sync.core.metering.mapping import Filter


@dataclass(frozen=True, slots=True)
class Method:
    """How an item's usage becomes what Stripe holds: fixed per item and period."""

    way: Way
    meter: str
    filter: Filter
    scale: Decimal
    rounding: Rounding
    stripe_meter: str | None = None
    """The billing meter that takes the events."""

    @property
    def target(self) -> Target:
        """Where the usage is written."""
        return self.way.target
