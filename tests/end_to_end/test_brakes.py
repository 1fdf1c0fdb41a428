"""Brakes over the whole plan: what is implausible is held, shown with its reason, and lifted for one run."""

from datetime import UTC, datetime, timedelta

import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.ledger import Scope, open_ledger
from meter_sync.ledger.webhook_queue import WebhookEvent
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, end_of, metered
from tests.support.world import METER, NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def used_last_month(world: World, way: str, quantity: int) -> SubscriptionView:
    """Return a subscription that was billed for a quantity in its last period, and is ten days into the next."""
    subscription = world.subscribe() if way == "record" else metered(world, way)
    world.use(subscription, quantity, at=NOW - DAY)
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) + 10 * DAY)
    return subscription


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_a_jump_against_the_last_period_is_held_until_it_is_allowed(world: World, way: str) -> None:
    subscription = used_last_month(world, way, 100)
    world.use(subscription, 5000)
    assert world.verdict(subscription) == "jump"
    assert world.billed(subscription) == 0
    assert world.verdict(subscription, Reason.JUMP) == "reported"
    world.use(subscription, 7)
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 5007


def test_thresholds_of_the_configuration_count(world: World) -> None:
    world.configure("[brakes]\njump_factor = 2\njump_units = 10\ndecrease_units = 3\n")
    subscription = used_last_month(world, "record", 100)
    world.use(subscription, 300)
    assert world.verdict(subscription) == "jump"
    assert world.verdict(subscription, Reason.JUMP) == "reported"
    world.use(subscription, -3)
    assert (world.verdict(subscription), world.billed(subscription)) == ("reported", 297)
    world.use(subscription, -5)
    assert (world.verdict(subscription), world.billed(subscription)) == ("decrease", 297)


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_a_meter_without_any_usage_late_in_the_period_is_held_and_shown(world: World, way: str) -> None:
    subscription = used_last_month(world, way, 100)
    assert world.verdict(subscription) == "all_zero"
    assert world.verdict(subscription, Reason.ALL_ZERO) == "unchanged"
    world.use(subscription, 1)
    assert (world.verdict(subscription), world.billed(subscription)) == ("reported", 1)


def test_where_most_items_are_held_nothing_is_written_for_the_others_but_what_has_ended(world: World) -> None:
    """The end of a period has no time: it is weighed apart."""
    world.configure("[brakes]\nheld_items = 2\nheld_percent = 40\n")
    ending = world.subscribe(period_start=NOW - 29 * DAY, period_end=NOW + HOUR)
    subscriptions = [world.subscribe() for _ in range(3)]
    for one in [ending, *subscriptions]:
        world.use(one, 5)
    world.execute()
    for one in [ending, *subscriptions]:
        world.use(one, 3)
    for one in subscriptions[:2]:
        world.use(one, -7)
    world.sandbox.clock.advance(HOUR + 60 * timedelta(seconds=1))

    assert world.verdict(subscriptions[2]) == "too_many_held"
    assert [world.billed(one) for one in subscriptions] == [5, 5, 5]
    assert world.stripe.invoices[0].lines[0].quantity == 8
    assert world.verdict(subscriptions[2], Reason.TOO_MANY_HELD) == "reported"
    assert [world.billed(one) for one in subscriptions] == [5, 5, 8]


def test_events_by_webhook_wait_on_where_nothing_was_written(world: World) -> None:
    world.configure("[brakes]\nheld_items = 1\nheld_percent = 40\n")
    subscriptions = [world.subscribe() for _ in range(2)]
    for one in subscriptions:
        world.use(one, 5)
    world.execute()
    world.use(subscriptions[0], -2)
    world.use(subscriptions[1], 1)
    with open_ledger(world.ledger, Scope("", "sandbox")) as ledger:
        ledger.webhook_queue.enqueue(
            WebhookEvent("evt_1", "customer.subscription.updated", subscriptions[1].id, world.now)
        )
    assert world.verdict(subscriptions[1]) == "too_many_held"
    with world.books() as books:
        assert [event.id for event in books.webhook_queue.waiting()] == ["evt_1"]


@pytest.mark.parametrize(("usage", "reason", "left"), [(0, "all_zero", -100), (50_000, "jump", 49_900)])
def test_what_a_last_ever_price_bills_again_while_it_is_held_is_named_at_the_end(
    world: World, usage: int, reason: str, left: int
) -> None:
    """With no record in a period the last one of an earlier period bills again."""
    price = world.stripe.add_price(metadata={"om_meter_id": METER}, aggregate_usage="last_ever")
    subscription = world.subscribe(price)
    world.use(subscription, 100, at=NOW - DAY)
    world.execute()
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end + 10 * DAY)
    if usage:
        world.use(subscription, usage)
    assert world.verdict(subscription) == reason
    for pause in (10 * MINUTE, 4 * DAY):
        world.sandbox.clock.move_to(max(world.now, end_of_july(world, subscription)) + pause)
        world.execute()
    assert world.unbilled() == {subscription.items[0]: left}


def end_of_july(world: World, subscription: SubscriptionView) -> datetime:
    """Where the period ended, or ends, that followed the first one."""
    closed = world.stripe.state.items[subscription.items[0]].closed
    if len(closed) > 1:
        return datetime.fromtimestamp(closed[1].period.end, UTC)
    return end_of(world, subscription)


def test_where_most_of_what_has_ended_is_held_the_rest_of_it_waits_and_what_is_open_does_not(world: World) -> None:
    world.configure("[brakes]\nheld_items = 2\nheld_percent = 40\n")
    ending = [world.subscribe(period_start=NOW - 29 * DAY, period_end=NOW + HOUR) for _ in range(3)]
    going_on = [world.subscribe() for _ in range(3)]
    for one in [*ending, *going_on]:
        world.use(one, 5)
    world.execute()
    for one in [*ending, *going_on]:
        world.use(one, 3)
    for one in ending[:2]:
        world.use(one, -7)
    world.sandbox.clock.advance(HOUR + 60 * timedelta(seconds=1))
    world.execute()
    assert [world.billed(one) for one in going_on] == [8, 8, 8]
    assert [line.quantity for invoice in world.stripe.invoices for line in invoice.lines] == [5, 5, 5]


def test_a_meter_of_which_most_is_held_stops_no_other_one(world: World) -> None:
    world.configure("[brakes]\nheld_items = 2\nheld_percent = 40\n")
    price = world.stripe.add_price(metadata={"om_meter_id": "other"})
    world.openmeter.add_meter("other", aggregation="SUM")
    ones, others = [world.subscribe() for _ in range(3)], [world.subscribe(price) for _ in range(3)]
    for one in ones:
        world.use(one, 5)
    for one in others:
        world.use(one, 5, meter="other")
    world.execute()
    for one in ones:
        world.use(one, -2)
    for one in others:
        world.use(one, 3, meter="other")
    world.execute()
    assert [world.billed(one) for one in (*ones, *others)] == [5, 5, 5, 8, 8, 8]


def test_an_openmeter_that_does_not_answer_for_most_says_nothing_of_the_rest(world: World) -> None:
    world.configure("[brakes]\nheld_items = 1\n")
    subscription = world.subscribe()
    other = world.stripe.add_price(metadata={"om_meter_id": "other"})
    world.openmeter.add_meter("other", aggregation="SUM")
    for _ in range(2):
        world.subscribe(other)
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(server="openmeter", path="/meters/[^/]*other", status=500, times=None))
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 5


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_a_row_that_is_not_to_be_reported_is_planned_and_shown_and_never_written(world: World, way: str) -> None:
    subscription = world.subscribe() if way == "record" else metered(world, way)
    price = world.stripe.state.items[subscription.items[0]].price
    row = f'[[meters]]\nprice = "{price}"\nopenmeter = "{METER}"\n'
    world.configure(f"{row}report = false\n")
    world.use(subscription, 5)
    world.execute()
    result = world.execute()[subscription.items[0]]
    assert (str(result.outcome), result.found.quantity, world.writes) == ("planned", 5, [])
    assert not world.seen("GET", "summaries")
    world.sandbox.clock.move_to(end_of(world, subscription) + 5 * DAY)
    world.execute()
    assert (world.writes, world.unbilled()) == ([], {})

    world.configure(row)
    world.use(subscription, 4)
    assert (world.verdict(subscription), world.billed(subscription)) == ("reported", 4)


def test_not_even_an_addition_that_had_no_answer_is_made_again_for_such_a_row(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(path="/v1/billing/meter_events$", drop="before", times=None))
    world.execute()
    world.sandbox.faults.clear()
    price = world.stripe.state.items[subscription.items[0]].price
    world.configure(f'[[meters]]\nprice = "{price}"\nopenmeter = "{METER}"\nreport = false\n')
    world.execute()
    assert world.billed(subscription) == 0
    world.config.unlink()
    world.execute()
    assert world.billed(subscription) == 5


def test_the_command_says_so_in_words(world: World) -> None:
    subscription = world.subscribe()
    world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nreport = false\n')
    world.use(subscription, 5)
    done = world.run()
    assert (done.code, done.verdict, done.document["summary"]["planned"]) == (0, ("planned", None), 1)
    assert "report = false" in done.item["message"]


# -- the ledger belongs to one Stripe account and mode -------------------------------------------------


def test_a_ledger_refuses_the_key_of_another_account(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    assert world.run().code == 0
    world.stripe.account = "acct_another"
    before = len(world.writes)
    theirs = world.subscribe()
    for arguments in ((), ("--dry-run",)):
        done = world.run(*arguments)
        assert (done.code, done.error_code) == (78, "ledger_bound")
        assert "acct_another" in done.document["error"]["message"]
    assert len(world.writes) == before
    with world.books() as ledger:
        assert not ledger.listed.newest({*theirs.items}), "what was asked meanwhile is not recorded"


def test_a_ledger_refuses_the_other_mode_before_any_request(world: World) -> None:
    world.subscribe()
    assert world.run().code == 0
    world.sandbox.requests.clear()
    done = world.run(STRIPE_API_KEY="sk_live_123")
    assert (done.code, done.error_code) == (78, "ledger_bound")
    assert world.sandbox.requests == []


def test_a_dry_run_binds_nothing(world: World) -> None:
    world.subscribe()
    assert world.run("--dry-run").code == 0
    assert not world.ledger.exists()


def test_a_key_that_may_not_read_its_account_is_bound_by_its_mode(world: World) -> None:
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(server="stripe", path="/v1/account", status=403, times=None))
    assert world.verdict(subscription) == "reported"
    with world.books() as books:
        assert books.binding.read() is not None
    world.sandbox.faults.clear()
    world.execute()
    with world.books() as books:
        bound = books.binding.read()
        assert bound is not None
        assert (bound.stripe_account, bound.mode) == (world.stripe.account, "sandbox")
