"""Changes of a subscription that Stripe knows beforehand: the phases of its schedule, and an update that is pending."""

from dataclasses import dataclass
from datetime import datetime

from meter_sync.core.billing.item import Period
from meter_sync.stripe_api.shapes import Identified, Shape, UnixSeconds


class Phase(Shape):
    """A phase of a schedule, in which the subscription is as the phase says; the next one begins with its end."""

    start_date: UnixSeconds
    end_date: UnixSeconds


class Schedule(Identified):
    """A subscription schedule."""

    current_phase: Phase | None = None
    phases: list[Phase]


class PendingUpdate(Shape):
    """An update that is applied once its invoice is paid, or discarded."""

    expires_at: UnixSeconds


@dataclass(frozen=True, slots=True)
class PlannedChanges:
    """What is known beforehand of a subscription's changes."""

    at: tuple[datetime, ...] = ()
    """When phases of its schedule begin or end, but for those before the one that it is in."""
    pending_until: datetime | None = None
    """Until when an update that waits for a payment may be applied, at any instant."""

    def first_within(self, period: Period) -> datetime | None:
        """Return the first of these instants between the start and the end of a period."""
        return min((at for at in self.at if period.start < at < period.end), default=None)


NOTHING_PLANNED = PlannedChanges()


def planned_changes(schedule: Schedule | None, update: PendingUpdate | None) -> PlannedChanges:
    """Given a subscription's schedule and its pending update, return when it changes.

    What a phase changes is not looked at: its prices, its billing cycle or its trial, or what `end_behavior` does after
    the last one. A report too many at its start costs a request, and one too few the usage that it would have told of.
    """
    phases = schedule.phases if schedule else []
    is_in = schedule.current_phase.start_date if schedule and schedule.current_phase else None
    instants = {at for phase in phases for at in (phase.start_date, phase.end_date) if is_in is None or at > is_in}
    return PlannedChanges(tuple(sorted(instants)), update.expires_at if update else None)
