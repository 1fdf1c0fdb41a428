"""`meter-sync status`: whether all is well, from the ledger alone."""

import csv
import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meter_sync.core.outcomes import Reason
from meter_sync.sandbox import Fault
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.world import Outcome, World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A sandbox in which it is now, as it is for the command."""
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0))
    with world.sandbox.in_background():
        yield world


def status(world: World, *options: str) -> Outcome:
    before = len(world.sandbox.requests)
    done = world.meter_sync("status", *options, STRIPE_API_KEY="", OPENMETER_API_KEY="")
    assert len(world.sandbox.requests) == before, "it asks no server"
    return done


def subscribed(world: World) -> SubscriptionView:
    """Subscribe a customer since five days ago, who used 100."""
    subscription = world.subscribe(period_start=world.now - 5 * DAY)
    world.use(subscription, 100, at=world.now - DAY)
    return subscription


def test_all_is_well_where_nothing_is_held_unbilled_or_overdue(world: World) -> None:
    subscription = subscribed(world)
    (item,) = subscription.items
    world.execute()
    done = status(world, "--output", "json")
    found = done.document
    assert (done.code, found["exit_code"], found["held"], found["unbilled"]) == (0, 0, [], [])
    (run,) = found["runs"]["last"]
    assert (run["everything"], run["exit_code"], run["counts"]) == (True, 0, {"reported": 1})
    assert (found["runs"]["overdue_since"], found["runs"]["last_complete_at"]) == (None, run["started_at"])
    assert found["due"]["next_period_end"] > run["started_at"]
    assert (found["due"]["within_a_day"], found["due"]["ended_and_unreported"]) == (0, 0)
    books = {name: found["ledger"][name] for name in ("path", "items", "periods", "writes")}
    assert books == {"path": str(world.ledger), "items": 1, "periods": 1, "writes": 1}
    assert found["ledger"]["bytes"] == world.ledger.stat().st_size
    shown = status(world).stdout
    assert item not in shown
    assert shown.endswith("All is well.\n")


def test_what_is_held_is_named_with_since_when_until_it_is_reported(world: World) -> None:
    subscription = subscribed(world)
    (item,) = subscription.items
    world.execute()
    world.use(subscription, -60, at=world.now - HOUR)
    world.sandbox.clock.advance(timedelta(minutes=1))
    world.execute()
    done = status(world, "--output", "json")
    (held,) = done.document["held"]
    assert (done.code, held["subscription_item"], held["reason"]) == (4, item, "decrease")
    assert held["since"] >= done.document["runs"]["last"][0]["started_at"]
    assert f"{item}  decrease since" in status(world).stdout
    (line,) = csv.DictReader(io.StringIO(status(world, "--output", "csv").stdout))
    assert (line["kind"], line["subscription_item"], line["reason"]) == ("held", item, "decrease")

    world.sandbox.clock.advance(timedelta(minutes=1))
    world.execute(Reason.DECREASE)
    assert (status(world).code, status(world, "--output", "json").document["held"]) == (0, [])


def test_what_is_held_stays_so_while_runs_end_in_an_error(world: World) -> None:
    subscription = subscribed(world)
    world.execute()
    world.use(subscription, -60, at=world.now - HOUR)
    world.sandbox.clock.advance(timedelta(minutes=1))
    world.execute()
    world.sandbox.clock.advance(timedelta(minutes=1))
    world.sandbox.faults.add(Fault(server="stripe", status=503, times=None))
    world.execute()

    assert [one["reason"] for one in status(world, "--output", "json").document["held"]] == ["decrease"]


def test_what_is_unbilled_is_named_until_it_is_settled(world: World) -> None:
    subscription = subscribed(world)
    (item,) = subscription.items
    world.execute()
    world.use(subscription, 7, at=world.now - HOUR)
    world.stripe.cancel(subscription.id)
    world.sandbox.clock.advance(2 * HOUR)
    world.execute()
    done = status(world, "--output", "json")
    (one,) = done.document["unbilled"]
    assert (done.code, one["subscription_item"]) == (4, item)
    assert f"{item}  {one['unbilled']} not billed" in status(world).stdout
    assert world.meter_sync("history", "--settle", item, one["period"]["start"], "--note", "by hand").code == 0
    assert status(world, "--output", "json").document["unbilled"] == []


def test_a_run_that_is_overdue_is_said_with_since_when_nothing_was_billed(world: World) -> None:
    subscribed(world)
    world.sandbox.clock.move_to(world.now - 3 * HOUR)
    began = world.now
    world.execute()
    done = status(world, "--output", "json")
    assert (done.code, done.document["runs"]["overdue_since"]) == (4, began.isoformat().replace("+00:00", "Z"))
    assert "OVERDUE: nothing was billed since" in status(world).stdout
    assert status(world, "--output", "json").document["runs"]["schedule"] == "hourly"


def test_by_a_daily_schedule_it_is_not(world: World) -> None:
    subscribed(world)
    world.sandbox.clock.move_to(world.now - 3 * HOUR)
    world.execute()
    assert world.meter_sync("status", METER_SYNC_SCHEDULE="daily").code == 0


def test_what_ends_soon_and_what_has_ended_is_counted(world: World) -> None:
    for days in (30.5, 31):
        world.subscribe(period_start=world.now - timedelta(days=days))
    world.execute()
    due = status(world, "--output", "json").document["due"]
    assert due["within_a_day"] + due["ended_and_unreported"] > 0


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_a_ledger_that_no_run_has_used_is_no_all_clear(world: World, output: str) -> None:
    done = status(world, "--output", output)
    assert (done.code, str(world.ledger) in done.stderr) == (1, True)


def test_a_last_run_that_failed_is_no_all_clear(tmp_path: Path) -> None:
    world = World(tmp_path, datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5))
    with world.sandbox.in_background():
        subscribed(world)
        world.execute()
        assert world.meter_sync("run", STRIPE_API_KEY="sk_test_wrong").code == 78

        done = status(world, "--output", "json")

        assert (done.code, done.document["runs"]["last_ended_with"]) == (4, 78)
        assert "the last run FAILED, with exit code 78" in status(world).stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_run_of_root_leaves_the_files_to_whom_the_ledger_belongs(world: World) -> None:
    subscribed(world)
    world.execute()
    for file in (world.ledger.parent, *world.ledger.parent.iterdir()):
        os.chown(file, 65534, 65534)
    world.sandbox.clock.advance(HOUR)
    world.execute()

    owners = {file.name: file.stat().st_uid for file in world.ledger.parent.iterdir()}

    assert set(owners.values()) == {65534}, owners
    assert any(name.endswith(".epoch") for name in owners)
