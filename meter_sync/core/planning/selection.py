"""Which of the listed items a person asked for."""

from collections.abc import Iterable
from dataclasses import dataclass

from meter_sync.core.planning.stages import Findings


@dataclass(frozen=True, slots=True)
class Selection:
    """What was selected: joined by AND between kinds and by OR within one; an empty kind selects all."""

    customers: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    prices: tuple[str, ...] = ()
    meters: tuple[str, ...] = ()

    @property
    def is_everything(self) -> bool:
        """Whether nothing narrows the run."""
        return not (self.customers or self.subscriptions or self.prices or self.meters)

    @property
    def narrows_the_listing(self) -> bool:
        """Whether Stripe is asked for less than the whole account."""
        return bool(self.customers or self.subscriptions or self.prices)

    def admits(self, found: Findings) -> bool:
        """Say whether an item was selected."""
        return all(not wanted or not set(wanted).isdisjoint(has) for wanted, has in self._compared(found).values())

    def unmatched(self, items: Iterable[Findings]) -> tuple[str, str] | None:
        """Return the kind and the first value that no item has, or None."""
        found: dict[str, set[str]] = {kind: set() for kind in ("customer", "subscription", "price", "meter")}
        for item in items:
            for kind, (_, values) in self._compared(item).items():
                found[kind].update(values)
        wanted = {
            "customer": self.customers,
            "subscription": self.subscriptions,
            "price": self.prices,
            "meter": self.meters,
        }
        return next(
            ((kind, value) for kind, values in wanted.items() for value in values if value not in found[kind]),
            None,
        )

    def _compared(self, found: Findings) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Return for each kind what was wanted and what an item has."""
        subscription = found.item.subscription
        slug = (found.meter.slug,) if found.meter else ()
        named = (found.row.openmeter,) if found.row.openmeter else ()
        return {
            "customer": (self.customers, (subscription.customer.id,)),
            "subscription": (self.subscriptions, (subscription.id,)),
            "price": (self.prices, (found.item.price.id,)),
            "meter": (self.meters, slug + named),
        }
