"""One item's trouble is its own: whatever goes wrong with it, all others are billed.

Runs are the program's own, in this process and over real HTTP; invoices are the sandbox's.
"""

import sqlite3
from datetime import timedelta

import pytest

from meter_sync.core.outcomes import ExitCode
from meter_sync.ledger import Scope, open_ledger
from meter_sync.ledger.webhook_queue import WebhookEvent
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.state.objects import Aggregation
from meter_sync.sandbox.stripe.world import SubscriptionView
from meter_sync.sync.request import RunReport
from tests.support.runs import executed
from tests.support.ways import ALL_WAYS, by_tier, end_of, invoiced, one_fast, subscribed
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


def change_ledger(world: World, *statements: str, **values: str) -> None:
    with sqlite3.connect(world.ledger) as ledger:
        for statement in statements:
            ledger.execute(statement, values)
    ledger.close()


BROKEN = {
    "way": "by_the_minute",
    "rounding": "stochastic",
    "aggregation": "PERCENTILE",
    "filter": '{"not": "whole',
    "subjects": "7",
    "scale": "a lot",
    "reported": "[[1, 2",
    "anchor": "noon",
    "period_end": "noon",
}


@pytest.mark.parametrize("column", BROKEN)
@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "record"))
def test_what_was_written_of_an_item_and_cannot_be_read_costs_that_item(world: World, way: str, column: str) -> None:
    troubled, other = subscribed(world, way), world.subscribe()
    for one in (troubled, other):
        world.use(one, 5)
    executed(world)
    place = {"value": BROKEN[column], "item": troubled.items[0]}
    statement = f"UPDATE item_periods SET {column} = :value WHERE item = :item"  # noqa: S608
    change_ledger(world, statement, **place)
    for one in (troubled, other):
        world.use(one, 2)
    report = executed(world)
    (result,) = [one for one in report.results if one.item.id == troubled.items[0]]
    assert (report.error, report.exit_code) == (None, ExitCode.PARTIAL)
    assert (str(result.outcome), str(result.reason)) == ("failed", "ledger_error")
    assert troubled.items[0] in str(result.message)
    assert "install the version again that wrote it" in str(result.message)
    assert [world.billed(one) for one in (troubled, other)] == [5, 7]


@pytest.mark.parametrize("place", one_fast(["runs.started_at", "epochs.epoch", "bindings.mode"], "runs.started_at"))
def test_what_cannot_be_read_of_the_books_themselves_ends_a_run_before_it_writes(world: World, place: str) -> None:
    table, column = place.split(".")
    subscription = world.subscribe()
    world.use(subscription, 5)
    world.execute()
    change_ledger(world, f"UPDATE {table} SET {column} = x'00ff'")  # noqa: S608
    world.use(subscription, 2)

    done = world.run()

    assert (done.code, done.error_code) == (1, "ledger_damaged")
    assert "put a backup back" in done.document["error"]["hint"]
    assert world.billed(subscription) == 5


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
def test_a_period_that_cannot_be_read_when_it_ends_is_named_and_listed_as_unknown_after_the_watch(
    world: World, way: str
) -> None:
    troubled, other = subscribed(world, way), world.subscribe()
    end = end_of(world, troubled)
    for one in (troubled, other):
        world.use(one, 5)
    executed(world)
    for one in (troubled, other):
        world.use(one, 2)
    world.sandbox.clock.move_to(end + MINUTE)
    unreadable = "UPDATE seen_periods SET snapshot = '{\"shape\": 2}' WHERE item = :item"
    change_ledger(world, unreadable, item=troubled.items[0])
    report = executed(world)
    said = {one.item.id: (str(one.outcome), str(one.reason)) for one in report.results if one.item.period.end == end}
    assert (report.error, said[troubled.items[0]]) == (None, ("failed", "ledger_error"))
    assert executed(world, dry_run=True).error is None
    for days in (1, 2, 5):
        world.sandbox.clock.move_to(end + days * DAY)
        assert executed(world).error is None
    assert invoiced(world) == 12
    listed = world.meter_sync("history", "--unbilled", "--output", "json").document["unbilled"]
    assert [(row["subscription_item"], row["unbilled"]) for row in listed] == [(troubled.items[0], None)]
    assert world.meter_sync("history", "--customer", world.customer_of(troubled)).code == 0


def refuse_rows(world: World, subscription: SubscriptionView, when: str, condition: str = "TRUE") -> None:
    """Have the ledger refuse rows about a subscription's item, from now on, until `take_rows`."""
    with open_ledger(world.ledger, Scope(account="", mode="sandbox")):
        pass
    refusing = f"NEW.item = '{subscription.items[0]}' AND {condition} BEGIN SELECT RAISE(ABORT, 'there already'); END"
    change_ledger(world, f"CREATE TRIGGER refusing BEFORE {when} WHEN {refusing}")


def take_rows(world: World) -> None:
    change_ledger(world, "DROP TRIGGER refusing")


def said_of(report: RunReport, subscription: SubscriptionView) -> list[tuple[str, str]]:
    return [(str(one.outcome), str(one.reason)) for one in report.results if one.item.id == subscription.items[0]]


@pytest.mark.parametrize("table", ["seen_periods", "writes"])
def test_what_the_ledger_does_not_take_of_one_item_costs_that_item(world: World, table: str) -> None:
    troubled, *others = (world.subscribe() for _ in range(4))
    for one in (troubled, *others):
        world.use(one, 5)
    refuse_rows(world, troubled, f"INSERT ON {table}")
    report = executed(world)
    assert (report.error, report.exit_code) == (None, ExitCode.PARTIAL)
    assert said_of(report, troubled) == [("failed", "ledger_error")]
    assert [world.billed(one) for one in (troubled, *others)] == [0, 5, 5, 5]
    take_rows(world)
    assert executed(world).exit_code is ExitCode.DONE
    assert world.billed(troubled) == 5


def test_what_the_ledger_does_not_take_in_the_midst_of_a_first_look_costs_that_item(world: World) -> None:
    troubled, *others = (world.subscribe() for _ in range(4))
    for one, used in ((troubled, 50), *((one, 5) for one in others)):
        world.use(one, used)
    elsewhere = world.stripe.period(troubled.items[0]).start + 7200
    world.stripe.create_usage_record(troubled.items[0], 30, elsewhere, "set")
    refuse_rows(world, troubled, "INSERT ON writes", "EXISTS (SELECT 1 FROM writes WHERE item = NEW.item)")
    for _ in range(2):
        report = executed(world)
        said = {one.item.id: (str(one.outcome), one.message) for one in report.results}
        assert (report.error, said[troubled.items[0]][0]) == (None, "failed"), said
        assert [world.billed(one) for one in others] == [5, 5, 5]
    take_rows(world)
    assert executed(world).exit_code is ExitCode.ATTENTION
    assert world.stripe.records(troubled.items[0])[elsewhere] == 30
    assert world.billed(troubled) == 30


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
@pytest.mark.parametrize("table", ["item_periods", "parts", "additions"])
def test_what_stripe_took_of_one_item_and_the_ledger_does_not_costs_that_item_and_is_resumed(
    world: World, way: str, table: str
) -> None:
    troubled, *others = (subscribed(world, way), *(world.subscribe() for _ in range(3)))
    everybody = [troubled, *others]
    for one in everybody:
        world.use(one, 5, at=NOW - DAY)
    executed(world)
    taken_at = "delivered_at" if table == "additions" else "acknowledged_at"
    refuse_rows(world, troubled, f"UPDATE OF {taken_at} ON {table}", f"NEW.{taken_at} IS NOT NULL")
    is_concerned = {"parts": way in ("hours", "days"), "additions": way == "additions"}.get(table, True)
    for hour in (1, 2):
        for one in everybody:
            world.use(one, 2, at=NOW - DAY)
        report = executed(world)
        assert (report.error, report.exit_code) == (None, ExitCode.PARTIAL if is_concerned else ExitCode.DONE)
        assert (said_of(report, troubled) == [("failed", "ledger_error")]) is is_concerned
        assert [world.billed(one) for one in others] == [5 + 2 * hour] * 3
        world.sandbox.clock.advance(HOUR)
    take_rows(world)
    assert executed(world).exit_code is ExitCode.DONE
    assert [world.billed(one) for one in everybody] == [9, 9, 9, 9]


def test_a_hold_that_the_ledger_does_not_take_costs_that_item(world: World) -> None:
    troubled, *others = (world.subscribe() for _ in range(4))
    for one in (troubled, *others):
        world.use(one, 5, at=NOW - DAY)
    executed(world)
    for one in (troubled, others[0]):
        world.use(one, -3, at=NOW - DAY)
    refuse_rows(world, troubled, "INSERT ON holds")
    world.sandbox.clock.advance(MINUTE)
    report = executed(world)
    assert (report.error, report.exit_code) == (None, ExitCode.PARTIAL)
    assert [said_of(report, one) for one in (troubled, *others[:2])] == [
        [("failed", "ledger_error")],
        [("held", "decrease")],
        [("unchanged", "None")],
    ]
    with open_ledger(world.ledger, Scope(account="", mode="sandbox")) as ledger:
        assert ledger.runs.past(None, None, 1)[0].exit_code == ExitCode.PARTIAL
    take_rows(world)
    assert said_of(executed(world), troubled) == [("held", "decrease")]


@pytest.mark.parametrize("way", by_tier(ALL_WAYS))
@pytest.mark.parametrize("change", ["INSERT", "UPDATE"])
def test_an_end_that_the_ledger_does_not_take_costs_that_item(world: World, way: str, change: str) -> None:
    troubled, *others = (subscribed(world, way), *(world.subscribe() for _ in range(3)))
    end = end_of(world, troubled)
    for one in (troubled, *others):
        world.use(one, 5)
    executed(world)
    world.sandbox.clock.move_to(end + 2 * MINUTE)
    for one in (troubled, *others):
        world.use(one, 2, at=end - 2 * DAY)
        world.use(one, 4, at=end + MINUTE)
    refuse_rows(world, troubled, f"{change} ON seen_periods")
    report = executed(world)
    assert (report.error, report.exit_code) == (None, ExitCode.PARTIAL)
    assert ("failed", "ledger_error") in said_of(report, troubled)
    assert [said_of(report, one) for one in others] == [[("reported", "None")] * 2] * 3
    take_rows(world)
    for _ in range(3):
        assert executed(world).error is None
        world.sandbox.clock.advance(2 * HOUR)
    assert (invoiced(world), world.unbilled()) == (28, {})
    assert [world.billed(one) for one in (troubled, *others)] == [4, 4, 4, 4]


def test_an_item_that_came_and_went_and_the_ledger_does_not_take_is_said_and_found_again(world: World) -> None:
    world.subscribe()
    executed(world)
    gone, other = world.subscribe(), world.subscribe()
    for one in (gone, other):
        world.use(one, 5, at=world.now + MINUTE)
    world.sandbox.clock.advance(HOUR)
    for one in (gone, other):
        world.stripe.cancel(one.id)
    refuse_rows(world, gone, "INSERT ON seen_periods")
    report = executed(world)
    assert (report.error, said_of(report, gone)) == (None, [("failed", "ledger_error")])
    world.sandbox.clock.advance(HOUR)
    assert said_of(executed(world), gone) == [("failed", "ledger_error")]
    take_rows(world)
    world.sandbox.clock.advance(HOUR)
    executed(world)
    assert world.unbilled() == {one.items[0]: 5 for one in (gone, other)}
