"""Usage that fell and was held is not forgotten because later usage grows past what Stripe holds."""

from datetime import timedelta

import pytest

from meter_sync.core.outcomes import ExitCode, Reason
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.runs import executed
from tests.support.ways import ALL_WAYS, end_of, metered, one_fast
from tests.support.world import METER, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
EVERY_WAY = one_fast(["day_records", *ALL_WAYS], "record")


def subscribed(world: World, way: str) -> SubscriptionView:
    if way == "day_records":
        world.configure(f'[[meters]]\nprice = "{world.price}"\nopenmeter = "{METER}"\nrecords = "day"\n')
    return metered(world, way) if way not in {"record", "day_records"} else world.subscribe()


def lose_and_grow(world: World, way: str) -> SubscriptionView:
    """Return a subscription of which 100 of 100 were lost, and 120 used since: as OpenMeter says, 120 in all."""
    subscription = subscribed(world, way)
    world.use(subscription, 100)
    assert executed(world).exit_code is ExitCode.DONE
    world.use(subscription, -100)
    assert world.verdict(subscription) == "decrease"
    world.sandbox.clock.advance(2 * HOUR)
    world.use(subscription, 120)
    return subscription


@pytest.mark.parametrize("way", EVERY_WAY)
def test_what_was_lost_stays_named_though_later_usage_grew_past_it(world: World, way: str) -> None:
    subscription = lose_and_grow(world, way)
    for outcome in ("reported", "unchanged"):
        report = executed(world)
        (result,) = report.results
        assert (result.outcome, result.reason, report.exit_code) == (outcome, Reason.DECREASE, ExitCode.ATTENTION)
        assert "100 were lost on 2025-06-10T12:00:00Z" in str(result.message)
        assert world.billed(subscription) == 120
        world.sandbox.clock.advance(HOUR)


@pytest.mark.parametrize("way", EVERY_WAY)
def test_what_was_lost_is_named_no_more_once_it_has_come_back(world: World, way: str) -> None:
    subscription = lose_and_grow(world, way)
    world.execute()
    world.use(subscription, 99, at=world.now - 3 * HOUR)
    assert world.verdict(subscription) == "decrease"
    assert world.billed(subscription) == 219
    world.use(subscription, 1, at=world.now - 3 * HOUR)
    assert world.verdict(subscription) == "reported"
    assert executed(world).exit_code is ExitCode.DONE
    assert world.billed(subscription) == 220


@pytest.mark.parametrize("way", EVERY_WAY)
def test_what_was_lost_is_named_no_more_once_a_person_has_lifted_it(world: World, way: str) -> None:
    subscription = lose_and_grow(world, way)
    assert world.verdict(subscription, Reason.DECREASE, dry_run=True) == "planned"
    assert world.verdict(subscription) == "decrease"
    assert world.verdict(subscription, Reason.DECREASE) == "unchanged"
    assert executed(world).exit_code is ExitCode.DONE
    assert world.billed(subscription) == 120


def test_what_was_lost_again_is_named_beside_what_was_lost_before(world: World) -> None:
    subscription = lose_and_grow(world, "record")
    world.execute()
    world.use(subscription, -70)
    assert world.verdict(subscription) == "decrease"
    world.sandbox.clock.advance(2 * HOUR)
    world.use(subscription, 200)

    (result,) = executed(world).results

    assert (world.billed(subscription), result.outcome) == (250, "reported")
    for said in ("100 were lost on 2025-06-10T12:00:00Z", "70 were lost on 2025-06-10T14:00:00Z"):
        assert said in str(result.message)


def test_a_question_without_an_answer_does_not_clear_what_was_lost(world: World) -> None:
    subscription = lose_and_grow(world, "record")
    world.execute()
    world.use(subscription, 100, at=world.now - 3 * HOUR)
    world.sandbox.faults.add(Fault(path="/query$", skip=1, status=500))
    assert world.verdict(subscription) == "decrease"
    assert world.verdict(subscription) == "unchanged"


def test_a_ledger_that_was_lost_before_the_fall_keeps_it_too(world: World) -> None:
    subscription = subscribed(world, "record")
    world.use(subscription, 100)
    world.execute()
    world.ledger.unlink()
    world.use(subscription, -100)
    assert world.verdict(subscription) == "decrease"
    world.sandbox.clock.advance(2 * HOUR)
    world.use(subscription, 120)

    assert world.verdict(subscription) == "decrease"
    assert world.billed(subscription) == 120


@pytest.mark.parametrize("way", EVERY_WAY)
def test_what_was_lost_is_listed_as_unknown_when_its_period_is_over(world: World, way: str) -> None:
    subscription = lose_and_grow(world, way)
    world.execute()
    world.sandbox.clock.move_to(end_of(world, subscription) + 2 * HOUR)
    assert executed(world).exit_code is ExitCode.ATTENTION
    world.sandbox.clock.advance(3 * DAY)
    world.execute()

    listed = world.meter_sync("history", "--unbilled", "--output", "json")

    (one,) = listed.document["unbilled"]
    assert (listed.code, one["unbilled"]) == (4, None)
    assert "100 were lost on" in one["message"]


def test_an_explanation_says_what_was_lost(world: World) -> None:
    subscription = lose_and_grow(world, "record")
    world.execute()
    told = world.meter_sync("history", "--explain", subscription.items[0]).stdout
    assert "100 were lost on 2025-06-10T12:00:00Z, when usage fell from 100 to 0" in " ".join(told.split())
