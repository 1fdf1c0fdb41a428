"""Worlds with a live key and more hours than are sent one by one, and what the stream was asked for."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from meter_sync.core.telling.history import Sought, WrittenPart
from meter_sync.ledger import Scope, open_ledger_read_only
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import EVENTS, metered_price
from tests.support.world import World

SESSION, STREAM = "/v2/billing/meter_event_session$", "/v2/billing/meter_event_stream$"
LIVE_KEY = "sk_live_sandbox"
STREAMED = 1001
"""The fewest events that go through the stream…"""
REQUESTS = 11
"""… and in how many requests."""
_HOURS_EACH = 200


def go_live(world: World) -> None:
    """Let the key of the program be one of the live mode."""
    world.stripe.keys[LIVE_KEY] = None
    world.sandbox.stripe_key = LIVE_KEY


def with_hours(world: World, how_many: int = STREAMED) -> list[SubscriptionView]:
    """Go live, and subscribe customers who used 1 in so many hours together."""
    go_live(world)
    price = metered_price(world, "hours")
    subscriptions = []
    for before in range(0, how_many, _HOURS_EACH):
        subscriptions.append(world.subscribe(price))
        use_hours(world, subscriptions[-1], min(_HOURS_EACH, how_many - before))
    return subscriptions


def use_hours(world: World, subscription: SubscriptionView, how_many: int) -> None:
    """Let a customer use 1 in each of so many hours before now."""
    for hours in range(how_many):
        world.use(subscription, 1, at=world.now - timedelta(hours=hours, minutes=1))


def billed(world: World, subscriptions: list[SubscriptionView]) -> int:
    """What Stripe would bill all of them."""
    return sum(world.billed(one) for one in subscriptions)


def posted(world: World) -> Counter[tuple[str, int | None]]:
    """How often each kind of meter event request was answered with which status, since this was asked last."""
    kinds = {SESSION: "session", STREAM: "stream", EVENTS: "single"}
    found = Counter(
        (kind, request.status)
        for request in world.writes
        for path, kind in kinds.items()
        if request.path == path.removesuffix("$")
    )
    world.sandbox.requests.clear()
    return found


def streamed(world: World) -> Iterator[dict[str, Any]]:
    """Every event that was sent through the stream, request by request."""
    for request in world.seen("POST", STREAM.removesuffix("$")):
        yield from json.loads(request.body)["events"]


def check_ledger(world: World) -> int:
    """What the ledger takes for acknowledged is what Stripe holds, hour by hour; return how many hours with usage."""
    held = {
        (customer, event.timestamp // 3600): int(event.value or 0)
        for (_, customer), events in world.stripe.state.meter_events.items()
        for event in events
    }
    with open_ledger_read_only(world.place, Scope("", "live")) as ledger:
        entries = ledger.history.entries(Sought(), with_parts=True)
    believed = {
        (one.whose.customer, int(one.start.timestamp()) // 3600): one.acknowledged
        for one in entries
        if isinstance(one, WrittenPart) and one.acknowledged is not None
    }
    assert {place: held.get(place, 0) for place in believed} == believed
    return sum(1 for value in believed.values() if value)
