"""One item's trouble is its own: whatever goes wrong with it, all others are billed.

Runs are the program's own, in this process and over real HTTP; invoices are the sandbox's.
"""

import asyncio
from datetime import timedelta

import pytest

from meter_sync.core.outcomes import ExitCode
from meter_sync.ledger import Scope, open_ledger
from meter_sync.ledger.webhook_queue import WebhookEvent
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import Aggregation
from meter_sync.sandbox.stripe.world import SubscriptionView
from meter_sync.webhook.reporting import reporter
from tests.support.runs import executed, settings
from tests.support.ways import end_of, invoiced
from tests.support.world import METER, NOW, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize("aggregate_usage", ["sum", "last_during_period", "max"])
@pytest.mark.parametrize("pause", [2 * MINUTE, 2 * HOUR])
def test_a_first_look_that_was_not_finished_is_concluded_at_the_end(
    world: World, aggregate_usage: Aggregation, pause: timedelta
) -> None:
    price = world.stripe.add_price(metadata={"om_meter_id": METER}, aggregate_usage=aggregate_usage)
    troubled, other = world.subscribe(price), world.subscribe()
    end = end_of(world, troubled)
    for one in (troubled, other):
        world.use(one, 10, at=NOW - HOUR)
    world.execute()
    world.ledger.unlink()
    world.sandbox.clock.move_to(end - MINUTE)
    world.sandbox.faults.add(
        Fault(method="GET", path=f"{troubled.items[0]}/usage_record_summaries$", skip=1, status=500)
    )
    assert executed(world).exit_code is not ExitCode.DONE

    world.sandbox.clock.move_to(end + pause)
    for one in (troubled, other):
        world.use(one, 7, at=end + MINUTE)
    for _ in range(2):
        report = executed(world)
        assert report.error is None
        world.sandbox.clock.advance(2 * HOUR)
    assert (invoiced(world), world.unbilled()) == (20, {})
    assert [world.billed(one) for one in (troubled, other)] == [7, 7]


def refuse_writes_of(world: World, subscription: SubscriptionView) -> None:
    """Have Stripe refuse whatever is written for a subscription, from now on."""
    path = f"{subscription.items[0]}/usage_records$"
    world.sandbox.faults.add(Fault(server="stripe", method="POST", path=path, times=None, status=400))


def queue_events(world: World, *subscriptions: str | None) -> None:
    """Queue an event for each subscription; None is one that names no subscription, of a meter's errors."""
    with open_ledger(world.ledger, Scope(account="", mode="sandbox")) as ledger:
        for subscription in subscriptions:
            ledger.webhook_queue.enqueue(WebhookEvent(f"evt_{subscription}", "any", subscription, world.now))


def waiting(world: World) -> list[str | None]:
    with open_ledger(world.ledger, Scope(account="", mode="sandbox")) as ledger:
        return [event.subscription for event in ledger.webhook_queue.waiting()]


def test_a_meters_error_event_is_done_by_one_run_whatever_item_fails(world: World) -> None:
    troubled, other = world.subscribe(), world.subscribe()
    for one in (troubled, other):
        world.use(one, 7)
    refuse_writes_of(world, troubled)

    async def reported() -> ExitCode:
        return await reporter(settings(world), world.sandbox.clock.now, Stop())(None)

    assert asyncio.run(reported()) is ExitCode.DONE
    assert executed(world).exit_code is ExitCode.PARTIAL
    assert [world.billed(one) for one in (troubled, other)] == [0, 7]


def test_a_full_run_does_what_is_queued_but_for_what_failed(world: World) -> None:
    troubled, other = world.subscribe(), world.subscribe()
    for one in (troubled, other):
        world.use(one, 7)
    refuse_writes_of(world, troubled)
    queue_events(world, troubled.id, other.id, None)
    assert executed(world).exit_code is ExitCode.PARTIAL
    assert waiting(world) == [troubled.id]
    world.sandbox.faults.clear()
    assert executed(world).exit_code is ExitCode.DONE
    assert waiting(world) == []
