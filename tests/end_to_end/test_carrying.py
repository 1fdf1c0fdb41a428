"""Late usage that is carried: what a period can no longer bill is in its item's next one, and never in two.

Runs are the program's own, in this process and over real HTTP; invoices are the sandbox's.
"""

from datetime import timedelta

import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.stages import Result
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, end_of, invoiced, one_fast, subscribed
from tests.support.world import METER, NOW, PERIOD_START, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CARRY = 'late_usage = "carry"\n'


@pytest.fixture(params=by_tier(ALL_WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def closed_period(world: World, way: str, *, used: int = 1) -> SubscriptionView:
    """Return a subscription whose first period has `used` in its invoice, which is final."""
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, used, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    assert invoiced(world) == used
    return subscription


def another_price(world: World, subscription: SubscriptionView) -> str:
    """Add a price of the same kind, on the same billing meter if it is on one."""
    meter = world.stripe.state.prices[world.stripe.state.items[subscription.items[0]].price].meter
    return world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER})


def use_late(world: World, subscription: SubscriptionView, value: int) -> None:
    world.use(subscription, value, at=PERIOD_START + 5 * DAY)


def of_ended(world: World, subscription: SubscriptionView) -> Result:
    """What the last run said of the period that has ended."""
    return next(one for one in world.last_results if one.item.id == subscription.items[0])


def end_the_period(world: World, subscription: SubscriptionView) -> None:
    """Let the open period end and its invoice become final, with a run in its last hour and two after it."""
    end = end_of(world, subscription)
    for instant in (end - MINUTE, end + 2 * MINUTE, end + 2 * HOUR):
        world.sandbox.clock.move_to(instant)
        world.execute()


def test_what_a_closed_period_can_no_longer_bill_is_in_the_next_one_once(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way)
    use_late(world, subscription, 10)
    world.execute()
    said = of_ended(world, subscription)
    assert (str(said.outcome), said.reason) == ("unchanged", None)
    assert "10 are not billed in this period, and added to the item's next period" in (said.message or "")

    for _ in range(2):
        world.execute()
        assert world.billed(subscription) == 10
    world.use(subscription, 5, at=world.now - MINUTE)
    world.sandbox.clock.advance(3 * HOUR)
    world.execute()
    world.execute(resend=True)
    assert world.billed(subscription) == 15
    end_the_period(world, subscription)
    assert invoiced(world) == 16
    assert world.unbilled() == {}
    world.execute()
    assert world.billed(subscription) == 0


def test_what_is_late_grows_and_shrinks_while_the_next_period_goes_on(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way)
    for late, so_far in ((10, 10), (3, 13), (-4, 9)):
        use_late(world, subscription, late)
        world.execute(Reason.DECREASE)
        world.execute(Reason.DECREASE)
        assert world.billed(subscription) == so_far
    end_the_period(world, subscription)
    assert (invoiced(world), world.unbilled()) == (10, {})


def test_what_was_billed_too_much_lowers_no_period_below_zero_and_the_rest_waits(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way, used=30)
    use_late(world, subscription, -20)
    world.execute(Reason.DECREASE)
    world.use(subscription, 6, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert world.billed(subscription) == 0
    end_the_period(world, subscription)
    assert (invoiced(world), world.unbilled()) == (30, {subscription.items[0]: -14})
    world.use(subscription, 40, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert world.billed(subscription) == 26
    end_the_period(world, subscription)
    assert (invoiced(world), world.unbilled()) == (56, {})


def test_a_fall_is_held_as_any_other_and_named_once_the_period_is_watched_no_more(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way, used=30)
    use_late(world, subscription, -20)
    for _ in range(2):
        world.execute()
        said = of_ended(world, subscription)
        assert said.reason is Reason.DECREASE
        assert "fell from 30 to 10" in (said.message or "")
    world.use(subscription, 50, at=world.now - MINUTE)
    world.sandbox.clock.advance(4 * DAY)
    world.execute()
    assert world.billed(subscription) == 50
    assert world.unbilled() == {subscription.items[0]: -20}
    world.execute(Reason.DECREASE)
    assert world.billed(subscription) == 50


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_what_waits_while_a_draft_and_the_next_period_are_open_goes_into_the_next_one_alone(
    world: World, way: str
) -> None:
    """Both could take it: it would be in two periods after one run, in none after the next, and so on."""
    world.stripe.seconds_from_draft_to_final = int(DAY.total_seconds())
    world.configure(CARRY)
    subscription = subscribed(world, way)
    world.use(subscription, 30, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) + DAY + HOUR)
    world.execute()
    use_late(world, subscription, -20)
    world.execute(Reason.DECREASE)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end - HOUR)
    world.execute()
    world.use(subscription, 100, at=end - 3 * HOUR)
    world.use(subscription, 50, at=end + MINUTE)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    for _ in range(2):
        world.execute()
    for _ in range(2):
        world.execute()
        assert {str(one.outcome) for one in world.last_results} == {"unchanged"}
        assert world.billed(subscription) + world.stripe.total(subscription.items[0], at=end - DAY) == 130
    assert world.unbilled() == {}


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_was_carried_stays_so_when_the_rest_is_named(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way, used=30)
    use_late(world, subscription, 10)
    world.use(subscription, 50, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    world.execute()
    use_late(world, subscription, -20)
    world.sandbox.clock.advance(4 * DAY)
    world.execute()
    assert world.unbilled() == {subscription.items[0]: -20}
    assert world.verdict(subscription) == "unchanged"
    assert world.billed(subscription) == 60
    end_the_period(world, subscription)
    assert (invoiced(world), world.unbilled()) == (90, {subscription.items[0]: -20})


def test_a_subscription_that_is_over_has_all_that_still_waits_named_with_its_last_period(
    world: World, way: str
) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way, used=30)
    use_late(world, subscription, -20)
    world.execute(Reason.DECREASE)
    world.use(subscription, 6, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    world.stripe.cancel_at_period_end(subscription.id)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end - MINUTE)
    world.execute()
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    assert of_ended(world, subscription).reason is Reason.PERIOD_CLOSED
    assert world.unbilled() == {subscription.items[0]: -14}
    assert invoiced(world) == 30


def test_what_is_late_once_nothing_follows_is_named(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = subscribed(world, way)
    world.use(subscription, 1, at=NOW - HOUR)
    world.execute()
    world.stripe.cancel_at_period_end(subscription.id)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end - MINUTE)
    world.execute()
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    use_late(world, subscription, 10)
    world.execute()
    assert of_ended(world, subscription).reason is Reason.PERIOD_CLOSED
    assert (invoiced(world), world.unbilled()) == (1, {subscription.items[0]: 10})


@pytest.mark.parametrize("comes_at", ["before the last period ends", "after it has ended"])
def test_what_waits_is_named_where_the_last_period_has_nothing_of_its_own(world: World, comes_at: str) -> None:
    """All of it is billed by another item, that is named as the owner."""
    world.configure(CARRY)
    subscription = subscribed(world, "record")
    world.use(subscription, 1, at=NOW - HOUR)
    world.execute()
    end = end_of(world, subscription)
    owned = {"item_metadata": {"meter_sync_owner": "true"}}
    world.sandbox.clock.move_to(end)
    owner = world.subscribe(customer=world.customer_of(subscription), period_start=end, **owned)
    world.use(subscription, 7, at=end + HOUR)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    assert (world.billed(subscription), world.billed(owner)) == (0, 7)
    is_late = comes_at == "after it has ended"
    if not is_late:
        world.use(subscription, 10, at=end - DAY)
        world.execute()
    world.sandbox.clock.move_to(end + DAY)
    world.stripe.cancel(subscription.id, invoice_now=True)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    if is_late:
        world.use(subscription, 10, at=end - DAY)
    world.execute()
    world.execute()
    with world.books() as ledger:
        found = [(one.open_quantity, one.waits) for one in ledger.remainders.unbilled()]
    assert (found, world.billed(owner)) == ([(10, False)], 7)


def test_what_is_late_does_not_go_into_another_prices_unit(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = subscribed(world, way)
    world.use(subscription, 1, at=NOW - HOUR)
    world.execute()
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end)
    other = another_price(world, subscription)
    world.stripe.change_price(subscription.items[0], other)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    use_late(world, subscription, 10)
    world.execute()
    world.execute()
    assert world.billed(subscription) == 0
    assert world.unbilled() == {subscription.items[0]: 10}


def test_what_waits_when_the_price_changes_within_the_next_period_is_billed_or_named_with_it(
    world: World, way: str
) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way)
    use_late(world, subscription, 10)
    world.execute()
    world.execute()
    other = another_price(world, subscription)
    world.sandbox.clock.advance(2 * DAY)
    world.stripe.change_price(subscription.items[0], other)
    world.sandbox.clock.advance(HOUR)
    world.execute()
    use_late(world, subscription, 3)
    world.execute()
    end_the_period(world, subscription)
    assert invoiced(world) + world.unbilled().get(subscription.items[0], 0) == 14


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_was_named_is_not_carried_when_the_setting_changes(world: World, way: str) -> None:
    """Somebody may have settled it, and not have said so."""
    subscription = closed_period(world, way)
    use_late(world, subscription, 10)
    world.execute()
    world.configure(CARRY)
    world.execute()
    use_late(world, subscription, 4)
    world.execute()
    world.execute()
    assert world.billed(subscription) == 0
    assert world.unbilled() == {subscription.items[0]: 14}


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_waits_already_is_carried_although_the_setting_changes(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way)
    use_late(world, subscription, 10)
    world.execute()
    world.configure('late_usage = "name"\n')
    world.execute()
    world.execute()
    assert world.billed(subscription) == 10
    end_the_period(world, subscription)
    assert (invoiced(world), world.unbilled()) == (11, {})


def test_a_late_decrease_that_the_brake_admits_is_carried_by_itself(world: World, way: str) -> None:
    world.configure(CARRY + "[brakes]\ndecrease_percent = 50\n")
    subscription = closed_period(world, way, used=30)
    use_late(world, subscription, -10)
    world.use(subscription, 25, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    world.execute()
    assert world.billed(subscription) == 15
    end_the_period(world, subscription)
    assert (invoiced(world), world.unbilled()) == (45, {})


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_was_carried_is_no_decrease_of_the_period_that_gives_it_back(world: World, way: str) -> None:
    world.configure(CARRY + "[brakes]\ndecrease_percent = 10\n")
    subscription = closed_period(world, way, used=100)
    use_late(world, subscription, 10)
    world.execute()
    world.execute()
    use_late(world, subscription, -10)
    world.execute()
    assert world.verdict(subscription) == "reported"
    assert (world.billed(subscription), world.unbilled()) == (0, {})


def test_a_period_with_what_is_out_of_proportion_is_held_also_if_it_is_late(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way, used=30)
    use_late(world, subscription, 1_000_000)
    world.execute()
    assert world.verdict(subscription) == "jump"
    assert world.billed(subscription) == 0


def test_verify_expects_what_was_carried(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way)
    use_late(world, subscription, 10)
    world.use(subscription, 5, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    world.execute()
    done = world.meter_sync("verify", "--output", "json")
    (item,) = done.document["items"]
    assert (item["outcome"], item["expected"], item["actual"], item["usage"]) == ("match", "15", "15", "5")


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_a_scale_that_changed_keeps_late_usage_out_of_the_next_period(world: World, way: str) -> None:
    """A thousand of the old unit are not a thousand of the new one."""
    subscription = closed_period(world, way)
    row = f'price = "{world.stripe.state.items[subscription.items[0]].price}"\nopenmeter = "{METER}"\nscale = "0.1"\n'
    world.configure(f"{CARRY}[[meters]]\n{row}")
    world.use(subscription, 50, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute(Reason.MAPPING_CHANGED)
    use_late(world, subscription, 10)
    world.execute()
    world.execute()
    assert world.billed(subscription) == 5
    assert world.unbilled() == {subscription.items[0]: 10}


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_was_carried_is_not_named_when_the_scale_changes_for_later_periods(world: World, way: str) -> None:
    """The next period has it, and goes on in the unit that it began with."""
    world.configure(CARRY)
    subscription = closed_period(world, way)
    use_late(world, subscription, 10)
    for _ in range(2):
        world.execute()
    assert world.billed(subscription) == 10
    row = f'price = "{world.stripe.state.items[subscription.items[0]].price}"\nopenmeter = "{METER}"\nscale = "2"\n'
    world.configure(f"{CARRY}[[meters]]\n{row}")
    for _ in range(2):
        world.execute()
        assert of_ended(world, subscription).reason is None
        assert (world.verdict(subscription), world.billed(subscription)) == ("unchanged", 10)
    end_the_period(world, subscription)
    assert (invoiced(world), world.unbilled()) == (11, {})


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_a_closed_period_keeps_its_scale_when_another_one_is_allowed_for_the_open_one(world: World, way: str) -> None:
    """A thousand that were billed are not nine hundred too many since the unit is another one now."""
    world.configure(CARRY)
    subscription = closed_period(world, way, used=1000)
    world.use(subscription, 50, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    row = f'price = "{world.stripe.state.items[subscription.items[0]].price}"\nopenmeter = "{METER}"\nscale = "0.1"\n'
    world.configure(f"{CARRY}[[meters]]\n{row}")
    for _ in range(2):
        world.execute(Reason.MAPPING_CHANGED, Reason.DECREASE)
    assert (world.billed(subscription), world.unbilled()) == (5, {})


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_waits_is_named_once_the_next_period_counts_in_another_unit(world: World, way: str) -> None:
    """The period that it is of is watched no more by then, and the next one had begun with nothing."""
    world.configure(CARRY)
    subscription = closed_period(world, way, used=30)
    use_late(world, subscription, -20)
    world.execute(Reason.DECREASE)
    world.sandbox.clock.advance(4 * DAY)
    world.execute()
    row = f'price = "{world.stripe.state.items[subscription.items[0]].price}"\nopenmeter = "{METER}"\nscale = "2"\n'
    world.configure(f"{CARRY}[[meters]]\n{row}")
    world.use(subscription, 10, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute(Reason.MAPPING_CHANGED)
    world.execute()
    assert of_ended(world, subscription).reason is Reason.PERIOD_CLOSED
    assert world.billed(subscription) == 20
    with world.books() as ledger:
        assert [(one.open_quantity, one.waits) for one in ledger.remainders.unbilled()] == [(-20, False)]
    world.execute()
    assert [one.reason for one in world.last_results] == [None]


def test_what_waits_is_named_once_a_trial_was_the_last_period(world: World) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, "record", used=30)
    use_late(world, subscription, -20)
    world.execute(Reason.DECREASE)
    world.stripe.start_trial(subscription.id, world.now + 10 * DAY)
    world.stripe.cancel_at_period_end(subscription.id)
    for _ in range(2):
        world.sandbox.clock.advance(6 * DAY)
        world.execute()
    world.execute()
    assert of_ended(world, subscription).reason is Reason.PERIOD_CLOSED
    with world.books() as ledger:
        assert [(one.open_quantity, one.waits) for one in ledger.remainders.unbilled()] == [(-20, False)]


def test_a_row_says_so_for_its_own_items_alone(world: World) -> None:
    carried, named = world.price, world.stripe.add_price(metadata={"om_meter_id": METER})
    world.configure(f'[[meters]]\nprice = "{carried}"\nopenmeter = "{METER}"\nlate_usage = "carry"\n')
    ones = [world.subscribe(price) for price in (carried, named)]
    for one in ones:
        world.use(one, 1, at=NOW - HOUR)
    world.execute()
    world.sandbox.clock.move_to(end_of(world, ones[0]) + 2 * HOUR)
    world.execute()
    for one in ones:
        use_late(world, one, 10)
    world.execute()
    world.execute()
    assert [world.billed(one) for one in ones] == [10, 0]
    assert world.unbilled() == {ones[1].items[0]: 10}


def test_what_waits_can_be_settled_by_hand_and_is_then_not_carried(world: World) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, "record", used=30)
    use_late(world, subscription, -20)
    world.use(subscription, 6, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    for _ in range(2):
        world.execute(Reason.DECREASE)
    place = subscription.items[0], PERIOD_START.isoformat()
    done = world.meter_sync("history", "--settle", *place, "--note", "credit note 7", "--output", "json")
    (row,) = done.document["settled"]
    assert (row["unbilled"], row["settled"], row["carried"]) == ("0", "-14", "-6")
    world.use(subscription, 40, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert world.billed(subscription) == 40
    assert world.unbilled() == {}


def carried(world: World) -> SubscriptionView:
    """Return a subscription with 10 of its closed period in its open one."""
    world.configure(CARRY)
    subscription = closed_period(world, "record")
    use_late(world, subscription, 10)
    world.use(subscription, 5, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    return subscription


def test_run_shows_what_is_carried_in_a_column_of_its_own(world: World) -> None:
    subscription = carried(world)
    rows = {row["period"]["start"]: row for row in world.run("--dry-run").document["items"]}
    ended, running = (rows[start] for start in sorted(rows))
    assert (running["usage"], running["carried"], running["quantity"]) == ("5", "10", "15")
    assert (ended["carried"], ended["carried_on"], ended["unbilled"]) == (None, "10", None)

    table = world.meter_sync("run", "--as-of", world.now.isoformat()).stdout
    heading = next(line for line in table.splitlines() if "customer" in line)
    assert heading.split()[-5:] == ["usage", "carried", "before", "quantity", "outcome"]
    assert world.billed(subscription) == 15


def test_without_anything_carried_there_is_no_such_column(world: World) -> None:
    closed_period(world, "record")
    table = world.meter_sync("run", "--as-of", world.now.isoformat()).stdout
    assert "carried" not in table


def test_history_shows_what_was_carried_from_where_to_where(world: World) -> None:
    subscription = carried(world)
    waits = world.meter_sync("history", "--unbilled", "--output", "json")
    assert waits.code == 0
    assert [(row["unbilled"], row["waits"]) for row in waits.document["unbilled"]] == [("10", True)]
    assert "10 not billed, waits for the next period of its item" in world.meter_sync("history", "--unbilled").stdout
    world.execute()
    assert world.meter_sync("history", "--unbilled").stdout == "Nothing was left unbilled.\n"

    item = subscription.items[0]
    entries = world.meter_sync("history", "--item", item, "--output", "json").document["entries"]
    assert [(one["quantity"], one["carried"]) for one in entries if one["kind"] == "carried"] == [("10", "10")]
    assert ("15", "10") in [(one["quantity"], one["carried"]) for one in entries if one["kind"] == "write"]
    heading = world.meter_sync("history", "--item", item).stdout.splitlines()[0]
    assert "usage  carried" in " ".join(heading.split()).replace("usage carried", "usage  carried")

    now = world.meter_sync("history", "--explain", item).stdout
    assert f"carried:      +10 of its period that began {PERIOD_START:%Y-%m-%dT%H:%M:%SZ}" in now
    assert "rounded (floor) to 5; with +10 that earlier periods do not bill" in now
    then = world.meter_sync("history", "--explain", item, "--period", PERIOD_START.isoformat()).stdout
    assert "carried on:   +10 in the quantity of its period that began 2025-07-01T09:30:17Z" in then


def test_what_a_lost_ledger_knew_as_carried_is_held_until_a_person_has_looked(world: World, way: str) -> None:
    world.configure(CARRY)
    subscription = closed_period(world, way)
    use_late(world, subscription, 10)
    world.use(subscription, 5, at=world.now - MINUTE)
    world.sandbox.clock.advance(2 * HOUR)
    for _ in range(2):
        world.execute()
    world.ledger.unlink()
    world.sandbox.clock.advance(2 * DAY)
    assert world.verdict(subscription) == "decrease"
    assert world.billed(subscription) == 15
