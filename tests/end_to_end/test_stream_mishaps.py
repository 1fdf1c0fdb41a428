"""What another run does between Stripe's answer to an event and its record in the ledger."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from meter_sync import effects
from meter_sync.core.planning.selection import Selection
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.streaming import REQUESTS, STREAMED, billed, with_hours
from tests.support.ways import ALL_WAYS, NOT_FOUND, WAYS, metered, subscribed
from tests.support.world import METER, NOW, World

pytestmark = pytest.mark.every_way

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def _watched_no_more() -> Iterator[None]:
    yield
    effects.watch(lambda place, what: None)


def at_request(number: int, act: Callable[[], None], when: str = "is done") -> None:
    """Let something happen in whole, in a process's stead, once a run from here has had its answer to a request.

    Where it is to be `when` the request "comes", that happens just before it leaves.
    """
    told = []

    def after(place: str, what: str) -> None:
        if (place, what) != ("stripe", when):
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


def outcomes(world: World) -> set[str]:
    return {str(one.reason or one.outcome) for one in world.last_results}


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


def test_hours_whose_claim_has_run_out_meanwhile_are_left_to_the_run_that_has_them(world: World) -> None:
    """A machine that slept, or a stream that answers late: the newer value of another run is not set back."""
    subscriptions = with_hours(world)

    def another_run() -> None:
        world.sandbox.clock.advance(3 * MINUTE)
        for one in subscriptions:
            world.use(one, 10)
        world.execute(is_beside=True, selection=Selection(subscriptions=tuple(one.id for one in subscriptions)))

    at_request(2, another_run, "comes")
    world.execute()
    assert outcomes(world) == {"unchanged"}
    assert billed(world, subscriptions) == STREAMED + 10 * len(subscriptions)


@pytest.mark.parametrize("way", [*ALL_WAYS, "day records"])
def test_what_is_sent_singly_is_not_either(world: World, way: str) -> None:
    if way == "day records":
        world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nrecords = "day"\n')
    subscription = subscribed(world, "record" if way == "day records" else way)
    for days in range(1, 4):
        world.use(subscription, 1, at=world.now - days * DAY)
    world.execute()
    for days in range(1, 4):
        world.use(subscription, 1, at=world.now - days * DAY)

    def another_run() -> None:
        world.sandbox.clock.advance(3 * MINUTE)
        for days in range(1, 4):
            world.use(subscription, 1, at=world.now - days * DAY)
        world.execute(is_beside=True, reads_everything=True, selection=Selection(subscriptions=(subscription.id,)))

    at_request(1, another_run, "comes")
    world.execute(reads_everything=True)
    check_nothing_is_lost(world, [subscription], 9)


def test_claims_are_kept_while_a_run_sends(world: World) -> None:
    """Each answer takes a minute: what is left to be sent is still this run's after an hour."""
    subscription = metered(world, "days")
    for days in range(1, 9):
        world.use(subscription, 1, at=world.now - days * DAY)
    left = list[bool]()

    def a_minute(place: str, what: str) -> None:
        if (place, what) == ("stripe", "is done"):
            world.sandbox.clock.advance(MINUTE)
            world.use(subscription, 1, at=NOW - DAY)
            another = threading.Thread(target=beside)
            another.start()
            another.join()

    def beside() -> None:
        result = world.execute(is_beside=True, selection=Selection(subscriptions=(subscription.id,)))
        left.append(result[subscription.items[0]].gave_way)

    effects.watch(a_minute)
    world.execute()
    assert left == [True] * 8
