"""Usage that is kept between runs, by somebody who wants it to be wrong."""

from contextlib import suppress
from contextvars import copy_context

import pytest

from meter_sync import effects
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.selection import Selection
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.end_to_end.test_shared_queries import HOUR, hourly_lives, quantities
from tests.support.world import PERIOD_START, World

__all__ = ["hourly_lives"]


LATE = PERIOD_START + 4 * HOUR
"""Longer ago than what each run reads of hours."""


class Killed(BaseException):
    """The program is as if it had been killed."""


def killed(world: World, moment: str) -> None:
    """Do what a run does until its first write to Stripe: when that comes, or is done."""

    def kill(*at: str) -> None:
        if at == ("stripe", moment):
            raise Killed

    def run() -> None:
        effects.watch(kill)
        world.execute()

    with suppress(Killed):
        copy_context().run(run)


@pytest.mark.parametrize("before", ["a run of a part", "a killed one", "one that was killed before it sent anything"])
def test_hours_that_came_and_went_are_not_billed_though_a_run_in_between_has_reported_them(
    world: World, hourly_lives: list[SubscriptionView], before: str
) -> None:
    """No total of what is older than a day shows any more that there was something: another run has told Stripe."""
    world.use(hourly_lives[3], 10, LATE)
    world.sandbox.clock.move_to(world.now + HOUR)
    if before == "a run of a part":
        world.execute(selection=Selection(customers=(world.customer_of(hourly_lives[3]),)))
    else:
        killed(world, "is done" if before == "a killed one" else "comes")
    assert quantities(world, hourly_lives)[3] == (4 if "before it sent" in before else 14)
    world.use(hourly_lives[3], -10, LATE)
    world.sandbox.clock.move_to(world.now + HOUR)
    world.execute(Reason.DECREASE)
    assert quantities(world, hourly_lives)[3] == 4
