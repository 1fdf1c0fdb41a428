"""Against OpenMeter's API v3 alone exactly the same is billed as against v1: every way, by subject and by customer.

One history is played in two worlds that differ in nothing else, to the end of its period.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, end_of, metered_price, one_fast
from tests.support.world import NOW, PERIOD_START, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SOURCES = {
    "subject": "customer.id",
    "several subjects": "customer.metadata.subjects",
    "customer": "openmeter.customer",
}


@pytest.fixture
def worlds(tmp_path: Path) -> Iterator[tuple[World, World]]:
    """A world with API v1 alone, and one with v3 alone."""
    with ExitStack() as serving:
        both = World(tmp_path / "v1", NOW, "v1"), World(tmp_path / "v3", NOW, "v3")
        for world in both:
            world.folder.mkdir()
            serving.enter_context(world.sandbox.in_background())
        yield both


def billed_after_a_month(world: World, way: str, mapping: str, aggregation: str) -> tuple[Counter[str], Counter[str]]:
    """Play a month of three customers; return what was sent to Stripe, by path, and what each invoice bills."""
    source, is_filtered = SOURCES[mapping], mapping == "subject"
    world.openmeter.add_meter("calls", aggregation, group_by={"region": "$.region"})  # type: ignore[arg-type]
    price = world.price if way == "record" else metered_price(world, way)
    filtered = 'filter = { region = ["eu", "us"] }\n' if is_filtered else ""
    world.configure(f'[mapping]\nsubject = "{source}"\n[[meters]]\nprice = "{price}"\nopenmeter = "calls"\n{filtered}')
    customers = [world.stripe.add_customer(metadata={"subjects": f"a{number}, b{number}"}) for number in range(3)]
    subscriptions = [world.subscribe(price, customer=customer) for customer in customers]
    for number, customer in enumerate(customers):
        keyed = number % 2
        world.openmeter.add_customer(
            customer if keyed else f"ours_{number}",
            subjects=[customer, f"a{number}", f"b{number}"],
            stripe_customer_id=None if keyed else customer,
        )
    use(world, customers, PERIOD_START + HOUR)
    world.execute()
    use(world, customers, NOW - HOUR)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    end(world, subscriptions, customers)
    sent = Counter(request.path for request in world.writes)
    lines = Counter(
        {f"{line.item} {line.period}": line.quantity for one in world.stripe.invoices for line in one.lines}
    )
    return sent, lines


def use(world: World, customers: list[str], at: object) -> None:
    for number, customer in enumerate(customers):
        for place, subject in enumerate((customer, f"a{number}", f"b{number}")):
            value = 1.5 + 10 * number + place
            for region in ("eu", "us", "asia"):
                world.openmeter.add_event("calls", subject, at, data={"value": value, "region": region})  # type: ignore[arg-type]


def end(world: World, subscriptions: list[SubscriptionView], customers: list[str]) -> None:
    turn = max(end_of(world, one) for one in subscriptions)
    use(world, customers, turn - timedelta(seconds=20))
    world.sandbox.clock.move_to(turn + 5 * timedelta(minutes=1))
    world.execute()
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()


@pytest.mark.parametrize("mapping", SOURCES)
@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_v3_bills_exactly_what_v1_bills(worlds: tuple[World, World], way: str, mapping: str) -> None:
    first, third = (billed_after_a_month(world, way, mapping, "SUM") for world in worlds)
    assert first == third
    sent, billed = first
    assert sent
    assert sum(billed.values()) > 0
    assert all("/v3/" in one.path for one in worlds[1].sandbox.requests if one.server == "openmeter")


@pytest.mark.parametrize("aggregation", one_fast(["COUNT", "UNIQUE_COUNT", "AVG", "MIN", "MAX", "LATEST"], "LATEST"))
def test_so_it_is_for_every_aggregation(worlds: tuple[World, World], aggregation: str) -> None:
    first, third = (billed_after_a_month(world, "last", "customer", aggregation) for world in worlds)
    assert first == third
    assert sum(first[1].values()) > 0
