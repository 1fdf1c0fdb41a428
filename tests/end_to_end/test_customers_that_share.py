"""Two Stripe customers that read the same usage, one after the other: it is billed once."""

from datetime import timedelta

import pytest

from meter_sync.core.outcomes import Reason
from tests.support.ways import end_of, invoiced
from tests.support.world import NOW, World

pytestmark = pytest.mark.every_way
"""That usage of one subject is billed once has other tests in the fast tier."""

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def run_daily(world: World, days: int) -> None:
    for _ in range(days):
        world.sandbox.clock.advance(DAY)
        world.execute(Reason.DECREASE)


@pytest.mark.parametrize("begins", ["before it", "after it"])
@pytest.mark.parametrize("end", ["is canceled", "goes on"])
def test_what_one_has_billed_the_other_does_not_bill_once_that_period_is_closed(
    world: World, end: str, begins: str
) -> None:
    world.configure('[mapping]\nsubject = "openmeter.customer"\n')
    first = world.subscribe()
    tenant = world.openmeter.add_customer("tenant", subjects=["t"], stripe_customer_id=world.customer_of(first))
    second = world.subscribe(period_start=NOW) if begins == "before it" else None
    world.execute()
    world.use("t", 7, at=NOW + HOUR)
    run_daily(world, 2)
    assert world.billed(first) == 7
    if end == "is canceled":
        world.stripe.cancel(first.id, invoice_now=True)
    second = second or world.subscribe(period_start=NOW)
    world.openmeter.customers[tenant].stripe_customer_id = world.customer_of(second)
    if end == "goes on":
        world.sandbox.clock.move_to(end_of(world, first) - HOUR)
    run_daily(world, 5)
    assert (invoiced(world), world.billed(second), world.unbilled()) == (7, 0, {})


@pytest.mark.parametrize("subject", ["openmeter.customer", "subscription.metadata.tenant"])
def test_what_one_has_billed_the_other_does_not_bill_while_that_period_is_open(world: World, subject: str) -> None:
    """What is used from then on is the other's, and what the one has billed stays with it."""
    world.configure(f'[mapping]\nsubject = "{subject}"\n')
    first, second = world.subscribe(metadata={"tenant": "t"}), world.subscribe(period_start=NOW)
    tenant = world.openmeter.add_customer("tenant", subjects=["t"], stripe_customer_id=world.customer_of(first))
    world.use("t", 7, at=NOW + HOUR)
    run_daily(world, 2)
    world.openmeter.customers[tenant].stripe_customer_id = world.customer_of(second)
    state = world.stripe.state.subscriptions
    state[first.id].metadata, state[second.id].metadata = {}, {"tenant": "t"}
    world.use("t", 2, at=world.now + HOUR)
    run_daily(world, 2)
    assert (world.billed(first), world.billed(second)) == (7, 2)
    run_daily(world, 15)
    world.use("t", 3, at=world.now + HOUR)
    run_daily(world, 6)
    assert (invoiced(world), world.billed(second), world.unbilled()) == (7, 5, {})
    world.sandbox.clock.move_to(end_of(world, second) + HOUR)
    world.execute()
    run_daily(world, 3)
    assert (invoiced(world), world.unbilled()) == (12, {})
