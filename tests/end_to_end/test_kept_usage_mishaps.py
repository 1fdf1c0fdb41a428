"""Usage that is kept between runs, by somebody who wants it to be wrong."""

from contextlib import suppress
from contextvars import copy_context

import pytest

from meter_sync import effects
from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.core.planning.selection import Selection
from tests.support.shared_queries import DAY, HOUR, begun, damage, quantities
from tests.support.ways import by_tier, end_of, invoiced, metered_price, one_fast
from tests.support.world import NOW, PERIOD_START, World

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


BETWEEN = ["a run of a part", "one that was killed", "one that was killed before it sent anything"]


@pytest.mark.parametrize("before", one_fast(BETWEEN, BETWEEN[0]))
def test_hours_that_came_and_went_are_not_billed_though_a_run_in_between_has_reported_them(
    world: World, before: str
) -> None:
    """No total of what is older than a day shows any more that there was something: another run has told Stripe."""
    hourly_lives = begun(world, metered_price(world, "hours"))
    world.use(hourly_lives[3], 10, LATE)
    world.sandbox.clock.move_to(world.now + HOUR)
    if before == "a run of a part":
        world.execute(selection=Selection(customers=(world.customer_of(hourly_lives[3]),)))
    else:
        killed(world, "comes" if "before it sent" in before else "is done")
    assert quantities(world, hourly_lives)[3] == (4 if "before it sent" in before else 14)
    world.use(hourly_lives[3], -10, LATE)
    world.sandbox.clock.move_to(world.now + HOUR)
    world.execute(Reason.DECREASE)
    assert quantities(world, hourly_lives)[3] == 4


DAMAGES = {
    "hours": ["UPDATE past_parts SET content = x'00' WHERE item LIKE '%2'"],
    # Only where something was rejected are those additions counted that are packed.
    "additions": ["UPDATE past_additions SET content = x'00', highest_base = 100 WHERE item LIKE '%2'"],
}


@pytest.mark.parametrize("way", by_tier(["hours", "additions"]))
def test_packed_rows_of_one_item_that_cannot_be_read_are_the_matter_of_that_item(world: World, way: str) -> None:
    price = metered_price(world, way)
    found = [world.subscribe(price) for _ in range(3)]
    for days in range(3):
        for one in found:
            world.use(one, 5, NOW - HOUR + days * DAY)
        world.sandbox.clock.move_to(NOW + days * DAY)
        world.execute()
    broken = found[1].items[0]
    assert broken.endswith("2")
    for statement in DAMAGES[way]:
        damage(world, statement)
    for one in found:
        world.use(one, 5)
    world.sandbox.clock.move_to(NOW + 3 * DAY)
    done = world.execute()
    assert (done[broken].outcome, done[broken].reason) == (Outcome.FAILED, Reason.LEDGER_ERROR)
    assert quantities(world, found) == [20, 15, 20]


def run_daily(world: World, days: int) -> None:
    for _ in range(days):
        world.sandbox.clock.advance(DAY)
        world.execute(Reason.DECREASE)


@pytest.mark.parametrize("end", one_fast(["is canceled", "goes on"], "goes on"))
def test_what_an_owner_has_billed_another_customer_with_its_subject_does_not_bill_once_that_period_is_closed(
    world: World, end: str
) -> None:
    world.configure('[mapping]\nsubject = "subscription.metadata.tenant"\n')
    owner = world.subscribe(metadata={"tenant": "t"}, item_metadata={"meter_sync_owner": "true"})
    world.execute()
    other = world.subscribe(metadata={"tenant": "t"}, period_start=NOW)
    world.use("t", 7, at=NOW + HOUR)
    run_daily(world, 2)
    if end == "is canceled":
        world.stripe.cancel(owner.id, invoice_now=True)
    else:
        world.sandbox.clock.move_to(end_of(world, owner) - HOUR)
    run_daily(world, 5)
    assert (invoiced(world), world.billed(other), world.unbilled()) == (7, 0, {})
