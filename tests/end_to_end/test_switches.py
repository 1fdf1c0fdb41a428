"""Two subscriptions of one customer on one meter: each unit of usage is billed once or named once."""

from datetime import datetime, timedelta

import pytest

from meter_sync.core.planning.selection import Selection
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, WAYS, by_tier, end_of, invoiced, metered, one_fast, subscribed
from tests.support.world import METER, NOW, World

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(params=one_fast(ALL_WAYS, "hours"))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def begun(world: World, way: str) -> SubscriptionView:
    """Return A, a subscription of which 100 have been reported."""
    a = subscribed(world, way)
    world.use(a, 100, at=NOW - 3 * DAY)
    world.execute()
    return a


def price_of(world: World, subscription: SubscriptionView) -> str:
    return world.stripe.state.items[subscription.items[0]].price


def beside(world: World, a: SubscriptionView, start: datetime | None = None, **details: object) -> SubscriptionView:
    """Return B, another subscription of the same customer to the same price."""
    customer = world.customer_of(a)
    return world.subscribe(price_of(world, a), customer=customer, period_start=start or world.now, **details)


def end_well(world: World, *ends: datetime) -> None:
    """Run past the ends of periods and all that comes late."""
    for end in sorted(ends):
        for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY):
            world.sandbox.clock.move_to(max(world.now, end) + pause)
            world.execute()


def end_now(world: World, subscription: SubscriptionView, invoice_now: bool) -> None:
    """Cancel a subscription, and run until its last invoice is final, if it has one."""
    world.stripe.cancel(subscription.id, invoice_now=invoice_now)
    for pause in (10 * MINUTE, HOUR, HOUR, DAY, DAY):
        world.sandbox.clock.advance(pause)
        world.execute()


def billed_of(world: World, *subscriptions: SubscriptionView) -> int:
    """What invoices bill, and what stands in the open periods of these."""
    living = [one for one in subscriptions if not world.stripe.state.subscriptions[one.id].ended]
    return invoiced(world) + sum(world.billed(one) for one in living)


def test_after_a_subscription_that_ended_without_an_invoice_the_next_one_bills_its_own_time(
    world: World, way: str
) -> None:
    a = begun(world, way)
    world.stripe.cancel(a.id)
    world.sandbox.clock.advance(5 * MINUTE)
    b = beside(world, a)
    world.use(a, 5, at=world.now + 2 * MINUTE)
    for pause in (10 * MINUTE, HOUR, HOUR):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert (world.billed(b), world.unbilled()) == (5, {a.items[0]: 100})
    end_well(world, end_of(world, b))
    assert (invoiced(world), world.unbilled()) == (5, {a.items[0]: 100})


@pytest.mark.parametrize("run_between", [True, pytest.param(False, marks=pytest.mark.every_way)])
def test_what_overlaps_is_billed_by_the_one_that_is_billed_at_all(world: World, way: str, run_between: bool) -> None:
    a = begun(world, way)
    world.sandbox.clock.advance(7 * MINUTE)
    b = beside(world, a)
    world.use(a, 5, at=world.now + MINUTE)
    world.sandbox.clock.advance(3 * MINUTE)
    if run_between:
        assert world.verdict(b) == "duplicate_usage"
    world.sandbox.clock.advance(7 * MINUTE)
    world.stripe.cancel(a.id)
    for pause in (10 * MINUTE, HOUR, HOUR):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert (world.billed(b), world.unbilled()) == (5, {a.items[0]: 100})
    end_well(world, end_of(world, b))
    assert (invoiced(world), world.unbilled()) == (5, {a.items[0]: 100})


def side_by_side(world: World, way: str) -> tuple[SubscriptionView, SubscriptionView]:
    """Return A, and B beside it since the 10th: 100 used before, 10 in A's time alone, and 30 in both."""
    a = begun(world, way)
    world.sandbox.clock.move_to(NOW + 3 * DAY)
    world.use(a, 10, at=world.now - 2 * DAY)
    b = beside(world, a)
    world.use(a, 30, at=world.now + DAY)
    for _ in range(3):
        world.sandbox.clock.advance(DAY)
        world.execute()
    return a, b


def test_while_two_live_side_by_side_what_lies_in_one_alone_is_billed(world: World, way: str) -> None:
    a, b = side_by_side(world, way)
    assert (world.billed(a), world.billed(b)) == (110, 0)
    assert world.verdict(b) == "duplicate_usage"
    told = {one.item.id: one.message for one in world.last_results}
    assert b.items[0] in (told[a.items[0]] or "")


def test_what_lies_in_both_is_named_once_where_both_live_on(world: World, way: str) -> None:
    a, b = side_by_side(world, way)
    ends = end_of(world, a), end_of(world, b)
    end_well(world, *ends)
    named = sum(world.unbilled().values())
    assert (invoiced(world), named) == (110, 30)


@pytest.mark.parametrize("invoice_now", [True, pytest.param(False, marks=pytest.mark.every_way)])
def test_when_one_is_gone_the_other_bills_what_lay_in_both(world: World, way: str, invoice_now: bool) -> None:
    a, b = side_by_side(world, way)
    end_now(world, a, invoice_now)
    left = {} if invoice_now else {a.items[0]: 110}
    assert (billed_of(world, b), world.unbilled()) == (140 - sum(left.values()), left)
    end_well(world, end_of(world, b))
    assert (invoiced(world), world.unbilled()) == (140 - sum(left.values()), left)


@pytest.mark.parametrize("invoice_now", [True, pytest.param(False, marks=pytest.mark.every_way)])
def test_when_the_later_one_is_gone_the_first_bills_what_lay_in_both(world: World, way: str, invoice_now: bool) -> None:
    a, b = side_by_side(world, way)
    end_now(world, b, invoice_now)
    assert (billed_of(world, a), world.unbilled()) == (140, {})


def test_a_narrowed_run_holds_what_a_full_run_holds(world: World, way: str) -> None:
    a = subscribed(world, way)
    b = beside(world, a, NOW - 9 * DAY)
    world.use(a, 100, at=NOW - MINUTE)
    world.execute()
    for one in (a, b):
        world.sandbox.clock.advance(MINUTE)
        world.execute(selection=Selection(subscriptions=(one.id,)))
    assert (world.billed(a), world.billed(b)) == (0, 0)
    end_well(world, end_of(world, a), end_of(world, b))
    assert (invoiced(world), sum(world.unbilled().values())) == (0, 100)


def test_a_trial_takes_nothing_and_holds_nothing(world: World, way: str) -> None:
    a = begun(world, way)
    b = beside(world, a, trial_end=NOW + 5 * DAY)
    world.use(a, 10, at=NOW + HOUR)
    world.sandbox.clock.advance(DAY)
    assert world.verdict(a) == "reported"
    assert (world.billed(a), world.verdict(b)) == (110, "not_started")
    world.sandbox.clock.move_to(NOW + 4 * DAY)
    world.stripe.cancel(a.id, invoice_now=True)
    world.execute()
    world.use(a, 7, at=NOW + 6 * DAY)
    world.sandbox.clock.move_to(NOW + 7 * DAY)
    world.execute()
    world.execute()
    assert world.billed(b) == 7
    paid = [line.quantity for one in world.stripe.invoices for line in one.lines if line.item == a.items[0]]
    assert (paid, world.unbilled()) == ([110], {})


@pytest.mark.parametrize("invoice_now", [True, pytest.param(False, marks=pytest.mark.every_way)])
def test_a_trial_that_is_canceled_before_a_run_sees_it_was_free(world: World, way: str, invoice_now: bool) -> None:
    a = begun(world, way)
    world.stripe.cancel(a.id, invoice_now=True)
    b = beside(world, a, trial_end=NOW + 5 * DAY)
    world.use(a, 7, at=NOW + MINUTE)
    world.sandbox.clock.advance(30 * MINUTE)
    end_now(world, b, invoice_now)
    assert (invoiced(world), world.unbilled()) == (100, {})


@pytest.mark.parametrize("way", by_tier(WAYS))
def test_what_is_named_with_one_that_is_gone_is_never_billed_by_another(world: World, way: str) -> None:
    """Not even when the one that is gone is watched no more, and the other one is past its first period."""
    a = metered(world, way, billing_mode="flexible", period_start=NOW)
    b = beside(world, a, trial_end=NOW + 3 * DAY)
    meter = world.stripe.state.prices[price_of(world, a)].meter
    other = world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER})
    world.execute()
    world.sandbox.clock.move_to(NOW + 9 * DAY)
    world.stripe.change_price(a.items[0], other)
    world.stripe.add_item(a.id, price_of(world, b))
    world.execute()
    world.use(a, 30, at=NOW + 8 * DAY)
    world.sandbox.clock.advance(20 * HOUR)
    world.execute()
    end_now(world, a, invoice_now=True)
    for pause in (4 * DAY, 4 * DAY):
        world.sandbox.clock.advance(pause)
        world.execute()
        assert (billed_of(world, b), sum(world.unbilled().values())) == (0, 30)


def test_two_totals_of_one_minute_are_both_stamped_before_what_begins_or_ends_in_the_next(world: World) -> None:
    a = metered(world, "last")
    for used in (1, 3):
        world.use(a, used, at=NOW - HOUR)
        world.execute()
    b = beside(world, a)
    world.sandbox.clock.advance(SECOND)
    end_now(world, a, invoice_now=True)
    assert (invoiced(world), world.billed(b), world.unbilled()) == (4, 0, {})


@pytest.mark.parametrize("way", by_tier(["hours", "days"]))
@pytest.mark.parametrize("gap", [pytest.param(timedelta(0), marks=pytest.mark.every_way), 10 * MINUTE])
def test_the_window_in_which_one_ends_and_the_next_begins_holds_what_both_used(
    world: World, way: str, gap: timedelta
) -> None:
    a = begun(world, way)
    world.sandbox.clock.move_to(NOW + 20 * MINUTE)
    world.use(a, 3, at=world.now - 10 * MINUTE)
    world.stripe.cancel(a.id, invoice_now=True)
    world.use(a, 50, at=world.now + 5 * MINUTE)
    world.sandbox.clock.advance(gap)
    b = beside(world, a)
    used = 7 if gap else 57
    world.use(a, 7, at=world.now + 10 * MINUTE)
    for pause in (15 * MINUTE, 2 * HOUR, HOUR):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert (world.billed(b), world.unbilled()) == (3 + used, {})
    assert invoiced(world) == 100


def test_two_that_live_side_by_side_all_month_are_named_once(world: World, way: str) -> None:
    a = subscribed(world, way)
    b = beside(world, a, NOW - 9 * DAY - 2 * HOUR - 29 * MINUTE - 43 * SECOND)
    world.use(a, 100, at=NOW - DAY)
    world.execute()
    end_well(world, end_of(world, a), end_of(world, b))
    assert (invoiced(world), sum(world.unbilled().values())) == (0, 100)


def test_the_one_that_is_named_as_the_owner_bills_what_lies_in_both(world: World) -> None:
    a = begun(world, "record")
    owner = world.stripe.add_price(metadata={"om_meter_id": METER})
    world.configure(f'[[meters]]\nprice = "{owner}"\nopenmeter = "{METER}"\nowner = true\n')
    b = world.subscribe(owner, customer=world.customer_of(a), period_start=world.now)
    world.use(a, 30, at=world.now + HOUR)
    world.sandbox.clock.advance(DAY)
    assert {str(one.outcome) for one in world.execute().values()} <= {"reported", "unchanged"}
    assert (world.billed(a), world.billed(b)) == (100, 30)


def test_so_does_one_that_its_metadata_names(world: World) -> None:
    a = begun(world, "record")
    b = beside(world, a, item_metadata={"meter_sync_owner": "true"})
    world.use(a, 30, at=world.now + HOUR)
    world.sandbox.clock.advance(DAY)
    world.execute()
    assert (world.billed(a), world.billed(b)) == (100, 30)


@pytest.mark.parametrize("way", by_tier(WAYS))
def test_an_owner_on_the_same_billing_meter_is_held_all_the_same(world: World, way: str) -> None:
    """Stripe would bill its events with the other one as well."""
    a = begun(world, way)
    b = beside(world, a, item_metadata={"meter_sync_owner": "true"})
    world.use(a, 30, at=world.now + HOUR)
    world.sandbox.clock.advance(DAY)
    assert world.verdict(b) == "duplicate_usage"
    assert world.billed(a) == 100


def test_a_late_event_is_billed_in_its_own_stretch(world: World, way: str) -> None:
    a, b = side_by_side(world, way)
    world.use(a, 5, at=NOW + 2 * DAY)
    world.use(a, -3, at=NOW + DAY)
    world.sandbox.clock.advance(DAY)
    world.execute()
    assert (world.billed(a), world.billed(b)) == (112, 0)
