"""Subscription schedules: plain data."""

from dataclasses import dataclass, field
from typing import Literal

EndBehavior = Literal["cancel", "release"]
ScheduleStatus = Literal["active", "canceled", "completed", "released"]


@dataclass(frozen=True, slots=True)
class PhaseItem:
    """What a subscription has on a price during a phase."""

    price: str
    quantity: int | None = None
    """For licensed prices."""


@dataclass(frozen=True, slots=True)
class Phase:
    """How a subscription is from `start` until just before `end`, in Unix seconds."""

    start: int
    end: int
    items: tuple[PhaseItem, ...]
    restarts_periods: bool = False
    """Whether new billing periods begin with it (`billing_cycle_anchor=phase_start`)."""


@dataclass(slots=True)
class Schedule:
    """A schedule that was made of a running subscription."""

    id: str
    created: int
    customer: str
    subscription: str
    phases: list[Phase]
    """Oldest first, each but the first one beginning with the end of the one before."""
    begun: int
    """When the phase began that was carried out last."""
    end_behavior: EndBehavior = "release"
    metadata: dict[str, str] = field(default_factory=dict)
    status: ScheduleStatus = "active"
    ended_at: int | None = None
    """When it was canceled, completed or released."""

    def phase_at(self, instant: int) -> Phase | None:
        """Return the phase that is at an instant."""
        return next((phase for phase in self.phases if phase.start <= instant < phase.end), None)
