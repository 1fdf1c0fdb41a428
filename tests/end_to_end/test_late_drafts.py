"""An invoice that is drafted late: any draft takes usage, and what was concluded before it came is revised.

Runs are the program's own, in this process and over real HTTP; invoices are the sandbox's.
"""

from datetime import UTC, datetime, timedelta

import pytest

from meter_sync.core.billing.item import Period
from meter_sync.stripe_api.invoices import Invoiced, by_start
from tests.support.ways import ALL_WAYS, by_tier, end_of, invoiced, subscribed
from tests.support.world import NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
START, END = datetime(2025, 6, 1, tzinfo=UTC), datetime(2025, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
@pytest.mark.parametrize("goes_on", [True, False])
def test_what_was_closed_before_the_draft_came_is_reported_once_it_is_there(
    world: World, way: str, goes_on: bool
) -> None:
    subscription = subscribed(world, way)
    world.stripe.seconds_until_draft = 65 * 60
    world.use(subscription, 100, at=NOW - DAY)
    if not goes_on:
        world.stripe.cancel_at_period_end(subscription.id)
    world.execute()
    end = end_of(world, subscription)
    world.use(subscription, 7, at=NOW - DAY)
    world.sandbox.clock.move_to(end + 62 * MINUTE)
    world.execute()
    assert world.unbilled() == {subscription.items[0]: 7 if goes_on else 107}
    world.sandbox.clock.move_to(end + 70 * MINUTE)
    world.execute()
    billed = 100 if way == "record" else 107  # records are taken for minutes after the end
    for pause in (2 * HOUR, DAY, 4 * DAY):
        assert (invoiced(world), sum(world.unbilled().values())) == (billed, 107 - billed)
        world.sandbox.clock.advance(pause)
        world.execute()


def line(*, is_draft: bool | None, quantity: int, is_void: bool = False) -> Invoiced:
    return Invoiced("si_1", Period(START, END), is_draft, "price_1", quantity, is_void)


@pytest.mark.parametrize(
    ("lines", "together"),
    [
        ([(True, 5), (False, 3)], (True, 8)),
        ([(False, 3), (True, 5)], (True, 8)),
        ([(None, 3), (False, 5)], (None, 8)),
        ([(None, 3), (True, 5)], (True, 8)),
    ],
)
def test_any_draft_of_invoices_with_the_same_start_means_that_usage_is_taken(
    lines: list[tuple[bool | None, int]], together: tuple[bool | None, int]
) -> None:
    (found,) = by_start(line(is_draft=is_draft, quantity=quantity) for is_draft, quantity in lines).values()
    assert (found.is_draft, found.quantity) == together


def test_an_invoice_that_was_voided_bills_nothing_beside_one_that_was_not() -> None:
    (found,) = by_start([line(is_draft=False, quantity=5, is_void=True), line(is_draft=True, quantity=3)]).values()
    assert (found.is_draft, found.quantity, found.is_void) == (True, 3, False)
