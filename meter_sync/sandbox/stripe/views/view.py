"""As what a request sees Stripe's objects: by its API version and its mode."""

from dataclasses import dataclass
from typing import Any

from meter_sync.sandbox.stripe.protocol.versions import Version
from meter_sync.sandbox.stripe.state.stripe_state import StripeState

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """What is shown, in which API version, and whether as live."""

    state: StripeState
    version: Version
    livemode: bool

    @property
    def legacy(self) -> bool:
        """Whether objects are shown as before 2025-03-31.basil."""
        return self.version.has_legacy_billing
