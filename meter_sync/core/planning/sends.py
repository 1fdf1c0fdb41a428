"""What is sent to Stripe for an item's period: one total, hours or days, an addition, or nothing."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from meter_sync.core.planning.memory import Addition


@dataclass(frozen=True, slots=True)
class WindowQuantity:
    """What Stripe is to hold for one hour or day."""

    start: datetime
    """Which one it is."""
    timestamp: datetime
    value: int
    standing: int | None = None
    """What stands in Stripe already, None where that is not known."""
    total: Decimal = Decimal(0)
    """The usage of the period up to its end."""

    @property
    def is_sent(self) -> bool:
        """Whether it is to be sent."""
        return self.standing != self.value


@dataclass(frozen=True, slots=True)
class SetTotal:
    """One usage record, or one event, is set to the quantity of the whole period."""


@dataclass(frozen=True, slots=True)
class SetWindows:
    """Hours or days are set, each to its own quantity."""

    windows: tuple[WindowQuantity, ...]
    """Those of which something is new."""
    kept: int = 0
    """How many were read and are as they were."""
    is_whole: bool = False
    """Whether all of the period was read, and it was due, which is to be remembered."""

    @property
    def sent(self) -> tuple[WindowQuantity, ...]:
        """Those that are to be sent, in order."""
        return tuple(window for window in self.windows if window.is_sent)


@dataclass(frozen=True, slots=True)
class Add:
    """An event adds to what stands in Stripe."""

    addition: Addition


@dataclass(frozen=True, slots=True)
class Cancel:
    """The event that was added last is cancelled."""

    addition: Addition


@dataclass(frozen=True, slots=True)
class SendNothing:
    """Stripe is told nothing: it has the quantity, or takes no more."""


Sends = SetTotal | SetWindows | Add | Cancel | SendNothing
