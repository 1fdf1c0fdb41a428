"""What somebody wants to sell: a metered price, before anything is known of what is there."""

from dataclasses import dataclass
from decimal import Decimal

from meter_sync.core.billing.item import WindowSize
from meter_sync.core.metering.meter import Aggregation
from meter_sync.core.text import thousands
from meter_sync.setup.amounts import money, unit_amount
from meter_sync.stripe_api.catalog import Tier, TiersMode


@dataclass(frozen=True, slots=True)
class WantedTier:
    """What a number of units costs, within a stretch of the quantity."""

    up_to: int | None
    """The last unit of the stretch; None where it has no end."""
    amount: Decimal
    """In the currency itself, for as many units as the price is `per`."""


@dataclass(frozen=True, slots=True)
class WantedPrice:
    """A metered price, with the product and the two meters that it needs."""

    name: str
    """That of the product."""
    meter: str
    """The slug of the OpenMeter meter, which is the event name of the billing meter as well."""
    window: WindowSize | None
    """None where none was asked for."""
    per: int
    """For how many units the amounts are."""
    tiers: tuple[WantedTier, ...]
    """One without an end is the same amount for all."""
    tiers_mode: TiersMode | None
    currency: str
    """Its ISO code in lowercase."""
    interval: str
    lookup_key: str
    product: str | None = None
    """The id of the product, where one was named."""
    aggregation: Aggregation | None = None
    """How the OpenMeter meter counts; None for as it does, or by COUNT where it is to be made."""
    event_type: str | None = None
    value_property: str | None = None

    @property
    def unit_tiers(self) -> tuple[Tier, ...]:
        """What one unit costs in each stretch, in the currency's minor unit. Raise Unpriceable."""
        return tuple(Tier(tier.up_to, unit_amount(tier.amount, self.per, self.currency)) for tier in self.tiers)

    @property
    def in_words(self) -> str:
        """What is charged, for a person."""
        units = tuple(f"{one.unit_amount:f}" for one in self.unit_tiers)
        costs = [f"cost {money(tier.amount, self.currency)}" for tier in self.tiers]
        every = f"each {self.interval}"
        if self.tiers_mode is None:
            return f"{self.per:,} {self.meter} {costs[0]} (unit_amount_decimal {units[0]}), {every}"
        stretches = ", ".join(
            f"{'above that' if tier.up_to is None else f'up to {thousands(tier.up_to)}'} {cost} ({unit})"
            for tier, cost, unit in zip(self.tiers, costs, units, strict=True)
        )
        return f"{self.per:,} {self.meter} {stretches}, {self.tiers_mode}, {every}"
