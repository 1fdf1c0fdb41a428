"""The end of a period: its last minutes are billed too, and whatever cannot be is named.

Runs are the program's own, in this process and over real HTTP.
"""

from datetime import UTC, datetime, timedelta

import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.selection import Selection
from meter_sync.core.planning.stages import Result
from meter_sync.ledger import Scope, open_ledger
from meter_sync.ledger.webhook_queue import WebhookEvent
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import (
    ALL_WAYS,
    EVENTS,
    NOT_FOUND,
    WAYS,
    by_tier,
    end_of,
    invoiced,
    metered,
    metered_price,
    subscribed,
)
from tests.support.world import NOW, PERIOD_START, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(params=by_tier(ALL_WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def named(world: World) -> list[tuple[Reason | None, int | None]]:
    """What the last run said of usage that is not billed."""
    return [(one.reason, one.lacking) for one in world.last_results if one.reason is Reason.PERIOD_CLOSED]


def ended(world: World, subscription: SubscriptionView) -> Result:
    """What became of the ended period of a subscription's first item."""
    return next(one for one in world.last_results if one.item.id == subscription.items[0])


def test_usage_between_the_last_run_and_the_end_is_billed_by_the_first_run_after_it(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 1, at=NOW)
    world.sandbox.clock.move_to(end - HOUR)
    world.execute()
    last = end.replace(minute=0) - MINUTE if way == "hours" else end - DAY if way == "days" else end - MINUTE
    world.use(subscription, 10, at=last)

    world.sandbox.clock.move_to(end + 2 * MINUTE)
    world.execute()
    assert invoiced(world) == 11
    assert str(ended(world, subscription).outcome) == "reported"
    world.execute()
    assert str(ended(world, subscription).outcome) == "unchanged"
    assert world.unbilled() == {}


def test_what_stripe_takes_no_more_is_named_once_with_its_quantity(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 1, at=NOW)
    world.sandbox.clock.move_to(end - 2 * HOUR)
    world.execute()
    world.use(subscription, 10, at=end - DAY)

    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    assert invoiced(world) == 1
    assert named(world) == [(Reason.PERIOD_CLOSED, 10)]
    assert "10 are not billed" in (ended(world, subscription).message or "")
    world.execute()
    assert named(world) == []
    assert world.unbilled() == {subscription.items[0]: 10}


def test_late_usage_that_is_named_already_is_named_again_only_when_it_grows(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 1, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    for value in (10, 5):
        world.use(subscription, value, at=end - DAY)
        world.execute()
        assert len(named(world)) == 1
        world.execute()
        assert named(world) == []
    assert invoiced(world) + world.unbilled()[subscription.items[0]] == 16


@pytest.mark.parametrize("way", by_tier(WAYS))
def test_what_was_rejected_at_a_periods_end_is_reported_again_while_its_invoice_is_a_draft(
    world: World, way: str
) -> None:
    subscription = metered(world, way)
    world.use(subscription, 3, at=PERIOD_START + DAY)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end - 10 * MINUTE)
    world.stripe.reject_meter_events_as = NOT_FOUND
    world.execute()
    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.move_to(end + 10 * MINUTE)
    world.execute()
    assert ended(world, subscription).reason is Reason.REJECTED
    world.execute()
    assert invoiced(world) == 3


@pytest.mark.parametrize("drop", ["before", "after"])
def test_a_last_report_whose_answer_was_lost_is_made_again(world: World, way: str, drop: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 3, at=PERIOD_START + DAY)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end - 10 * MINUTE)
    world.sandbox.faults.add(Fault(path=f"{EVENTS}|usage_records$", drop=drop))  # type: ignore[arg-type]
    world.execute()
    world.sandbox.clock.move_to(end + 2 * MINUTE)
    world.execute()
    assert invoiced(world) == 3
    assert world.unbilled() == {}


@pytest.mark.parametrize("way", by_tier(WAYS))
def test_a_period_that_ended_just_before_the_ledger_was_lost_is_found_by_its_draft(world: World, way: str) -> None:
    subscription = metered(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 1, at=NOW - HOUR)
    world.execute()
    world.use(subscription, 10, at=end - 2 * DAY)
    world.ledger.unlink()
    world.sandbox.clock.move_to(end + 10 * MINUTE)
    world.execute()
    assert invoiced(world) == 11


# -- subscriptions and items that go -----------------------------------------------------------------


def test_usage_of_a_subscription_that_is_canceled_at_once_is_named_as_unbilled(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 3, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.advance(30 * MINUTE)
    world.use(subscription, 4, at=world.now - MINUTE)
    world.stripe.cancel(subscription.id)
    world.use(subscription, 100, at=world.now + MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert named(world) == [(Reason.PERIOD_CLOSED, 7)]
    assert invoiced(world) == 0


@pytest.mark.parametrize("how", ["now, with an invoice", "at the period's end"])
def test_what_a_last_invoice_lacks_is_named(world: World, way: str, how: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 3, at=NOW - DAY)
    world.execute()
    if how == "at the period's end":
        world.stripe.cancel_at_period_end(subscription.id)
        world.sandbox.clock.move_to(end_of(world, subscription) - MINUTE)
    else:
        world.sandbox.clock.advance(30 * MINUTE)
    world.use(subscription, 4, at=world.now - MINUTE)
    world.sandbox.clock.advance(MINUTE)
    if how != "at the period's end":
        world.stripe.cancel(subscription.id, invoice_now=True)
    for pause in (2 * MINUTE, 2 * HOUR, HOUR):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert invoiced(world) + sum(world.unbilled().values()) == 7


def test_a_run_for_one_subscription_finishes_it_although_it_is_canceled(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 4, at=NOW - DAY)
    world.stripe.cancel(subscription.id)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute(selection=Selection(subscriptions=(subscription.id,)), is_beside=True)
    assert named(world) == [(Reason.PERIOD_CLOSED, 4)]


def test_a_full_run_is_the_report_that_events_queued_by_webhook_wait_for(world: World) -> None:
    world.subscribe()
    with open_ledger(world.ledger, Scope("", "sandbox")) as ledger:
        ledger.webhook_queue.enqueue(WebhookEvent("evt_1", "customer.subscription.deleted", "sub_1", NOW))
    world.sandbox.faults.add(Fault(server="openmeter", status=500, times=None))
    world.execute()
    with world.books() as books:
        assert [event.id for event in books.webhook_queue.waiting()] == ["evt_1"]
    world.sandbox.faults.clear()
    world.execute()
    with world.books() as books:
        assert books.webhook_queue.waiting() == []


def test_a_subscription_that_began_and_ended_between_two_runs_is_named(world: World, way: str) -> None:
    world.subscribe()
    world.execute()
    world.sandbox.clock.advance(5 * MINUTE)
    subscription = subscribed(world, way, period_start=world.now)
    world.use(subscription, 4, at=world.now)
    world.sandbox.clock.advance(5 * MINUTE)
    world.stripe.cancel(subscription.id)
    for _ in range(2):
        world.sandbox.clock.advance(HOUR)
        world.execute()
    assert world.unbilled() == {subscription.items[0]: 4}


def test_usage_of_a_removed_item_is_named_until_the_second_of_its_removal(world: World) -> None:
    other = world.stripe.add_price()
    world.configure(f'[[meters]]\nprice = "{other}"\nignore = true\n')
    subscription = world.subscribe(world.price, other)
    world.use(subscription, 3, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.advance(10 * MINUTE)
    world.use(subscription, 2, at=world.now - MINUTE)
    world.stripe.delete_item(subscription.items[0], clear_usage=True)
    world.use(subscription, 50, at=world.now + MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert named(world) == [(Reason.PERIOD_CLOSED, 5)]


def test_a_period_that_began_and_ended_while_no_run_came_is_named(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 1, at=NOW - DAY)
    world.execute()
    end = end_of(world, subscription)
    world.use(subscription, 2, at=end - DAY)
    world.use(subscription, 4, at=end + 5 * DAY)
    world.sandbox.clock.move_to(end + 40 * DAY)
    world.use(subscription, 8, at=world.now - DAY)
    world.execute()
    left = sum(world.unbilled().values())
    assert invoiced(world) + left + world.billed(subscription) == 15


def test_a_cycle_that_was_reset_ends_its_period_there(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 1, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.advance(12 * HOUR)
    world.use(subscription, 2, at=world.now - 2 * HOUR)
    world.stripe.restart_periods(subscription.id)
    world.use(subscription, 4, at=world.now + MINUTE)
    world.sandbox.clock.advance(2 * MINUTE)
    world.execute()
    world.sandbox.clock.advance(DAY)
    world.execute()
    left = sum(world.unbilled().values())
    assert invoiced(world) + left + world.billed(subscription) == 7


def test_a_trial_leaves_nothing_to_be_named(world: World, way: str) -> None:
    subscription = subscribed(world, way, trial_end=NOW + DAY)
    world.use(subscription, 5, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.advance(DAY + HOUR)
    world.execute()
    world.sandbox.clock.advance(HOUR)
    world.execute()
    assert world.unbilled() == {}


def test_a_fall_that_is_held_at_the_end_is_named_as_billed_too_much(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 7, at=NOW - DAY)
    world.execute()
    world.use(subscription, -2, at=NOW - DAY)
    world.sandbox.clock.move_to(end + MINUTE)
    world.execute()
    assert ended(world, subscription).reason is Reason.DECREASE
    world.sandbox.clock.move_to(end + 4 * DAY)
    world.execute()
    assert named(world) == [(Reason.PERIOD_CLOSED, -2)]


def test_what_stripe_lost_of_a_period_is_found_when_it_is_read_back(world: World) -> None:
    subscription = metered(world, "additions")
    end = end_of(world, subscription)
    world.use(subscription, 7, at=NOW - DAY)
    world.execute()
    customer = world.customer_of(subscription)
    (event,) = [one for events in world.stripe.state.meter_events.values() for one in events]
    world.stripe.cancel_meter_event(event.event_name, event.identifier)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    assert named(world) == [(Reason.PERIOD_CLOSED, 7)]
    assert customer


def test_without_permission_to_read_invoices_and_events_everything_else_goes_on(world: World) -> None:
    subscription = metered(world, "hours")
    end = end_of(world, subscription)
    world.stripe.keys["rk_test_narrow"] = frozenset(
        {"prices:read", "subscriptions:read", "billing_meters:read", "meter_events:write", "meter_events:read"}
    )
    world.sandbox.stripe_key = "rk_test_narrow"
    world.use(subscription, 7, at=NOW - DAY)
    world.execute()
    world.use(subscription, 1, at=end - 2 * HOUR)
    world.sandbox.clock.move_to(end + 10 * MINUTE)
    world.execute()
    assert invoiced(world) == 8


def test_an_invoice_of_last_month_is_never_changed_by_the_next_period(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    for month in (30, 30):
        world.use(subscription, 3, at=world.now - HOUR)
        world.execute()
        world.sandbox.clock.advance(timedelta(days=month))
    world.execute()
    assert [line.quantity for invoice in world.stripe.invoices for line in invoice.lines] == [3, 3]
    assert datetime(2025, 1, 1, tzinfo=UTC) < world.now


# -- reports by webhook, and changes that no run saw -------------------------------------------------


def hook(world: World, subscription: SubscriptionView) -> None:
    """Report one subscription, as the webhook does."""
    world.execute(selection=Selection(subscriptions=(subscription.id,)), is_beside=True)


def test_a_price_that_moves_at_the_end_is_billed_by_what_it_was_until_then_also_by_webhook(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 3, at=NOW - DAY)
    hook(world, subscription)
    world.sandbox.clock.move_to(end_of(world, subscription))
    world.stripe.change_price(subscription.items[0], metered_price(world, "hours"))
    for pause in (10 * timedelta(seconds=1), 2 * HOUR):
        world.sandbox.clock.advance(pause)
        hook(world, subscription)
    assert (invoiced(world), world.unbilled()) == (3, {})


def test_a_trial_that_ended_leaves_nothing_to_be_named_by_webhook_either(world: World, way: str) -> None:
    subscription = subscribed(world, way, trial_end=NOW + DAY)
    world.use(subscription, 3, at=NOW - HOUR)
    hook(world, subscription)
    world.sandbox.clock.move_to(NOW + DAY + MINUTE)
    hook(world, subscription)
    world.use(subscription, 7, at=NOW + 2 * HOUR)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert world.unbilled() == {}


def test_an_item_removed_between_two_deliveries_ends_at_the_second_of_its_removal(world: World) -> None:
    other = world.stripe.add_price()
    world.configure(f'[[meters]]\nprice = "{other}"\nignore = true\n')
    subscription = world.subscribe(world.price, other)
    world.use(subscription, 3, at=NOW - DAY)
    hook(world, subscription)
    world.sandbox.clock.advance(5 * MINUTE)
    world.stripe.delete_item(subscription.items[0], clear_usage=True)
    world.use(subscription, 50, at=world.now + 5 * MINUTE)
    world.sandbox.clock.advance(10 * MINUTE)
    hook(world, subscription)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert world.unbilled() == {subscription.items[0]: 3}


@pytest.mark.parametrize("new", by_tier(WAYS))
def test_a_price_that_moved_before_the_end_and_after_the_last_run_leaves_what_the_invoice_lacks(
    world: World, way: str, new: str
) -> None:
    if way == new:
        return
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 3, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.move_to(end - 40 * MINUTE)
    world.stripe.change_price(subscription.items[0], metered_price(world, new))
    world.use(subscription, 4, at=end - 3 * DAY)
    for pause in (2 * MINUTE, HOUR, HOUR, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    assert invoiced(world) + sum(world.unbilled().values()) == 7


def test_a_first_period_that_no_run_came_into_is_found_by_its_invoice(world: World, way: str) -> None:
    world.subscribe()
    world.execute()
    world.sandbox.clock.advance(10 * MINUTE)
    subscription = subscribed(world, way, period_start=world.now, period_end=world.now + 20 * MINUTE)
    world.use(subscription, 3, at=world.now + MINUTE)
    for pause in (50 * MINUTE, 3 * HOUR, 3 * HOUR):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert invoiced(world) + sum(world.unbilled().values()) + world.billed(subscription) == 3


def test_usage_before_a_pause_that_no_invoice_bills_is_named(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 3, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.advance(2 * HOUR)
    world.use(subscription, 4, at=world.now - MINUTE)
    world.stripe.set_status(subscription.id, "paused")
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    world.sandbox.clock.advance(5 * DAY)
    world.stripe.resume(subscription.id)
    for pause in (MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.advance(pause)
        world.execute()
    assert sum(world.unbilled().values()) == 7


def test_usage_while_a_subscription_is_paused_is_named_and_not_sent_by_webhook_either(world: World, way: str) -> None:
    """No invoice bills the time between two periods, however soon after it somebody comes."""
    subscription = subscribed(world, way)
    world.use(subscription, 3, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.advance(2 * HOUR)
    world.stripe.set_status(subscription.id, "paused")
    end = end_of(world, subscription)
    world.use(subscription, 4, at=end + DAY)
    world.sandbox.clock.move_to(end + 3 * DAY)
    world.stripe.resume(subscription.id)
    for pause in (MINUTE, 2 * HOUR):
        world.sandbox.clock.advance(pause)
        hook(world, subscription)
    assert (invoiced(world), sum(world.unbilled().values())) == (0, 7)
    assert world.stripe.total(subscription.items[0]) == 0


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_what_was_held_as_duplicate_is_named_once_at_the_end(world: World, way: str) -> None:
    """With the one that ends first, however long the other one goes on."""
    subscription = subscribed(world, way)
    customer = world.customer_of(subscription)
    price = world.stripe.state.items[subscription.items[0]].price
    other = world.subscribe(price, customer=customer, period_start=NOW - 10 * DAY)
    world.use(subscription, 6, at=NOW - 2 * DAY)
    assert world.verdict(subscription) == "duplicate_usage"
    end = end_of(world, subscription)
    for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY, 31 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    assert (world.unbilled(), invoiced(world)) == ({other.items[0]: 6}, 0)


def test_usage_of_a_customer_that_was_deleted_is_named(world: World, way: str) -> None:
    """Stripe cancels the subscriptions of such a customer, without an invoice."""
    subscription = subscribed(world, way)
    world.use(subscription, 3, at=NOW - DAY)
    world.execute()
    world.stripe.delete_customer(world.customer_of(subscription))
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert world.unbilled() == {subscription.items[0]: 3}


def test_usage_beside_billing_thresholds_is_named_at_the_end(world: World) -> None:
    subscription = world.subscribe(billing_thresholds={"amount_gte": 1000, "reset_billing_cycle_anchor": False})
    world.use(subscription, 3, at=NOW - DAY)
    assert world.verdict(subscription) == "billing_thresholds"
    end = end_of(world, subscription)
    for pause in (10 * MINUTE, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    assert world.unbilled() == {subscription.items[0]: 3}


@pytest.mark.parametrize(("old", "new"), [("hours", "record"), ("record", "days")])
def test_a_move_that_was_seen_before_the_end_says_where_the_last_usage_of_the_period_is_billed(
    world: World, old: str, new: str
) -> None:
    """On a price without windows a period's usage ends with it, whatever was reported before."""
    subscription = subscribed(world, old)
    world.use(subscription, 1, at=NOW - DAY)
    world.execute()
    end = end_of(world, subscription)
    price = metered_price(world, new) if new != "record" else world.price
    world.stripe.change_price(subscription.items[0], price)
    world.use(subscription, 2, at=end - MINUTE)
    world.execute()
    for pause in (10 * MINUTE, 2 * HOUR, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end) + pause)
        world.execute()
    in_straddling_window = 2 if new == "days" else 0
    assert invoiced(world) + sum(world.unbilled().values()) == 3 - in_straddling_window
    assert world.billed(subscription) == in_straddling_window


@pytest.mark.parametrize("way", ["record", "hours", "additions"])
def test_invoices_that_cannot_be_read_once_close_no_draft(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 5, at=NOW - DAY)
    world.execute()
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end + MINUTE)
    world.execute()
    world.use(subscription, 4, at=end - 2 * DAY)
    world.sandbox.clock.move_to(end + 2 * MINUTE)
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/invoices", status=500, times=None))
    world.execute()
    world.sandbox.faults.clear()
    world.sandbox.clock.move_to(end + 3 * MINUTE)
    world.execute()
    assert (invoiced(world), world.unbilled()) == (9, {})
