"""What another run does between Stripe's answer to an event and its record in the ledger."""

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from meter_sync import effects
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.streaming import REQUESTS, STREAMED, billed, with_hours
from tests.support.ways import NOT_FOUND, WAYS, metered
from tests.support.world import World

pytestmark = pytest.mark.every_way

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def at_request(number: int, act: Callable[[], None]) -> None:
    """Let something happen in whole, in a process's stead, once a run from here has had its answer to a request."""
    told = []

    def after(place: str, what: str) -> None:
        if (place, what) != ("stripe", "is done"):
            return
        told.append(what)
        if len(told) == number:
            another = threading.Thread(target=act)
            another.start()
            another.join()

    effects.watch(after)


def read_rejections(world: World) -> None:
    """Do what the webhook receiver does once Stripe says that it has rejected something."""
    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.advance(MINUTE)
    world.execute(is_about_rejections=True, is_beside=True)


def check_nothing_is_lost(
    world: World, subscriptions: list[SubscriptionView], quantity: int, pause: timedelta = 5 * MINUTE
) -> None:
    effects.watch(lambda place, what: None)
    for _ in range(2):  # what was rejected is named once before it is sent again
        world.sandbox.clock.advance(pause)
        world.execute()
    assert billed(world, subscriptions) == quantity


@pytest.mark.parametrize("named", [10, 0])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_rejected_before_its_answer_is_recorded_is_sent_again(world: World, way: str, named: int) -> None:
    subscription = metered(world, way)
    world.use(subscription, 5)
    world.stripe.samples_per_error = named
    world.stripe.reject_meter_events_as = NOT_FOUND
    at_request(1, lambda: read_rejections(world))
    world.execute()
    # Whether an addition that nobody names is there, Stripe's summary is believed after a day only.
    check_nothing_is_lost(world, [subscription], 5, DAY if (way, named) == ("additions", 0) else 5 * MINUTE)


@pytest.mark.parametrize("named", [2000, 0])
def test_what_the_stream_took_and_rejected_before_that_is_recorded_is_sent_again(world: World, named: int) -> None:
    subscriptions = with_hours(world)
    world.stripe.samples_per_error = named
    world.stripe.reject_meter_events_as = NOT_FOUND
    at_request(1 + REQUESTS, lambda: read_rejections(world))
    world.execute()
    check_nothing_is_lost(world, subscriptions, STREAMED)
