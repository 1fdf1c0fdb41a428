"""What a message or the help tells a person to do brings about what it says.

Runs are the program's own, in this process and over real HTTP to the sandbox.
"""

from datetime import timedelta

import pytest

from meter_sync.core.outcomes import Outcome, Reason
from meter_sync.sandbox.stripe.state.objects import MeterEvent
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.end_to_end.test_verify import compared
from tests.support.ways import ALL_WAYS, by_tier, end_of, invoiced, metered, subscribed
from tests.support.world import ANCHOR, METER, NOW, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def events(world: World) -> list[MeterEvent]:
    return [one for those in world.stripe.state.meter_events.values() for one in those]


def lose(world: World, subscription: SubscriptionView, way: str) -> None:
    """Let Stripe hold no more of what it took."""
    if way == "record":
        world.stripe.create_usage_record(subscription.items[0], 0, ANCHOR, "set")
    for event in events(world):
        world.stripe.cancel_meter_event(event.event_name, event.identifier)
    assert world.billed(subscription) == 0


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_resend_sets_again_what_stripe_has_lost(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    world.use(subscription, 7)
    world.execute()
    lose(world, subscription, way)
    world.sandbox.clock.advance(DAY)
    one = compared(world, subscription, schedule="daily")
    assert "--resend" in str(one.message)
    assert world.verdict(subscription, resend=True) == "reported"
    assert world.billed(subscription) == 7
    world.sandbox.clock.advance(HOUR)
    assert world.verdict(subscription) == "unchanged"


def test_resend_takes_off_what_another_program_added(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 50)
    world.execute()
    customer = world.customer_of(subscription)
    world.stripe.create_meter_event(f"additions_{METER}", {"stripe_customer_id": customer, "value": "30"})
    world.sandbox.clock.advance(HOUR)
    assert "--resend" in str(compared(world, subscription).message)
    assert world.verdict(subscription, resend=True) == "reported"
    assert world.billed(subscription) == 50


def test_resend_adds_nothing_twice_while_a_summary_may_lag(world: World) -> None:
    world.stripe.summary_lag_seconds = 3 * 3600
    subscription = metered(world, "additions")
    world.use(subscription, 50)
    world.execute()
    world.sandbox.clock.advance(HOUR)
    held = world.execute(resend=True)[subscription.items[0]]
    assert (held.outcome, held.reason) == (Outcome.HELD, Reason.UNSETTLED)
    assert "0 of the 50" in str(held.message)
    world.sandbox.clock.advance(DAY)
    assert world.verdict(subscription, resend=True) == "unchanged"
    assert world.billed(subscription) == 50


def test_resend_says_where_it_cannot_tell_what_lacks(world: World) -> None:
    meter = world.stripe.add_meter("together", formula="sum")
    prices = [world.stripe.add_price(meter=meter, metadata={"om_meter_id": METER}) for _ in range(2)]
    rows = (f'[[meters]]\nprice = "{price}"\nopenmeter = "{METER}"\nshared = true\n' for price in prices)
    world.configure("".join(rows))
    subscription = world.subscribe(prices[0])
    world.use(subscription, 5)
    world.execute()
    held = world.execute(resend=True)[subscription.items[0]]
    assert (held.outcome, held.reason) == (Outcome.HELD, Reason.UNSETTLED)
    assert "--resend cannot tell" in str(held.message)
    assert len(events(world)) == 1


def test_a_billing_meter_that_is_reactivated_is_reported_again(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 5)
    meter = str(world.stripe.state.prices[world.stripe.state.items[subscription.items[0]].price].meter)
    world.stripe.deactivate_meter(meter)
    skipped = world.execute()[subscription.items[0]]
    assert "reactivate it" in str(skipped.message)
    world.stripe.reactivate_meter(meter)
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 5


def test_metadata_on_the_price_maps_its_items(world: World) -> None:
    price = world.stripe.add_price()
    subscription = world.subscribe(price)
    world.use(subscription, 5)
    skipped = world.execute()[subscription.items[0]]
    assert "set metadata om_meter_id on the price" in str(skipped.message)
    world.stripe.state.prices[price].metadata["om_meter_id"] = METER
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 5


def test_a_meter_that_is_created_in_openmeter_is_asked(world: World) -> None:
    price = world.stripe.add_price(metadata={"om_meter_id": "tokens"})
    subscription = world.subscribe(price)
    skipped = world.execute()[subscription.items[0]]
    assert "OpenMeter has no meter 'tokens': create it" in str(skipped.message)
    world.openmeter.add_meter("tokens", aggregation="SUM")
    world.use(subscription, 5, meter="tokens")
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 5


TWO = {
    "one item is removed": None,
    "owner": 'price = "{first}"\nopenmeter = "{meter}"\nowner = true\n',
    "shared": 'price = "{first}"\nopenmeter = "{meter}"\nshared = true\n[[meters]]\nprice = "{second}"\n'
    'openmeter = "{meter}"\nshared = true\n',
    "filter": 'price = "{first}"\nopenmeter = "by_region"\nfilter = {{ region = "eu" }}\n[[meters]]\n'
    'price = "{second}"\nopenmeter = "by_region"\nfilter = {{ region = "us" }}\n',
}
"""What is to be done where the same usage would be billed by two items, as the message of `duplicate_usage` says."""


@pytest.mark.parametrize("remedy", TWO)
def test_what_two_items_would_bill_is_reported_once_it_is_said_which_bills_it(world: World, remedy: str) -> None:
    world.openmeter.add_meter("by_region", event_type=METER, group_by={"region": "$.region"})
    first, second = world.price, world.stripe.add_price(metadata={"om_meter_id": METER})
    subscription = world.subscribe(first, second)
    world.use(subscription, 5)
    held = world.execute()
    assert {one.reason for one in held.values()} == {Reason.DUPLICATE_USAGE}
    assert "owner = true" in str(held[subscription.items[0]].message)
    assert "shared = true" in str(held[subscription.items[0]].message)
    row = TWO[remedy]
    if row is None:
        world.stripe.delete_item(subscription.items[1])
        world.execute()  # finds that it is gone; the next run knows whose the usage is
    else:
        world.configure("[[meters]]\n" + row.format(first=first, second=second, meter=METER))
    done = world.execute()
    assert done[subscription.items[0]].reason is None
    billed = [world.stripe.total(item) for item in subscription.items if item in done]
    assert billed == {"shared": [5, 5], "filter": [0, 0]}.get(remedy, [5] if row is None else [5, 0])


def test_records_of_the_whole_period_hold_what_does_not_add_up_over_days(world: World) -> None:
    world.openmeter.add_meter("peak", aggregation="MAX")
    price = world.stripe.add_price(metadata={"om_meter_id": "peak"})
    subscription = world.subscribe(price)
    world.use(subscription, 5, meter="peak")
    row = f'[[meters]]\nprice = "{price}"\nopenmeter = "peak"\nrecords = '
    world.configure(f'{row}"day"\n')
    held = world.execute()[subscription.items[0]]
    assert held.reason is Reason.AGGREGATION_MISMATCH
    assert "set records to period" in str(held.message)
    world.configure(f'{row}"period"\n')
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 5


def test_a_billing_meter_whose_last_event_counts_holds_what_does_not_add_up_over_hours(world: World) -> None:
    world.openmeter.add_meter("peak", aggregation="MAX")
    windows = world.stripe.add_meter("by_hours", formula="sum", window="hour")
    subscription = world.subscribe(world.stripe.add_price(meter=windows, metadata={"om_meter_id": "peak"}))
    world.use(subscription, 5, meter="peak")
    held = world.execute()[subscription.items[0]]
    assert held.reason is Reason.AGGREGATION_MISMATCH
    assert "a billing meter with formula last and no window" in str(held.message)
    last = world.stripe.add_meter("by_last", formula="last")
    other = world.subscribe(world.stripe.add_price(meter=last, metadata={"om_meter_id": "peak"}))
    world.use(other, 6, meter="peak")
    assert world.verdict(other) == "reported"
    assert world.billed(other) == 6


def test_a_customer_that_is_created_in_openmeter_is_asked_for(world: World) -> None:
    world.configure('[mapping]\nsubject = "openmeter.customer"\n')
    subscription = world.subscribe()
    world.use(subscription, 5)
    held = world.execute()[subscription.items[0]]
    assert held.reason is Reason.NO_SUBJECT
    assert "create it there" in str(held.message)
    world.openmeter.add_customer(world.customer_of(subscription))
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 5


def test_a_subject_that_is_set_in_stripe_is_asked_for(world: World) -> None:
    world.configure('[mapping]\nsubject = "customer.metadata.subject"\n')
    customer = world.stripe.add_customer()
    subscription = world.subscribe(customer=customer)
    world.use("acme", 5)
    held = world.execute()[subscription.items[0]]
    assert held.reason is Reason.NO_SUBJECT
    assert "set it in Stripe" in str(held.message)
    world.stripe.state.customers[customer].metadata["subject"] = "acme"
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 5


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_metadata_that_is_set_when_a_period_is_over_says_what_was_used_in_it(world: World, way: str) -> None:
    subscription = subscribed(world, way)
    price = world.stripe.state.items[subscription.items[0]].price
    world.stripe.state.prices[price].metadata.clear()
    world.use(subscription, 40, at=NOW - DAY)
    end_and_mend(world, subscription, world.stripe.state.prices[price].metadata, om_meter_id=METER)
    assert (invoiced(world), world.unbilled()) == (0, {subscription.items[0]: 40})


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_a_subject_that_is_set_when_a_period_is_over_says_what_was_used_in_it(world: World, way: str) -> None:
    world.configure('[mapping]\nsubject = "customer.metadata.subject"\n')
    customer = world.stripe.add_customer()
    subscription = subscribed(world, way, customer=customer)
    world.use("acme", 40, at=NOW - DAY)
    end_and_mend(world, subscription, world.stripe.state.customers[customer].metadata, subject="acme")
    assert (invoiced(world), world.unbilled()) == (0, {subscription.items[0]: 40})


def end_and_mend(world: World, subscription: SubscriptionView, metadata: dict[str, str], **lacking: str) -> None:
    """Run past the end of a period, and on once metadata is set that a message named as lacking."""
    end = end_of(world, subscription)
    for instant in (NOW, end + DAY):
        world.sandbox.clock.move_to(instant)
        said = str(next(iter(world.execute().values())).message)
        assert all(key in said for key in lacking)
    metadata.update(lacking)
    for instant in (end + 2 * DAY, end + 4 * DAY):
        world.sandbox.clock.move_to(instant)
        world.execute()


def test_an_item_is_reported_once_its_billing_thresholds_are_removed(world: World) -> None:
    subscription = world.subscribe(billing_thresholds={"amount_gte": 1000})
    world.use(subscription, 5)
    held = world.execute()[subscription.items[0]]
    assert held.reason is Reason.BILLING_THRESHOLDS
    assert "remove them" in str(held.message)
    world.stripe.state.subscriptions[subscription.id].billing_thresholds = None
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 5


def test_an_item_is_reported_once_another_programs_records_are_set_to_zero(world: World) -> None:
    subscription = world.subscribe()
    world.stripe.create_usage_record(subscription.items[0], 30, ANCHOR + 3600, "set")
    world.use(subscription, 5)
    held = world.execute(Reason.DECREASE)[subscription.items[0]]
    assert held.reason is Reason.FOREIGN_USAGE
    assert "set its records to zero" in str(held.message)
    world.stripe.create_usage_record(subscription.items[0], 0, ANCHOR + 3600, "set")
    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 5
