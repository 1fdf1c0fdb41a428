"""A webhook that says that a meter rejected something is about that, and never a run over all, however often.

The worker and its queue are the program's own, with pauses of no length; runs are counted in the ledger.
"""

import asyncio
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from meter_sync.core.outcomes import ExitCode
from meter_sync.core.telling.history import PastRun
from meter_sync.ledger import Scope
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from meter_sync.webhook.queue import Queue, Queues
from meter_sync.webhook.reporting import reporter
from meter_sync.webhook.worker import ATTEMPTS, Worker
from tests.support.runs import executed, settings
from tests.support.ways import NOT_FOUND, WAYS, by_tier, metered
from tests.support.world import NOW, World

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
SCOPE = Scope(account="", mode="sandbox")


def rejected(world: World, way: str) -> SubscriptionView:
    """Return a subscription of which Stripe has rejected what it took, as no run has read yet."""
    subscription = metered(world, way)
    world.use(subscription, 5, at=NOW - DAY)
    world.stripe.reject_meter_events_as = NOT_FOUND
    executed(world)
    world.stripe.reject_meter_events_as = None
    world.sandbox.clock.advance(MINUTE)
    return subscription


def always_failing(world: World) -> SubscriptionView:
    subscription = world.subscribe()
    world.use(subscription, 7, at=NOW - DAY)
    path = f"{subscription.items[0]}/usage_records$"
    world.sandbox.faults.add(Fault(server="stripe", method="POST", path=path, times=None, status=400))
    return subscription


def worked_off(world: World) -> list[ExitCode]:
    """Work off an event of a meter's errors until it is done or left, and return how each report of it ended."""
    codes, stop = list[ExitCode](), Stop()
    report = reporter(settings(world), world.sandbox.clock.now, stop)
    queues = Queues(world.ledger, world.sandbox.clock.now)
    queue = Queue(queues, SCOPE)

    async def counted(subscription: str | None) -> ExitCode:
        if subscription is not None:
            stop.request()
            return ExitCode.DONE
        codes.append(await report(None))
        if len(codes) == ATTEMPTS or codes[-1] in (ExitCode.DONE, ExitCode.ATTENTION):
            await queue.put("evt_last", "invoice.created", "sub_last")
        return codes[-1]

    async def work() -> None:
        await queue.put("evt_errors", "v1.billing.meter.error_report_triggered", None)
        async with asyncio.timeout(60):
            await Worker(queue, counted, stop, first_pause_seconds=0.0).work()

    try:
        asyncio.run(work())
    finally:
        queues.close()
    return codes


def runs(world: World) -> list[PastRun]:
    with world.books() as ledger:
        return ledger.runs.past(None, None, 100)


def waiting(world: World) -> list[str]:
    with world.books() as ledger:
        return [event.id for event in ledger.webhook_queue.waiting()]


@pytest.mark.parametrize("way", by_tier(WAYS))
def test_a_meters_error_event_is_one_run_about_what_was_rejected_whatever_other_item_fails(
    world: World, way: str
) -> None:
    always_failing(world)
    subscription, before = rejected(world, way), len(runs(world))
    world.sandbox.requests.clear()

    assert worked_off(world) == [ExitCode.ATTENTION]

    assert [one.everything for one in runs(world)[:-before]] == [False]
    assert world.seen("GET", "/v1/subscriptions") == []
    assert world.seen("POST", "/usage_records") == []
    assert waiting(world) == []
    executed(world)
    assert world.billed(subscription) == 5


def test_one_that_is_about_nothing_of_ours_lists_no_items(world: World) -> None:
    always_failing(world)
    executed(world)
    world.sandbox.requests.clear()
    assert worked_off(world) == [ExitCode.DONE]
    assert world.seen("GET", "/v1/subscriptions") == []


def test_what_was_rejected_and_always_fails_is_tried_so_often_and_then_left_to_the_next_full_run(world: World) -> None:
    subscription = rejected(world, "last")
    world.sandbox.faults.add(Fault(server="openmeter", path="/query$", times=None, status=500))

    with capture_logs() as logged:
        assert worked_off(world) == [ExitCode.FAILED] * ATTEMPTS

    assert [one["log_level"] for one in logged if one["event"] == "webhook_left"] == ["warning"]
    assert waiting(world) == ["evt_errors"]
    world.sandbox.faults.clear()
    for _ in range(2):
        executed(world)
    assert world.billed(subscription) == 5
    assert waiting(world) == []
