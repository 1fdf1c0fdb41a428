"""Accounts whose items began at seconds of their own, so that few queries are asked for all of them."""

import sqlite3
from contextlib import closing
from datetime import timedelta

from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.world import NOW, PERIOD_START, World

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ITEMS = 8


def begun(world: World, price: str) -> list[SubscriptionView]:
    """Return subscriptions that began at seconds of their own, used something, and were reported."""
    found = [world.subscribe(price, period_start=PERIOD_START + n * timedelta(minutes=37)) for n in range(ITEMS)]
    for number, one in enumerate(found):
        world.use(one, number + 1, NOW - 2 * DAY)
    world.execute()
    return found


def queries_of(world: World, **request: object) -> int:
    """Carry out a run, an hour later, and return how many queries it has asked."""
    world.sandbox.clock.move_to(world.now + HOUR)
    before = len(world.seen("POST", "/query"))
    world.execute(**request)  # type: ignore[arg-type]
    return len(world.seen("POST", "/query")) - before


def quantities(world: World, lives: list[SubscriptionView]) -> list[int]:
    return [world.billed(one) for one in lives]


def damage(world: World, statement: str) -> None:
    """Let something be wrong with what is kept in the ledger."""
    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        assert connection.execute(statement).rowcount
