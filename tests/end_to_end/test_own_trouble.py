"""One item's trouble is its own: whatever goes wrong with it, all others are billed.

Runs are the program's own, in this process and over real HTTP; invoices are the sandbox's.
"""

from datetime import timedelta

import pytest

from meter_sync.core.outcomes import ExitCode
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import Aggregation
from tests.support.runs import executed
from tests.support.ways import end_of, invoiced
from tests.support.world import METER, NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize("aggregate_usage", ["sum", "last_during_period", "max"])
@pytest.mark.parametrize("pause", [2 * MINUTE, 2 * HOUR])
def test_a_first_look_that_was_not_finished_is_concluded_at_the_end(
    world: World, aggregate_usage: Aggregation, pause: timedelta
) -> None:
    price = world.stripe.add_price(metadata={"om_meter_id": METER}, aggregate_usage=aggregate_usage)
    troubled, other = world.subscribe(price), world.subscribe()
    end = end_of(world, troubled)
    for one in (troubled, other):
        world.use(one, 10, at=NOW - HOUR)
    world.execute()
    world.ledger.unlink()
    world.sandbox.clock.move_to(end - MINUTE)
    world.sandbox.faults.add(
        Fault(method="GET", path=f"{troubled.items[0]}/usage_record_summaries$", skip=1, status=500)
    )
    assert executed(world).exit_code is not ExitCode.DONE

    world.sandbox.clock.move_to(end + pause)
    for one in (troubled, other):
        world.use(one, 7, at=end + MINUTE)
    for _ in range(2):
        report = executed(world)
        assert report.error is None
        world.sandbox.clock.advance(2 * HOUR)
    assert (invoiced(world), world.unbilled()) == (20, {})
    assert [world.billed(one) for one in (troubled, other)] == [7, 7]
