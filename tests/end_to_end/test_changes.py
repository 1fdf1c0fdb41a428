"""A price or an item that changes in mid-period: each unit of usage is billed once or named once."""

from datetime import timedelta
from typing import Any

import pytest

from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import BillingMode
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import WAYS, end_of, invoiced, metered, metered_price, one_fast
from tests.support.world import METER, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ON_METER: dict[str, Any] = {"metadata": {"om_meter_id": METER}}

HOW = ("new price", *(pytest.param(how, marks=pytest.mark.every_way) for how in ("new item", "old item first")))
BOTH_MODES = ["classic", pytest.param("flexible", marks=pytest.mark.every_way)]


@pytest.fixture(params=one_fast(WAYS, "additions"))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=BOTH_MODES)
def mode(request: pytest.FixtureRequest) -> BillingMode:
    mode: BillingMode = request.param
    return mode


def begun(world: World, way: str, mode: BillingMode) -> SubscriptionView:
    """Return a subscription of which 100 have been reported, and 10 were used since."""
    subscription = metered(world, way, billing_mode=mode)
    world.use(subscription, 100, at=world.now - DAY - HOUR)
    world.execute()
    world.sandbox.clock.advance(2 * HOUR + 7 * MINUTE)
    world.use(subscription, 10, at=world.now - 70 * MINUTE)
    return subscription


def meter_of(world: World, subscription: SubscriptionView) -> str:
    meter = world.stripe.state.prices[world.stripe.state.items[subscription.items[0]].price].meter
    assert meter
    return meter


def changed(world: World, subscription: SubscriptionView, how: str, **metadata: str) -> str:
    """Move the subscription to a new price on its meter, and return the item that is on it."""
    item = subscription.items[0]
    price = world.stripe.add_price(meter=meter_of(world, subscription), metadata={"om_meter_id": METER, **metadata})
    if how == "new price":
        world.stripe.change_price(item, price)
        return item
    if how == "old item first":
        world.stripe.delete_item(item)
        world.sandbox.clock.advance(MINUTE)
    new = world.stripe.add_item(subscription.id, price)
    if how == "new item":
        world.stripe.delete_item(item)
    return new


def used_since(world: World, subscription: SubscriptionView) -> None:
    """Let 50 be used after the change, at once and later, with a run between."""
    world.use(subscription, 20, at=world.now + MINUTE)
    world.sandbox.clock.advance(10 * MINUTE)
    world.execute()
    world.sandbox.clock.advance(3 * DAY)
    world.use(subscription, 30, at=world.now - 2 * HOUR)
    world.execute()


def end_well(world: World, end: Any) -> None:
    """Run past the end of the period and all that comes late."""
    for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()


@pytest.mark.parametrize("how", HOW)
def test_what_was_used_before_a_change_is_billed_as_its_mode_has_it_and_else_named(
    world: World, way: str, mode: BillingMode, how: str
) -> None:
    """In classic nobody bills what was stamped before, in flexible an invoice item what was reported by then."""
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    new = changed(world, subscription, how)
    used_since(world, subscription)
    assert world.stripe.total(new) == 50
    end_well(world, end)
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert (billed, named) == ((50, 110) if mode == "classic" else (150, 10))


@pytest.mark.parametrize("mode", ["classic"])
def test_it_is_so_where_no_run_came_before_the_period_ended(world: World, way: str, mode: BillingMode) -> None:
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    changed(world, subscription, "new price")
    world.use(subscription, 50, at=world.now + DAY)
    end_well(world, end)
    assert invoiced(world) + sum(world.unbilled().values()) == 160
    assert invoiced(world) in {0, 50}


def test_a_late_event_of_before_a_change_is_named(world: World, way: str, mode: BillingMode) -> None:
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    changed(world, subscription, "new price")
    world.sandbox.clock.advance(HOUR)
    world.execute()
    world.use(subscription, 7, at=end - 25 * DAY)
    used_since(world, subscription)
    end_well(world, end)
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert (billed, named) == ((50, 117) if mode == "classic" else (150, 17))


def test_a_price_that_changes_twice_between_two_runs(world: World, way: str, mode: BillingMode) -> None:
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    changed(world, subscription, "new price")
    world.sandbox.clock.advance(5 * MINUTE)
    world.use(subscription, 3, at=world.now - MINUTE)
    changed(world, subscription, "new price")
    used_since(world, subscription)
    end_well(world, end)
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert (billed, named) == ((50, 113) if mode == "classic" else (150, 13))


@pytest.mark.parametrize("mode", ["flexible", pytest.param("classic", marks=pytest.mark.every_way)])
def test_a_price_that_changes_before_a_turn_and_again_after_it_between_two_runs(
    world: World, way: str, mode: BillingMode
) -> None:
    """Of the 110 of before the first change the invoice item of flexible mode is not named too."""
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    world.execute()
    for change, used_before_it in ((end - 2 * DAY, 0), (end + DAY, 8)):
        world.use(subscription, used_before_it, at=change - DAY - 2 * HOUR)
        world.sandbox.clock.move_to(change)
        changed(world, subscription, "new price")
    world.sandbox.clock.advance(20 * MINUTE)
    world.use(subscription, 2, at=world.now - 10 * MINUTE)
    world.execute()
    end_well(world, world.now)
    end_well(world, end_of(world, subscription))
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert (billed, named) == ((2, 118) if mode == "classic" else (112, 8))


NOTHING_YET = '{"object": "list", "data": [], "has_more": false, "url": "/v1/events"}'


def test_a_change_that_was_listed_before_events_told_of_it_counts_from_when_it_happened(
    world: World, way: str, mode: BillingMode
) -> None:
    """Events are read while items are listed, which may show what has changed since: then they are read again."""
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    changed(world, subscription, "new price")
    world.use(subscription, 50, at=world.now + MINUTE)
    world.sandbox.clock.advance(5 * MINUTE)
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/events$", replace_text=NOTHING_YET))
    world.sandbox.requests.clear()
    world.execute()
    assert len(world.seen("GET", "/v1/events")) == 2
    assert world.billed(subscription) == 50
    end_well(world, end)
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert (billed, named) == ((50, 110) if mode == "classic" else (150, 10))


@pytest.mark.parametrize("events", ["read", "unread"])
def test_where_events_cannot_be_read_a_change_counts_from_when_it_is_seen(
    world: World, way: str, mode: BillingMode, events: str
) -> None:
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    if events == "unread":
        world.sandbox.faults.add(Fault(server="stripe", path="/v1/events$", status=403, times=None))
    changed(world, subscription, "new price")
    world.sandbox.clock.advance(5 * MINUTE)
    world.execute()
    world.use(subscription, 50, at=world.now + MINUTE)
    end_well(world, end)
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert (billed, named) == ((50, 110) if mode == "classic" else (150, 10))


def test_a_price_on_another_meter_of_openmeter_bills_that_ones_usage_from_then_on(
    world: World, way: str, mode: BillingMode
) -> None:
    world.openmeter.add_meter("other", aggregation="SUM")
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    world.use(subscription, 1000, at=world.now - DAY, meter="other")
    new = changed(world, subscription, "new price", om_meter_id="other")
    world.use(subscription, 5, at=world.now + MINUTE, meter="other")
    world.sandbox.clock.advance(HOUR)
    world.execute()
    assert world.stripe.total(new) == 5
    end_well(world, end)
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert (billed, named) == ((5, 110) if mode == "classic" else (105, 10))


def test_a_closing_run_asks_stripe_for_a_subscription_that_changed(world: World, way: str, mode: BillingMode) -> None:
    """So it bills each stretch by its own meter, although no full run has seen the change."""
    world.openmeter.add_meter("other", aggregation="SUM")
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end - 3 * HOUR)
    world.execute()
    world.sandbox.clock.move_to(end - 2 * HOUR)
    new = changed(world, subscription, "new price", om_meter_id="other")
    world.use(subscription, 109, at=end - HOUR)
    world.use(subscription, 7, at=end - HOUR, meter="other")
    world.sandbox.clock.move_to(end - 5 * MINUTE)
    world.execute(closing=10 * MINUTE, is_beside=True)
    assert world.stripe.total(new) == (0 if way == "days" else 7), "the end's day is the next period's"
    end_well(world, end)
    billed, named = invoiced(world) + world.stripe.total(new), sum(world.unbilled().values())
    assert (billed, named) == ((7, 110) if mode == "classic" else (117, 0))


@pytest.mark.parametrize("mode", ["classic", "flexible"])
def test_of_a_removed_item_what_an_invoice_item_bills_is_not_named(world: World, way: str, mode: BillingMode) -> None:
    subscription = begun(world, way, mode)
    other = world.stripe.add_item(subscription.id, world.stripe.add_price(metadata={"om_meter_id": "none"}))
    end = end_of(world, subscription)
    world.stripe.delete_item(subscription.items[0])
    world.sandbox.clock.advance(HOUR)
    world.execute()
    end_well(world, end)
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert (billed, named) == ((0, 110) if mode == "classic" else (100, 10))
    assert other


def test_whether_an_invoice_item_bills_it_is_known_once_the_key_may_read_them(world: World, way: str) -> None:
    subscription = begun(world, way, "flexible")
    end = end_of(world, subscription)
    changed(world, subscription, "new price")
    path, until = "/v1/invoiceitems$", world.now + 7 * HOUR
    world.sandbox.faults.add(Fault(server="stripe", path=path, status=403, until=until, times=None))
    for _ in range(4):
        world.sandbox.clock.advance(2 * HOUR)
        world.execute()
    assert world.meter_sync("history", "--unbilled", "--output", "json").document["unbilled"][0]["unbilled"] == "10"
    end_well(world, end)
    assert (invoiced(world), sum(world.unbilled().values())) == (100, 10)


@pytest.mark.parametrize("events", ["read", "unread"])
def test_an_item_that_is_removed_in_the_second_of_its_subscriptions_end_is_billed_by_its_invoice_item(
    world: World, way: str, events: str
) -> None:
    subscription = begun(world, way, "flexible")
    world.stripe.add_item(subscription.id, world.stripe.add_price(**ON_METER))
    world.execute()
    world.stripe.delete_item(subscription.items[0])
    world.stripe.cancel(subscription.id, invoice_now=True)
    if events == "unread":
        world.sandbox.faults.add(Fault(path="/v1/events$", status=403, times=None))
    for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert (invoiced(world), world.unbilled()) == (110, {})


@pytest.mark.parametrize("to", ["record", "hours"])
def test_between_usage_records_and_meters_too(world: World, mode: BillingMode, to: str) -> None:
    prices = {"record": world.price, "hours": metered_price(world, "hours")}
    begins = "hours" if to == "record" else "record"
    subscription = world.subscribe(prices[begins], billing_mode=mode)
    world.use(subscription, 100, at=world.now - DAY)
    world.execute()
    end = end_of(world, subscription)
    world.stripe.change_price(subscription.items[0], prices[to])
    used_since(world, subscription)
    end_well(world, end)
    billed, named = invoiced(world), sum(world.unbilled().values())
    is_billed_before = mode == "flexible" and begins == "hours"
    assert (billed, named) == ((150, 0) if is_billed_before else (50, 100))


def test_a_new_price_without_a_meter_goes_on_with_the_period(world: World, mode: BillingMode) -> None:
    subscription = world.subscribe(billing_mode=mode)
    world.use(subscription, 100, at=world.now - DAY)
    world.execute()
    world.stripe.change_price(subscription.items[0], world.stripe.add_price(**ON_METER))
    used_since(world, subscription)
    end_well(world, end_of(world, subscription))
    assert (invoiced(world), world.unbilled()) == (150, {})


@pytest.mark.parametrize("mode", ["classic"])
def test_an_addition_without_an_answer_is_made_once(world: World, mode: BillingMode) -> None:
    subscription = begun(world, "additions", mode)
    end = end_of(world, subscription)
    world.sandbox.faults.add(Fault(path="/v1/billing/meter_events$", drop="after"))
    world.execute()
    changed(world, subscription, "new item")
    used_since(world, subscription)
    end_well(world, end)
    assert (invoiced(world), sum(world.unbilled().values())) == (50, 110)


@pytest.mark.parametrize("row", ["ignore = true", 'openmeter = "api_requests"\nreport = false'])
def test_an_item_that_is_not_reported_takes_nothing_from_the_one_before(world: World, way: str, row: str) -> None:
    subscription = begun(world, way, "classic")
    end = end_of(world, subscription)
    price = world.stripe.add_price(meter=meter_of(world, subscription), **ON_METER)
    world.configure(f'[[meters]]\nprice = "{price}"\n{row}\n')
    world.stripe.add_item(subscription.id, price)
    world.stripe.delete_item(subscription.items[0])
    used_since(world, subscription)
    end_well(world, end)
    assert (invoiced(world), world.unbilled()[subscription.items[0]]) == (0, 110)


def test_while_what_became_of_the_old_item_is_not_known_the_new_one_waits(world: World, way: str) -> None:
    subscription = begun(world, way, "classic")
    end = end_of(world, subscription)
    new = changed(world, subscription, "new item")
    world.sandbox.clock.advance(5 * MINUTE)
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/subscriptions/[^/]+$", status=500, times=None))
    assert world.execute()[new].reason == "duplicate_usage"
    world.sandbox.faults.clear()
    used_since(world, subscription)
    end_well(world, end)
    assert (invoiced(world), sum(world.unbilled().values())) == (50, 110)


@pytest.mark.parametrize("mode", BOTH_MODES)
def test_a_new_ledger_bills_what_was_stamped_since_the_change(world: World, way: str, mode: BillingMode) -> None:
    subscription = begun(world, way, mode)
    end = end_of(world, subscription)
    new = changed(world, subscription, "new price")
    used_since(world, subscription)
    world.ledger.unlink()
    world.use(subscription, 8, at=world.now - MINUTE)
    world.sandbox.clock.advance(HOUR)
    world.execute()
    assert world.stripe.total(new) == 58
    end_well(world, end)
    billed, named = invoiced(world), sum(world.unbilled().values())
    assert (billed, named) == ((58, 110) if mode == "classic" else (158, 10))


def test_what_an_item_used_after_its_period_turned_and_before_it_was_removed_is_named(world: World, way: str) -> None:
    """No run came between the turn and the removal."""
    subscription = begun(world, way, "classic")
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end - MINUTE)
    world.execute()
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.use(subscription, 7)
    world.stripe.delete_item(subscription.items[0])
    end_well(world, end)
    assert (invoiced(world), sum(world.unbilled().values())) == (110, 7)
