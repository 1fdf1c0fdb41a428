"""What another program reports, before, beside or after this one, is named, and no wrong quantity is left behind."""

from datetime import timedelta

import pytest

from meter_sync.core.outcomes import ExitCode
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.runs import executed
from tests.support.ways import ALL_WAYS, end_of, metered, one_fast
from tests.support.world import METER, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
EVERY_WAY = ["day_records", *ALL_WAYS]


def subscribed(world: World, way: str) -> SubscriptionView:
    if way == "day_records":
        world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nrecords = "day"\n')
    return metered(world, way) if way not in {"record", "day_records"} else world.subscribe()


def report_elsewhere(world: World, way: str, subscription: SubscriptionView, value: int) -> None:
    """Let another program report something, an hour ago."""
    at = int((world.now - HOUR).timestamp())
    if way in {"record", "day_records"}:
        world.stripe.create_usage_record(subscription.items[0], value, at, "set")
    else:
        payload = {"stripe_customer_id": world.customer_of(subscription), "value": str(value)}
        world.stripe.create_meter_event(f"{way}_{METER}", payload, at)


@pytest.mark.parametrize("way", one_fast(EVERY_WAY, "record"))
def test_usage_of_another_program_on_an_item_without_any_is_named_at_its_end(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    assert executed(world).exit_code is ExitCode.DONE
    world.sandbox.clock.advance(DAY)
    report_elsewhere(world, way, subscription, 500)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    if way in {"record", "day_records"}:  # Stripe might still take records of it
        world.execute()
        world.sandbox.clock.move_to(end + 3 * DAY + HOUR)

    (named,) = [one for one in executed(world).results if one.reason]

    assert (named.outcome, named.reason, named.lacking) == ("held", "foreign_usage", -500)
    assert world.stripe.invoices[0].lines[0].quantity == 500
    assert world.unbilled() == {subscription.items[0]: -500}
    world.sandbox.clock.advance(HOUR)
    assert executed(world).exit_code is ExitCode.DONE


@pytest.mark.parametrize("way", one_fast(["record", "day_records", "last"], "record"))
def test_an_item_without_usage_is_looked_at_once_in_each_period(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) + DAY)
    report_elsewhere(world, way, subscription, 500)

    for _ in range(2):
        assert world.verdict(subscription) == "foreign_usage"
        world.sandbox.clock.advance(HOUR)
    assert world.billed(subscription) == 500
    assert not world.writes

    report_elsewhere(world, way, subscription, 0)
    if way != "last":
        world.stripe.create_usage_record(subscription.items[0], 0, int((world.now - 3 * HOUR).timestamp()), "set")
    assert world.verdict(subscription) == "unchanged"
    world.sandbox.requests.clear()
    assert world.verdict(subscription) == "unchanged"
    assert not [*world.seen("GET", "/usage_record_summaries"), *world.seen("GET", "/event_summaries")]
