"""What the ledger remembers of an item, as the plan needs it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from meter_sync.core.mapping import Filter
from meter_sync.core.model import Target
from meter_sync.core.quantity import Rounding


@dataclass(frozen=True, slots=True)
class Method:
    """How an item's usage becomes what Stripe holds: fixed per item and period."""

    target: Target
    meter: str
    filter: Filter
    scale: Decimal
    rounding: Rounding


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was last intended and acknowledged for one item in one period."""

    method: Method
    price: str
    subjects: tuple[str, ...]
    anchor: datetime
    quantity: int
    """The whole quantity of the period that was last intended."""
    as_of: datetime
    """The instant up to which that quantity counts."""
    acknowledged: int | None = None
    """The whole quantity that Stripe acknowledged last, or None."""
    acknowledged_at: datetime | None = None
    """When it did, if nothing else was intended since."""
    foreign: int = 0
    """What other records of the period hold, beside the one at the anchor."""
    foreign_held: bool = False
    """Whether the item is held because of those, rather than topped up by permission."""
    total_before: int | None = None
    """While a first look is unfinished: Stripe's total before the first write."""

    @property
    def at_anchor(self) -> int:
        """What the record at the anchor holds if Stripe has the intended quantity."""
        return self.quantity - self.foreign


@dataclass(frozen=True, slots=True)
class Claim:
    """Usage that an item bills, as far as another item's could be the same."""

    item: str
    meter: str
    filter: Filter
    subjects: tuple[str, ...]
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Memory:
    """All that the ledger says about the items of one listing."""

    known_items: frozenset[str] = frozenset()
    """Items that were looked at in Stripe before their first write."""
    remembered: Mapping[str, Remembered] = field(default_factory=dict)
    """Per item, its current period."""
    other_claims: tuple[Claim, ...] = ()
    """What items outside a narrowed listing bill, as the last whole listing saw them."""
