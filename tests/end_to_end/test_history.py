"""`meter-sync history`: what was left unbilled is listed until a person has marked it as settled."""

import csv
import io
import json
from datetime import timedelta

import pytest

from meter_sync.sandbox.stripe_world import SubscriptionView
from tests.end_to_end.test_meter_mishaps import end_of
from tests.end_to_end.world import NOW, PERIOD_START, World

START = "2025-06-01T09:30:17Z"


@pytest.fixture
def left(world: World) -> SubscriptionView:
    """A subscription of whose ended period 10 are not billed."""
    subscription = world.subscribe()
    world.use(subscription, 1, at=NOW - timedelta(hours=1))
    world.execute()
    end = end_of(world, subscription)
    world.use(subscription, 10, at=end - timedelta(days=1))
    world.sandbox.clock.move_to(end + timedelta(hours=2))
    world.execute()
    return subscription


def test_what_was_left_unbilled_is_listed_in_every_output_and_asks_for_a_look(
    world: World, left: SubscriptionView
) -> None:
    before = len(world.sandbox.requests)
    table = world.meter_sync("history", "--unbilled")
    assert (table.code, "10 not billed" in table.stdout, left.items[0] in table.stdout) == (4, True, True)
    (row,) = json.loads(world.meter_sync("history", "--unbilled", "--output", "json").stdout)["unbilled"]
    assert (row["subscription_item"], row["unbilled"], row["period_start"]) == (left.items[0], "10", START)
    (line,) = csv.DictReader(io.StringIO(world.meter_sync("history", "--unbilled", "--output", "csv").stdout))
    assert line["unbilled"] == "10"
    assert len(world.sandbox.requests) == before


def test_what_was_settled_is_listed_no_more_until_more_is_left(world: World, left: SubscriptionView) -> None:
    settled = world.meter_sync("history", "--settle", left.items[0], START, "--note", "invoice item ii_1")
    assert (settled.code, "10 of" in settled.stdout) == (0, True)
    assert world.meter_sync("history", "--unbilled").code == 0
    world.use(left, 3, at=PERIOD_START + timedelta(days=20))
    world.execute()
    assert world.unbilled() == {left.items[0]: 3}


def test_only_what_is_open_can_be_settled_and_only_with_a_note(world: World, left: SubscriptionView) -> None:
    unknown = world.meter_sync("history", "--settle", "si_other", START, "--note", "x")
    assert (unknown.code, "nothing is open of si_other" in unknown.stderr) == (1, True)
    assert world.meter_sync("history", "--settle", left.items[0], START).code == 2
    assert world.meter_sync("history", "--settle", left.items[0], START, "--note", " ").code == 2
    assert world.meter_sync("history").code == 2
    assert world.unbilled() == {left.items[0]: 10}


def test_the_run_says_how_much_is_not_billed_for_programs_too(world: World, left: SubscriptionView) -> None:
    world.use(left, 5, at=PERIOD_START + timedelta(days=20))
    rows = world.run().document["items"]
    assert [row["unbilled"] for row in rows if row["reason"] == "period_closed"] == ["15"]
