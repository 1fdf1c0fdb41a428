"""Every way of telling Stripe a total: worlds with a price of each, and what Stripe shows of them."""

from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.world import METER, World

EVENTS = "/v1/billing/meter_events$"
NOT_FOUND = "meter_event_customer_not_found"

MeterOf = dict[str, str]

WAYS: dict[str, MeterOf] = {
    "hours": {"formula": "sum", "window": "hour"},
    "days": {"formula": "sum", "window": "day"},
    "last": {"formula": "last"},
    "additions": {"formula": "sum"},
}
"""Every kind of billing meter that can hold a total."""

ALL_WAYS = ["record", *WAYS]
"""These, and usage records on a legacy price."""

_USUAL = ("hours", "sum", "record")
"""What the fast tier plays of a test that repeats for every way: the first of these; usage records are most others'."""


def by_tier(ways: Iterable[str]) -> list[object]:
    """Return the parameters of a test that repeats for every way: a usual one, and those of the slow tier."""
    every = list(ways)
    return one_fast(every, next(way for way in _USUAL if way in every))


def one_fast(ways: Iterable[object], fast: object) -> list[object]:
    """Return the parameters of a test that the fast tier has for one of them, and the slow one for all others."""
    return [pytest.param(way, marks=() if way == fast else pytest.mark.every_way) for way in ways]


def subscribed(world: World, way: str, **details: object) -> SubscriptionView:
    return world.subscribe(**details) if way == "record" else metered(world, way, **details)


def metered(world: World, way: str, **details: object) -> SubscriptionView:
    """Subscribe a customer to a price on a billing meter of this kind, on the usual OpenMeter meter."""
    return world.subscribe(metered_price(world, way), **details)


def metered_price(world: World, way: str) -> str:
    """Add a price on a billing meter of this kind, on the usual OpenMeter meter."""
    meter = world.stripe.add_meter(f"{way}_{METER}", **WAYS[way])  # type: ignore[arg-type]
    return world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER})


def end_of(world: World, subscription: SubscriptionView) -> datetime:
    return datetime.fromtimestamp(world.stripe.period(subscription.items[0]).end, UTC)


def invoiced(world: World) -> int:
    """What all invoices bill."""
    return sum(line.quantity for invoice in world.stripe.invoices for line in invoice.lines)
