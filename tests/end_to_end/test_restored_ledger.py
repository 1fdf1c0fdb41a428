"""A ledger that was restored from a backup knows less than Stripe: it is recognised, and nothing is billed twice."""

import json
import sqlite3
from contextvars import copy_context
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from meter_sync import effects
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.backups import Restore, back_up, either_way, marker, restore_folder, restore_ledger
from tests.support.ways import ALL_WAYS, EVENTS, WAYS, end_of, invoiced, metered, metered_price, one_fast, subscribed
from tests.support.world import METER, World

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def as_of_its_time(world: World, *arguments: str) -> tuple[int, list[str]]:
    """Run the command; return its exit code, and which warnings it logged."""
    logged = world.meter_sync(
        "--log-format", "json", "run", "--output", "json", "--as-of", world.now.isoformat(), *arguments
    )
    return logged.code, [json.loads(line)["event"] for line in logged.stderr.splitlines()]


def restored(world: World, way: str, restore: Restore, ago: timedelta) -> SubscriptionView:
    """Let 10 be used and reported, a backup be made, 8 in three parts follow, the backup be restored, and 1 be used."""
    subscription = subscribed(world, way)
    world.use(subscription, 10)
    world.run()
    backup = back_up(world)
    for value in (5, 2, 1):
        world.sandbox.clock.advance(ago / 4)
        world.use(subscription, value)
        world.run()
    assert world.billed(subscription) == 18
    world.sandbox.clock.advance(ago / 4)
    restore(world, backup)
    world.use(subscription, 1)
    return subscription


@pytest.mark.parametrize("ago", [2 * HOUR, 3 * DAY], ids=["of today", "of three days ago"])
@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_a_ledger_from_a_backup_is_recognised_and_the_next_run_bills_the_usage_exactly(
    world: World, way: str, ago: timedelta
) -> None:
    subscription = restored(world, way, restore_ledger, ago)

    code, warned = as_of_its_time(world)

    assert (code, world.billed(subscription)) == (0, 19)
    assert "ledger_restored" in warned
    world.use(subscription, 1)
    code, warned = as_of_its_time(world)
    assert (code, world.billed(subscription)) == (0, 20)
    assert "ledger_restored" not in warned


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_where_all_beside_it_was_restored_too_nothing_is_added_to_what_stripe_does_not_hold(
    world: World, way: str
) -> None:
    """Stripe refuses within a day what it has already, and the run after that reads it."""
    subscription = restored(world, way, restore_folder, 2 * HOUR)

    first = world.run()

    assert first.code == (1 if way == "additions" else 0)
    assert world.billed(subscription) <= 19
    assert world.run().code == 0
    assert world.billed(subscription) == 19
    world.use(subscription, 1)
    world.run()
    assert world.billed(subscription) == 20


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_where_all_beside_it_was_restored_days_ago_stripe_is_read_before_anything_is_added(
    world: World, way: str
) -> None:
    """By then Stripe would take everything again."""
    subscription = restored(world, way, restore_folder, 4 * DAY)

    assert world.run().code == 0
    assert world.billed(subscription) == 19
    world.use(subscription, 1)
    assert world.run().code == 0
    assert world.billed(subscription) == 20


@either_way
def test_a_period_that_began_after_the_backup_is_read_too(world: World, restore: Restore) -> None:
    """The item is known, and of its new period nothing."""
    subscription = metered(world, "additions")
    end = end_of(world, subscription)
    world.use(subscription, 10)
    world.run()
    world.sandbox.clock.move_to(end - MINUTE)
    world.run()
    backup = back_up(world)
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.use(subscription, 5, at=end + HOUR)
    world.run()
    world.sandbox.clock.advance(3 * DAY)
    restore(world, backup)
    world.use(subscription, 1)

    world.run()

    assert (invoiced(world), world.billed(subscription)) == (10, 6)


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_in_a_period_that_began_after_the_backup_brakes_compare_with_what_stripe_holds(world: World, way: str) -> None:
    """The item is known to the ledger, and that anything was written in the period is not."""
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 10)
    world.run()
    backup = back_up(world)
    world.sandbox.clock.move_to(end + 2 * DAY)
    world.use(subscription, 50, at=end + DAY)
    world.run()
    restore_ledger(world, backup)
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "20"

    assert world.verdict(subscription) == "decrease"
    assert world.billed(subscription) == 50


def test_what_is_counted_anew_later_starts_at_what_was_read(world: World) -> None:
    subscription = restored(world, "additions", restore_folder, 4 * DAY)
    world.execute()
    world.use(subscription, 3)
    world.sandbox.faults.add(Fault(path=EVENTS, drop="after"))
    world.execute()
    world.use(subscription, 2)

    world.execute()

    assert world.billed(subscription) == 24


def test_what_was_read_after_a_silence_is_read_again_where_nothing_could_be_added(world: World) -> None:
    subscription = restored(world, "additions", restore_folder, 4 * DAY)
    world.sandbox.faults.add(Fault(path=EVENTS, status=400))
    assert world.verdict(subscription) == "stripe_error"
    world.use(subscription, 2)

    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 21


@either_way
def test_an_item_that_was_not_read_by_a_narrowed_run_is_read_by_the_next(world: World, restore: Restore) -> None:
    """What that one has made new again says nothing of the others."""
    price = metered_price(world, "additions")
    ours, other = (world.subscribe(price) for _ in range(2))
    for one in (ours, other):
        world.use(one, 10)
    world.run()
    backup = back_up(world)
    for one in (ours, other):
        world.use(one, 5)
    world.run()
    world.sandbox.clock.advance(3 * DAY)
    restore(world, backup)
    for one in (ours, other):
        world.use(one, 1)

    world.run("--customer", world.customer_of(ours))
    world.run()

    assert (world.billed(ours), world.billed(other)) == (16, 16)


@either_way
def test_what_fell_since_the_backup_is_a_decrease(world: World, restore: Restore) -> None:
    """Against what Stripe holds, not against what the ledger believes."""
    subscription = metered(world, "additions")
    world.use(subscription, 10)
    world.run()
    backup = back_up(world)
    world.use(subscription, 10)
    world.run()
    world.sandbox.clock.advance(DAY)
    restore(world, backup)
    world.openmeter.value_overrides[METER, world.customer_of(subscription)] = "15"

    assert world.run().verdict == ("held", "decrease")
    assert world.billed(subscription) == 20


def test_a_backup_from_the_middle_of_a_run_is_recognised(world: World) -> None:
    """Copies may be made while runs are at work."""
    subscription = metered(world, "additions")
    world.use(subscription, 10)
    world.execute()
    world.use(subscription, 5)

    def back_up_before_anything_is_sent(place: str, moment: str) -> None:
        if (place, moment) == ("stripe", "comes"):
            back_up(world)

    copy_context().run(watched, world, back_up_before_anything_is_sent)
    world.sandbox.clock.advance(3 * DAY)
    restore_ledger(world, world.folder / "backup")
    world.use(subscription, 1)

    with capture_logs() as logged:
        world.execute()

    assert "ledger_restored" in [entry["event"] for entry in logged]
    assert world.billed(subscription) == 16


def watched(world: World, watch: effects.Watch) -> None:
    """Run, and have every effect watched."""
    effects.watch(watch)
    world.execute()


class Killed(BaseException):
    """The program is as if it had been killed."""


def killed_between_ledger_and_marker(world: World) -> None:
    """Run until a new epoch is in the ledger, and end there."""
    before = marker(world).read_text()

    def kill(_place: str, moment: str) -> None:
        with sqlite3.connect(f"file:{world.ledger}?mode=ro", uri=True) as ledger:
            found = ledger.execute("SELECT epoch FROM epochs").fetchone()
        ledger.close()
        if moment == "comes" and found != (before,):
            raise Killed

    with pytest.raises(Killed):
        copy_context().run(watched, world, kill)
    assert marker(world).read_text() == before


def test_a_run_that_is_killed_between_ledger_and_marker_raises_no_alarm(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 10)
    world.execute()
    world.use(subscription, 5)
    for _ in range(2):
        killed_between_ledger_and_marker(world)
    assert world.billed(subscription) == 10
    world.sandbox.requests.clear()

    with capture_logs() as logged:
        world.execute()

    assert "ledger_restored" not in [entry["event"] for entry in logged]
    assert world.billed(subscription) == 15
    assert world.seen("GET", "/event_summaries") == []


def test_a_backup_from_before_such_an_end_is_recognised_all_the_same(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 10)
    world.execute()
    killed_between_ledger_and_marker(world)
    backup = back_up(world)
    world.use(subscription, 5)
    world.execute()
    world.sandbox.clock.advance(DAY)
    restore_ledger(world, backup)

    with capture_logs() as logged:
        world.execute()

    assert "ledger_restored" in [entry["event"] for entry in logged]
    assert world.billed(subscription) == 15


def test_a_dry_run_on_a_restored_ledger_says_so_and_changes_nothing(world: World) -> None:
    subscription = restored(world, "additions", restore_ledger, 2 * HOUR)
    files = {path: path.read_bytes() for path in world.ledger.parent.iterdir()}
    world.sandbox.requests.clear()

    code, warned = as_of_its_time(world, "--dry-run")

    assert (code, world.writes) == (0, [])
    assert warned.count("ledger_restored") == 1
    assert {path: path.read_bytes() for path in world.ledger.parent.iterdir()} == files
    shown = world.run("--dry-run").item
    assert (shown["outcome"], shown["previous"], shown["quantity"]) == ("planned", None, "19")
    as_of_its_time(world)
    assert world.billed(subscription) == 19


@either_way
@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_closing_runs_on_a_restored_ledger_bill_the_last_usage_once(world: World, way: str, restore: Restore) -> None:
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 10)
    world.execute()
    backup = back_up(world)
    world.sandbox.clock.move_to(end - 2 * HOUR)
    world.use(subscription, 5, at=end - 2 * DAY)
    world.execute()
    restore(world, backup)
    world.sandbox.clock.move_to(end - 2 * MINUTE)
    world.use(subscription, 1, at=end - 2 * DAY)
    for _ in range(3):
        world.execute(closing=3 * MINUTE, is_beside=True)
    world.sandbox.clock.move_to(end + 10 * MINUTE)
    world.execute()
    world.sandbox.clock.advance(2 * DAY)
    world.execute()

    assert (invoiced(world), world.unbilled()) == (16, {})


@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_a_period_that_has_ended_is_told_right_by_a_restored_ledger(world: World, way: str) -> None:
    """It was reported in full and read back after the backup, which knows only its beginning."""
    subscription = subscribed(world, way)
    end = end_of(world, subscription)
    world.use(subscription, 10)
    world.execute()
    backup = back_up(world)
    world.sandbox.clock.move_to(end - MINUTE)
    world.use(subscription, 5, at=end - 2 * DAY)
    world.execute()
    world.sandbox.clock.move_to(end + 2 * MINUTE)
    world.execute()
    world.sandbox.clock.advance(2 * DAY)
    world.execute()
    restore_ledger(world, backup)

    for _ in range(2):
        world.execute()
        world.sandbox.clock.advance(HOUR)

    assert (invoiced(world), world.unbilled()) == (15, {})


@pytest.mark.parametrize("way", one_fast(WAYS, "additions"))
def test_the_one_run_before_an_invoice_is_final_bills_it_in_full_with_a_restored_ledger(world: World, way: str) -> None:
    """What was added, or stamped last, just before the end is read again after it, too."""
    subscription = metered(world, way)
    end = end_of(world, subscription)
    world.sandbox.clock.move_to(end - 3 * HOUR)
    world.use(subscription, 10, at=end - 2 * DAY)
    world.execute()
    backup = back_up(world)
    for before in (7 * MINUTE, 3 * MINUTE, 2 * MINUTE, MINUTE):
        world.sandbox.clock.move_to(end - before)
        world.use(subscription, 1, at=end - 2 * DAY)
        world.execute()
    restore_ledger(world, backup)
    world.sandbox.clock.move_to(end + 10 * MINUTE)
    world.use(subscription, 2, at=end - 2 * DAY)

    world.execute()

    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    assert (invoiced(world), world.unbilled()) == (16, {})


@either_way
@pytest.mark.parametrize("way", one_fast(ALL_WAYS, "additions"))
def test_a_backup_of_two_months_ago_bills_and_names_nothing_twice(world: World, way: str, restore: Restore) -> None:
    """A whole period began and ended that it knows nothing of."""
    subscription = subscribed(world, way)
    world.use(subscription, 10)
    world.execute()
    backup = back_up(world)
    for _ in range(2):
        end = end_of(world, subscription)
        world.sandbox.clock.move_to(end + 3 * DAY)
        world.use(subscription, 5, at=end - 2 * DAY)
        world.use(subscription, 4, at=end + DAY)
        world.execute()
        world.sandbox.clock.advance(2 * DAY)
        world.execute()
    before = invoiced(world), world.billed(subscription), sum(world.unbilled().values())
    restore(world, backup)

    for _ in range(3):
        world.execute()
        world.sandbox.clock.advance(DAY)

    assert (invoiced(world), world.billed(subscription), sum(world.unbilled().values())) == before


def test_a_period_that_was_read_back_before_the_backup_stays_as_it_was_told(world: World) -> None:
    subscription = metered(world, "additions")
    end = end_of(world, subscription)
    world.use(subscription, 10)
    world.execute()
    world.sandbox.clock.move_to(end + 2 * HOUR)
    world.execute()
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    world.use(subscription, 3, at=end - HOUR)
    world.execute()
    assert world.unbilled() == {subscription.items[0]: 3}
    backup = back_up(world)
    world.use(subscription, 4)
    world.execute()
    restore_ledger(world, backup)

    world.execute()

    assert world.unbilled() == {subscription.items[0]: 3}
    assert (invoiced(world), world.billed(subscription)) == (10, 4)


@pytest.mark.parametrize("retry_seconds", [0, 5])
def test_a_lost_answer_to_what_stripe_has_already_is_not_taken_for_its_own(world: World, retry_seconds: int) -> None:
    """The repeat of a request is told that the event exists, which a run after the backup had sent."""
    subscription = metered(world, "additions")
    world.use(subscription, 10)
    world.execute()
    backup = back_up(world)
    world.use(subscription, 5)
    world.execute()
    restore_folder(world, backup)
    world.use(subscription, 2)
    world.sandbox.faults.add(Fault(path=EVENTS, drop="after"))
    world.execute(retry_seconds=retry_seconds)

    assert world.verdict(subscription) == "unsettled"
    assert world.billed(subscription) == 15
    world.sandbox.clock.advance(DAY)
    world.execute()
    assert world.billed(subscription) == 17


@pytest.mark.parametrize("retry_seconds", [0, 5])
def test_a_lost_answer_holds_nothing_up_where_the_ledger_knows_all(world: World, retry_seconds: int) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 10)
    world.execute()
    world.use(subscription, 5)
    world.sandbox.faults.add(Fault(path=EVENTS, drop="after"))
    world.execute(retry_seconds=retry_seconds)
    world.use(subscription, 2)

    assert world.verdict(subscription) == "reported"
    assert world.billed(subscription) == 17


def test_a_ledger_that_was_moved_without_its_marker_is_read_anew(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 10)
    world.run()
    marker(world).unlink()
    world.use(subscription, 5)

    code, warned = as_of_its_time(world)

    assert (code, warned.count("ledger_restored"), world.billed(subscription)) == (0, 1, 15)


def test_a_ledger_that_was_lost_is_not_called_restored(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 10)
    world.run()
    world.ledger.unlink()
    world.use(subscription, 5)

    code, warned = as_of_its_time(world)

    assert (code, warned, world.billed(subscription)) == (0, ["ledger_new"], 15)


def test_an_hourly_addition_costs_no_look_and_one_after_a_day_costs_one(world: World) -> None:
    subscription = metered(world, "additions")
    world.use(subscription, 10)
    world.execute()
    for wait, looks in ((HOUR, 0), (HOUR, 0), (DAY, 1)):
        world.sandbox.clock.advance(wait)
        world.use(subscription, 1)
        world.sandbox.requests.clear()
        world.execute()
        assert len(world.seen("GET", "/event_summaries")) == looks
    assert world.billed(subscription) == 13
