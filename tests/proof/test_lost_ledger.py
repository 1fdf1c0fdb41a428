"""A ledger that is lost at any effect of a run over a period's end bills nothing twice, and nothing in silence.

The ledger is deleted between two effects, and the run goes on, or is stopped there as if it were killed.
"""

from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from meter_sync import effects
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.proof.test_every_effect import Stopped, all_is_told, come_to_an_end, come_to_the_turn
from tests.support.world import NOW, World

pytestmark = [pytest.mark.simulation, pytest.mark.no_cover]
"""What these runs go through is covered by other tests."""

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SHARES = 6
USED_SINCE = 8
"""What `come_to_the_turn` lets each use since its period has ended."""


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


def come_to_final_invoices(world: World) -> list[SubscriptionView]:
    """Return subscriptions whose invoices became final before what was used last was reported: now it is named."""
    subscriptions = come_to_the_turn(world)
    world.sandbox.clock.advance(2 * HOUR)
    return subscriptions


@dataclass(frozen=True)
class Scene:
    """What has just happened to subscriptions on every way of writing, when the ledger is taken away from a run."""

    come: Callable[[World], list[SubscriptionView]]
    used_since: int
    """What each has used in the period that follows."""
    stops: bool
    """Whether the run is stopped there. Where an end or a turn is stopped, `test_every_effect` has it."""


SCENES = {
    "a turn": Scene(come_to_the_turn, USED_SINCE, stops=False),
    "final invoices": Scene(come_to_final_invoices, USED_SINCE, stops=True),
    "an end with an invoice": Scene(partial(come_to_an_end, invoice_now=True), 0, stops=False),
    "an end without one": Scene(partial(come_to_an_end, invoice_now=False), 0, stops=False),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("share", range(SHARES))
def test_a_ledger_that_is_lost_at_any_effect_bills_nothing_twice_and_nothing_in_silence(
    tmp_path: Path, scene: str, share: int
) -> None:
    """Every moment is tried, in shares that may be run beside each other; there are more than so many."""
    lost_at = SCENES[scene]
    for moment in count(share, SHARES):
        world = World(tmp_path / str(moment), NOW)
        world.folder.mkdir()
        with world.sandbox.in_background():
            subscriptions = lost_at.come(world)
            take = TakeAway(world.ledger, moment, stops=lost_at.stops)
            lose_in_a_run(world, take)
            for pause in (MINUTE, 2 * HOUR, HOUR):
                world.sandbox.clock.advance(pause)
                world.execute()
            assert all_is_told(world, subscriptions)
            if lost_at.used_since:
                assert [world.billed(one) for one in subscriptions] == [lost_at.used_since] * len(subscriptions)
        if not take.is_gone:
            assert moment > 20
            return
