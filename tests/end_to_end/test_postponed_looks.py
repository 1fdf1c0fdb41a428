"""What Stripe has to be asked about holds up nothing that is known, as far as the brakes allow."""

from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.sandbox import Fault
from tests.support.world import ANCHOR, World

LOOKS = "/usage_record_summaries"


def test_what_is_known_is_written_while_what_is_new_is_looked_at(world: World) -> None:
    known = [world.subscribe() for _ in range(9)]
    for one in known:
        world.use(one, 5)
    world.execute()
    new = [world.subscribe() for _ in range(9)]
    for one in (*known, *new):
        world.use(one, 2)
    world.sandbox.requests.clear()
    done = world.run(METER_SYNC_STRIPE_ENDPOINT_RATE="20")
    assert (done.code, {row["outcome"] for row in done.items.values()}) == (0, {"reported"})
    assert {world.billed(one) for one in known} == {7}
    assert {world.billed(one) for one in new} == {2}
    assert min(one.at for one in world.writes) < max(one.at for one in world.seen("GET", LOOKS))


def test_nothing_is_written_before_it_is_known_that_a_meter_is_not_to_be_stopped(world: World) -> None:
    known = world.subscribe()
    world.use(known, 5)
    world.execute()
    world.use(known, 2)
    others = [world.subscribe() for _ in range(12)]
    for one in others:
        world.use(one, 2)
        world.stripe.create_usage_record(one.items[0], 40, ANCHOR + 3600)
    results = world.execute()
    assert results[known.items[0]].reason is Reason.TOO_MANY_HELD
    assert world.billed(known) == 5
    assert {results[one.items[0]].reason for one in others} == {Reason.DECREASE}


def test_a_look_that_fails_is_its_items_own_matter_also_while_others_are_written(world: World) -> None:
    known = world.subscribe()
    world.use(known, 5)
    world.execute()
    new = world.subscribe()
    for one in (known, new):
        world.use(one, 2)
    world.sandbox.faults.add(Fault(path=LOOKS, status=500, times=None))
    results = world.execute()
    assert (results[known.items[0]].outcome, world.billed(known)) == (Outcome.REPORTED, 7)
    assert (results[new.items[0]].reason, world.billed(new)) == (Reason.STRIPE_ERROR, 0)
