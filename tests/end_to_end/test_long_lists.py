"""Lists of many pages, which are read side by side: all is found once, and what ends one of them ends the run."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_sync.net.pace import Limiter
from meter_sync.net.session import open_session
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault, Latency, RateLimits, Sandbox
from meter_sync.sandbox.stripe.world import SubscriptionView
from meter_sync.stripe_api.connection import Access, StripeReader
from meter_sync.stripe_api.paging import page_of
from meter_sync.stripe_api.ranges import Row, RowPage
from meter_sync.stripe_api.walking import Walkers
from tests.core.builders import few
from tests.support.permissions import EXACTLY
from tests.support.world import NOW, World

PATH, ENDPOINT = "/v1/subscriptions", "subscriptions"
PAGE_SIZE = 4
YEAR_SECONDS = 365 * 86_400


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """One for all examples, each of which has a price of its own. Its clock is the real one, as answers' dates are."""
    sandbox = Sandbox()
    with sandbox.in_background():
        yield sandbox


def read(sandbox: Sandbox, price: str, meanwhile: Callable[[], object], rate: float = 10_000.0) -> list[str]:
    """Read the subscriptions of a price in pages of four, as a run does; something happens after each answer."""

    async def reading() -> list[str]:
        stop, access = Stop(), Access(lambda: sandbox.stripe_key, sandbox.stripe_url, 0.0)
        async with open_session(sandbox.stripe_url, 16) as session:
            limiter = Limiter(rate, rate, stop, apart={})
            stripe = StripeReader(access, session, limiter, lambda: datetime.now(UTC), stop)

            async def ask(part: Mapping[str, Any]) -> RowPage[str]:
                page = await page_of(stripe, PATH, ENDPOINT, {"price": price, **part}, limit=PAGE_SIZE)
                meanwhile()
                rows = [Row(row["id"], row["created"], row["id"]) for row in page.data]
                return RowPage(rows, page.has_more)

            return await Walkers(lambda: stripe.at_once(ENDPOINT)).read("the list", ask)

    return asyncio.run(reading())


def subscribed(sandbox: Sandbox, price: str, ages_seconds: Collection[int]) -> list[str]:
    """Let there be subscriptions of these ages, and return them."""
    now = sandbox.clock.now()
    customer = sandbox.stripe.add_customer()
    ages = [timedelta(seconds=age) for age in ages_seconds]
    return [sandbox.stripe.add_subscription(customer, [price], created=now - age).id for age in ages]


ages = st.one_of(
    st.integers(0, 60).map(lambda count: [0] * count),
    st.integers(0, 60).map(lambda count: list(range(count))),
    st.lists(st.integers(0, 30), max_size=60),
    st.lists(st.integers(0, 8 * YEAR_SECONDS), max_size=60),
)


@few
@given(ages=ages, random=st.randoms())
def test_what_lives_throughout_is_listed_once_while_others_come_and_go(
    sandbox: Sandbox, ages: list[int], random: Random
) -> None:
    price = sandbox.stripe.add_price()
    before = subscribed(sandbox, price, ages)
    living, gone = list(before), set[str]()

    def happen() -> None:
        if random.random() < 0.3:
            living.extend(subscribed(sandbox, price, [0]))
        if living and random.random() < 0.3:
            gone.add(canceled := living.pop(random.randrange(len(living))))
            sandbox.stripe.cancel(canceled)

    found = read(sandbox, price, happen)

    assert len(found) == len(set(found))
    assert set(before) - gone <= set(found)


def test_what_was_found_is_in_the_order_of_the_list(sandbox: Sandbox) -> None:
    price = sandbox.stripe.add_price()
    oldest_first = subscribed(sandbox, price, [3_000 * number for number in reversed(range(100))])

    assert read(sandbox, price, lambda: None) == oldest_first[::-1]


def test_no_more_requests_leave_than_the_limit_lets_through(sandbox: Sandbox) -> None:
    """Many wait for their turn, and the limit counts them: none is refused, which would slow all of them down."""
    price = sandbox.stripe.add_price()
    expected = subscribed(sandbox, price, [3_000 * number for number in range(100)])
    sandbox.rate_limits = RateLimits(overall_per_second=100, endpoint_per_second=60)
    sandbox.latency = Latency(stripe_read=0.1)
    sandbox.requests.clear()

    try:
        found = read(sandbox, price, lambda: None, rate=50.0)
    finally:
        sandbox.rate_limits, sandbox.latency = None, Latency()

    assert found == expected
    assert {request.status for request in sandbox.requests} == {200}


def aged(world: World, count: int) -> list[SubscriptionView]:
    """Let there be subscriptions that were created an hour apart, the newest one first."""
    return [world.subscribe(created=NOW - timedelta(days=60) - timedelta(hours=number)) for number in range(count)]


@pytest.mark.parametrize("may_read", [True, False])
def test_schedules_are_read_wherever_in_a_list_there_are_some(world: World, may_read: bool) -> None:
    permissions = EXACTLY if may_read else EXACTLY - {"subscription_schedules:read"}
    world.sandbox.stripe_key = world.stripe.add_restricted_key("rk_test_restricted", permissions)
    subscriptions = aged(world, 450)
    for number in (130, 220, 440):
        world.stripe.add_schedule(subscriptions[number].id)

    found = world.execute(dry_run=True)

    assert set(found) == {item for one in subscriptions for item in one.items}
    assert all(result.item.not_understood is None for result in found.values())
    refused = [request for request in world.sandbox.requests if request.status == 403]
    assert bool(refused) is not may_read


def test_a_refusal_on_one_page_ends_the_run_before_anything_is_written(world: World) -> None:
    for subscription in aged(world, 350):
        world.use(subscription, 1)
    world.sandbox.faults.add(Fault(server="stripe", path=f"{PATH}$", body="starting_after", times=None, status=400))

    done = world.run()

    assert done.error_code == "stripe_refused"
    assert not world.writes
    assert len(world.seen("GET", PATH)) < 10
