"""The check: brakes that hold an implausible write, over the whole plan and before the first request."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from decimal import Decimal

from meter_sync.core.actions import Action, Hold, Set
from meter_sync.core.outcomes import Reason


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From where on a change is implausible."""

    decrease_percent: Decimal = Decimal(0)
    """A quantity may fall by so much of what Stripe holds; beyond it is held."""


Brake = Callable[[Set, Thresholds], str | None]
"""Given a planned write, a brake returns why it is implausible, or None."""


def decrease(planned: Set, thresholds: Thresholds) -> str | None:
    """Hold a running total that fell.

    SUM, COUNT, UNIQUE_COUNT and MAX cannot fall within a period unless events were lost or changed; gauges
    (LATEST, AVG, MIN) may.
    """
    before, meter = planned.highest_before, planned.line.meter
    if not before or meter is None or not meter.aggregation.never_falls:
        return None
    fallen_percent = Decimal(before - planned.quantity) * 100 / before
    if fallen_percent <= thresholds.decrease_percent:
        return None
    unless_foreign = (
        ""
        if planned.total_before is None
        else " (or another program reports for this item too: add --allow foreign_usage to bill only the rest)"
    )
    return (
        f"the quantity would fall from {before} to {planned.quantity} (-{fallen_percent:.1f} %), which the "
        f"{meter.aggregation} meter {meter.slug} cannot do by itself{unless_foreign}"
    )


BRAKES: dict[Reason, Brake] = {Reason.DECREASE: decrease}


def check(actions: Iterable[Action], thresholds: Thresholds, allowed: Collection[Reason]) -> list[Action]:
    """Given the whole plan, return it with every implausible write held, except where its brake was lifted."""
    brakes = {reason: brake for reason, brake in BRAKES.items() if reason not in allowed}
    return [_checked(action, brakes, thresholds) if isinstance(action, Set) else action for action in actions]


def _checked(planned: Set, brakes: dict[Reason, Brake], thresholds: Thresholds) -> Action:
    for reason, brake in brakes.items():
        why = brake(planned, thresholds)
        if why:
            remedy = f"find out why, then lift the brake with --allow {reason}"
            return Hold(planned.line, reason, f"{why}; Stripe was left as it is: {remedy}")
    return planned
