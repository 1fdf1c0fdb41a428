"""What was not read is not known: nothing is concluded from a request of Stripe's that failed, or may not be made.

Runs are the program's own, in this process and over real HTTP; invoices are the sandbox's.
"""

import json
from datetime import timedelta

import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.stages import Result
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import ALL_WAYS, by_tier, invoiced, one_fast, subscribed
from tests.support.world import NOW, PERIOD_START, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
INVOICES, EVENTS = "/v1/invoices$", "/v1/events$"


@pytest.fixture(params=by_tier(ALL_WAYS))
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fail(world: World, path: str, *, times: int | None = 1) -> None:
    world.sandbox.faults.add(Fault(server="stripe", method="GET", path=path, status=500, times=times))


def canceled_with_an_invoice(world: World, way: str) -> SubscriptionView:
    """Return a subscription that was canceled with a last invoice of the 100 that were reported."""
    subscription = subscribed(world, way)
    world.use(subscription, 100, at=NOW - 2 * DAY)
    world.execute()
    world.stripe.cancel(subscription.id, invoice_now=True)
    world.sandbox.clock.advance(2 * HOUR)
    return subscription


def ended(world: World, subscription: SubscriptionView) -> Result:
    return next(one for one in world.last_results if one.item.id == subscription.items[0])


def test_invoices_that_cannot_be_read_once_say_nothing_about_a_subscription_that_is_over(
    world: World, way: str
) -> None:
    subscription = canceled_with_an_invoice(world, way)
    fail(world, INVOICES)
    world.execute()
    assert world.unbilled() == {}
    assert [one for one in world.last_results if one.item.id == subscription.items[0]] == []
    world.execute()
    assert (invoiced(world), world.unbilled()) == (100, {})


def test_invoices_that_cannot_be_read_for_days_leave_unknown_what_they_bill(world: World, way: str) -> None:
    subscription = canceled_with_an_invoice(world, way)
    fail(world, INVOICES, times=None)
    for pause in (DAY, 2 * DAY, 2 * DAY):
        world.execute()
        assert world.meter_sync("history", "--unbilled").code == 0
        world.sandbox.clock.advance(pause)
    world.execute()
    said = ended(world, subscription)
    assert said.reason is Reason.PERIOD_CLOSED
    assert "it is not known whether an invoice bills it, since Stripe did not say for days" in (said.message or "")
    assert world.meter_sync("history", "--unbilled").code == 4


def canceled_and_not_to_be_read(world: World, way: str) -> SubscriptionView:
    """Return a canceled subscription with an invoice of 100 and 7 used later, of which the key cannot say so."""
    subscription = canceled_with_an_invoice(world, way)
    world.use(subscription, 7, at=NOW - 2 * DAY)
    world.stripe.keys["rk_test_narrow"] = frozenset(
        {
            "prices:read",
            "subscriptions:read",
            "usage_records:write",
            "billing_meters:read",
            "meter_events:write",
            "events:read",
        }
    )
    world.sandbox.stripe_key = "rk_test_narrow"
    world.execute()
    return subscription


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "hours"))
def test_a_key_that_may_not_read_invoices_leaves_unknown_whether_a_subscription_that_is_over_was_invoiced(
    world: World, way: str
) -> None:
    subscription = canceled_and_not_to_be_read(world, way)
    said = ended(world, subscription)
    assert said.reason is Reason.PERIOD_CLOSED
    assert "the key may not read invoices: 100 stand in Stripe, and 7 are not billed beyond these" in str(said.message)
    world.execute()
    assert ended(world, subscription).reason is None
    (row,) = world.meter_sync("history", "--unbilled", "--output", "json").document["unbilled"]
    assert (row["subscription_item"], row["unbilled"]) == (subscription.items[0], None)
    shown = world.meter_sync("history", "--unbilled").stdout
    assert "unknown" in shown


def with_invoices_forbidden_for_a_day(world: World, way: str, *, invoice_now: bool) -> SubscriptionView:
    """Return a subscription that was canceled when 100 were reported; 7 more were used."""
    subscription = subscribed(world, way)
    world.use(subscription, 100, at=NOW - 2 * DAY)
    world.execute()
    world.stripe.cancel(subscription.id, invoice_now=invoice_now)
    world.use(subscription, 7, at=NOW - 2 * DAY)
    fault = Fault(server="stripe", path=INVOICES, status=403, until=NOW + DAY, times=None)
    world.sandbox.faults.add(fault)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    return subscription


@pytest.mark.parametrize(("invoice_now", "left"), [(True, 7), (False, 107)])
def test_what_was_not_known_is_known_once_the_key_may_read_invoices(
    world: World, way: str, invoice_now: bool, left: int
) -> None:
    subscription = with_invoices_forbidden_for_a_day(world, way, invoice_now=invoice_now)
    assert world.meter_sync("history", "--unbilled", "--output", "json").document["unbilled"][0]["unbilled"] is None
    world.sandbox.clock.advance(DAY)
    world.execute()
    (row,) = world.meter_sync("history", "--unbilled", "--output", "json").document["unbilled"]
    assert (row["subscription_item"], row["unbilled"]) == (subscription.items[0], str(left))
    assert f"{left} are not billed in this period" in row["message"]
    world.execute()
    assert ended(world, subscription).reason is None


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_a_person_has_settled_as_unknown_stays_settled(world: World, way: str) -> None:
    subscription = with_invoices_forbidden_for_a_day(world, way, invoice_now=False)
    item, start = subscription.items[0], PERIOD_START.isoformat()
    assert world.meter_sync("history", "--settle", item, start, "--note", "billed by hand").code == 0
    for pause in (DAY, HOUR, DAY):
        world.sandbox.clock.advance(pause)
        world.execute()
        assert (ended(world, subscription).reason, world.unbilled()) == (None, {})


def come_and_gone(world: World, way: str) -> SubscriptionView:
    """Return a subscription that began and ended after the last run, in which 50 were used; the next run comes now."""
    world.subscribe()
    world.execute()
    subscription = subscribed(world, way, period_start=world.now)
    world.sandbox.clock.advance(30 * MINUTE)
    world.use(subscription, 50, at=world.now - 10 * MINUTE)
    world.stripe.cancel(subscription.id)
    world.sandbox.clock.advance(30 * MINUTE)
    return subscription


def run_three_times(world: World) -> None:
    for _ in range(3):
        world.execute()
        world.sandbox.clock.advance(2 * HOUR)


def test_a_marker_moves_only_over_what_was_read(world: World, way: str) -> None:
    """Events tell of a subscription that began and ended between two runs; one of these runs could not read them."""
    subscription = come_and_gone(world, way)
    fail(world, EVENTS)
    run_three_times(world)
    assert (invoiced(world), world.unbilled()) == (0, {subscription.items[0]: 50})


def test_what_became_of_a_subscription_is_asked_again_where_stripe_did_not_say(world: World, way: str) -> None:
    subscription = come_and_gone(world, way)
    fail(world, f"/v1/subscriptions/{subscription.id}$")
    run_three_times(world)
    assert (invoiced(world), world.unbilled()) == (0, {subscription.items[0]: 50})


def test_an_invoice_that_is_not_understood_is_the_matter_of_its_own_subscription(world: World, way: str) -> None:
    """The other one that is over is concluded; of this one nothing is until it is watched no more."""
    other = world.subscribe()
    world.use(other, 5, at=NOW - 2 * DAY)
    world.execute()
    world.stripe.cancel(other.id, invoice_now=True)
    odd = canceled_with_an_invoice(world, way)

    def without_lines(body: str) -> bytes:
        document = json.loads(body)
        for invoice in document["data"]:
            if invoice["parent"]["subscription_details"]["subscription"] == odd.id:
                invoice["lines"] = "none"
        return json.dumps(document).encode()

    world.sandbox.faults.add(Fault(server="stripe", path=INVOICES, rewrite=without_lines, times=None))
    world.execute()
    reasons = {one.item.id: one.reason for one in world.last_results}
    assert reasons == {odd.items[0]: Reason.UNKNOWN_TO_THIS_VERSION, other.items[0]: None}
    assert world.unbilled() == {}
    world.sandbox.clock.advance(5 * DAY)
    world.execute()
    assert "one of its invoices is not understood" in str(ended(world, odd).message)
    (row,) = world.meter_sync("history", "--unbilled", "--output", "json").document["unbilled"]
    assert (row["subscription_item"], row["unbilled"]) == (odd.items[0], None)
