"""The accounts of the embedded Stripe: plain data."""

from dataclasses import dataclass

from meter_sync.sandbox.stripe.state.objects import Metadata


@dataclass(slots=True)
class Account:
    """An account, and by what the ids of what is in it differ from those of all others."""

    id: str
    number: int
    """0 for the first account, which is the platform; no other has the same."""
    created: int
    metadata: Metadata

    @property
    def mark(self) -> str:
        """What stands in each of its ids: in Stripe, too, an id names one object over all accounts."""
        return f"1Sandbox{self.number}x" if self.number else "1Sandbox"
