"""What the statement's tests have in common."""

import pytest

from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.statement.test_figures import DAY, HOUR, close
from tests.support.ways import end_of
from tests.support.world import NOW, World


@pytest.fixture
def ended(world: World) -> SubscriptionView:
    """A subscription whose period ended in July, with five units that came too late."""
    one = world.subscribe()
    world.use(one, 30, at=NOW - DAY)
    world.execute()
    end = end_of(world, one)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    world.use(one, 5, at=end - DAY)
    close(world, end + HOUR)
    return one
