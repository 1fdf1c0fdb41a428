"""Usage that items bill, as far as another item's could be the same."""

from dataclasses import dataclass
from datetime import datetime

from meter_sync.core.metering.mapping import Filter


@dataclass(frozen=True, slots=True)
class BilledUsage:
    """Usage that an item bills, as far as another item's could be the same."""

    item: str
    meter: str
    filter: Filter
    subjects: tuple[str, ...]
    start: datetime
    end: datetime
    customer: str = ""
    stripe_meter: str | None = None
    """The customer's usage of a billing meter is billed by each item on it (reported by users)."""
    shared: bool = False
    """Whether it may bill what others bill."""
