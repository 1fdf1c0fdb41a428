"""A ledger that is lost at any effect of a run over a period's end bills nothing twice, and nothing in silence.

The ledger is deleted between two effects, and the run goes on, or is stopped there as if it were killed.
"""

from contextvars import copy_context
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest

from meter_sync import effects
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.proof.test_every_effect import Stopped, come_to_the_turn
from tests.support.world import NOW, World

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""What these runs go through is covered by other tests."""

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SHARES = 6
USED, USED_SINCE = 7, 8
"""What `come_to_the_turn` lets each use in the period that has ended, and since."""


class TakeAway:
    """Deletes the ledger, and the file beside it, before the n-th effect; stops the run there, if it is to."""

    def __init__(self, ledger: Path, moment: int, *, stops: bool) -> None:
        self.ledger = ledger
        self.left = moment
        self.stops = stops
        self.is_gone = False

    def __call__(self, place: str, moment: str) -> None:
        if self.is_gone:
            if self.stops:
                raise Stopped(f"{place} {moment}")
        elif moment == "comes":  # nothing is between the end of an effect and the next one
            self.left -= 1
            if self.left < 0:
                self._take_away()

    def _take_away(self) -> None:
        self.is_gone = True
        for one in self.ledger.parent.iterdir():
            one.unlink()
        if self.stops:
            raise Stopped("the ledger is gone")


def lose_in_a_run(world: World, take: TakeAway) -> None:
    def run() -> None:
        effects.watch(take)
        world.execute()

    try:
        copy_context().run(run)
    except BaseException:
        if not take.is_gone:
            raise


def check(world: World, subscriptions: list[SubscriptionView]) -> None:
    """Nothing is billed twice, and what an invoice lacks is named, with its quantity."""
    invoiced = {line.item: line.quantity for invoice in world.stripe.invoices for line in invoice.lines}
    left = world.unbilled()
    for one in subscriptions:
        item = one.items[0]
        assert (invoiced.get(item, 0) + left.get(item, 0), world.billed(one)) == (USED, USED_SINCE)


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("share", range(SHARES))
def test_a_ledger_that_is_lost_at_any_effect_bills_nothing_twice_and_nothing_in_silence(
    tmp_path: Path, stops: bool, share: int
) -> None:
    """Every moment is tried, in shares that may be run beside each other; there are more than so many."""
    for moment in count(share, SHARES):
        world = World(tmp_path / str(moment), NOW)
        world.folder.mkdir()
        with world.sandbox.in_background():
            subscriptions = come_to_the_turn(world)
            take = TakeAway(world.ledger, moment, stops=stops)
            lose_in_a_run(world, take)
            for pause in (MINUTE, 2 * HOUR):
                world.sandbox.clock.advance(pause)
                world.execute()
            check(world, subscriptions)
        if not take.is_gone:
            assert moment > 20
            return
