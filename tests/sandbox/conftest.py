from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from meter_sync.sandbox import Sandbox
from meter_sync.sandbox.stripe.world import SubscriptionView

from .instants import NOW, PERIOD_START
from .metering import Meter, Metered
from .wire import OpenMeterWire, StripeWire

Subscribe = Callable[..., SubscriptionView]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox that serves, its clock standing still at noon of 10 November 2026."""
    created = Sandbox(now=NOW)
    with created.in_background():
        yield created


@pytest.fixture
def stripe(sandbox: Sandbox) -> StripeWire:
    return StripeWire(sandbox)


@pytest.fixture
def openmeter(sandbox: Sandbox) -> OpenMeterWire:
    return OpenMeterWire(sandbox)


@pytest.fixture
def metered(sandbox: Sandbox, stripe: StripeWire) -> Meter:
    """Add a meter, and a customer on a price of it whose period is the month from `since`."""

    def add(event_name: str = "api_requests", since: datetime = PERIOD_START, **meter: Any) -> Metered:
        world = sandbox.stripe
        identifier, customer = world.add_meter(event_name, **meter), world.add_customer()
        price = world.add_price(meter=identifier, unit_amount_decimal="1")
        view = world.add_subscription(customer, [price], period_start=since)
        return Metered(stripe, event_name, identifier, customer, view.id)

    return add


@pytest.fixture
def subscribe(sandbox: Sandbox) -> Subscribe:
    """Add a customer with one item on a new price, its period being November 2026."""

    def add(aggregate: str = "sum", **options: object) -> SubscriptionView:
        world = sandbox.stripe
        price = world.add_price(
            aggregate_usage=aggregate,  # type: ignore[arg-type]
            usage_type=options.pop("usage_type", "metered"),  # type: ignore[arg-type]
            meter=options.pop("meter", None),  # type: ignore[arg-type]
        )
        return world.add_subscription(
            world.add_customer(),
            [price],
            period_start=PERIOD_START,
            **options,  # type: ignore[arg-type]
        )

    return add
