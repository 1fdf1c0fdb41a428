"""`meter-sync ledger check`: each promise about the books in one ledger that breaks it, and in one that does not."""

import sqlite3
from contextlib import closing
from datetime import timedelta

from meter_sync.ledger.checking import CheckResult, check_ledger
from meter_sync.ledger.checks import CHECKS
from tests.support.ways import metered
from tests.support.world import World


def check(world: World) -> dict[str, CheckResult]:
    """What is found in the ledger, by the names of the checks."""
    return {one.check: one for one in check_ledger(world.place, world.now)}


def played(world: World) -> None:
    """Play some days with each way of telling Stripe, and a hold."""
    prices = [metered(world, way) for way in ("additions", "hours", "last")]
    subscriptions = [*prices, world.subscribe()]
    for _ in range(3):
        for one in subscriptions:
            world.use(one, 10)
        world.execute()
        world.sandbox.clock.advance(timedelta(days=1))


def change(world: World, *statements: str) -> None:
    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        for one in statements:
            assert connection.execute(one).rowcount > 0, one


BROKEN = {
    "values": "update writes set quantity = 'ten'",
    "books": "update runs set mode = 'live'",
    "periods": "update seen_periods set period_end = period_start - 1",
    "state": "delete from item_periods",
    "writes": "delete from item_periods where way = 'record'",
    "written": "update item_periods set acknowledged = acknowledged + 1 where way = 'record'",
    "windows": "update parts set value = value + 1, acknowledged = acknowledged + 1",
    "additions": "update additions set value = value + 1",
    "packed": "update past_writes set how_many = how_many + 1",
    "identifiers": "insert into parts select account, mode, item, period_start, start + 3600, timestamp, total, value, "
    "acknowledged, acknowledged_at, identifier, request_id from parts",
    "carries": "insert into carries select account, mode, item, 1, period_start, 5 from item_periods",
    "settled": "update seen_periods set settled = 1",
    "kept_usage": "insert into kept_totals values ('', 'sandbox', 'none', 'cus_x', '[]')",
    "run_numbers": "insert into run_numbers values ('', 'sandbox', 'a', 9), ('', 'sandbox', 'b', 9)",
    "claims": "insert into claims values ('', 'sandbox', 'si_x', 'run', 0, 9999999999)",
}
"""A statement that breaks each promise."""


def test_what_runs_leave_behind_is_whole_and_each_promise_that_is_broken_is_named(world: World) -> None:
    played(world)
    assert {name: one.found for name, one in check(world).items() if one.status != "ok"} == {}
    sound = world.ledger.read_bytes()

    for name, statement in BROKEN.items():
        world.ledger.write_bytes(sound)
        change(world, statement)
        assert check(world)[name].status == "wrong", name
    assert {*BROKEN, "database"} == {"database", "values", "books", *CHECKS}


def test_a_damaged_file_is_named_and_nothing_else_is_made_of_it(world: World) -> None:
    played(world)
    content = bytearray(world.ledger.read_bytes())
    content[2 * 4096 : 3 * 4096] = b"\xff" * 4096
    world.ledger.write_bytes(content)

    done = world.meter_sync("ledger", "check", "--output", "json")

    assert done.code in (1, 4)
    statuses = {one["check"]: one["status"] for one in done.document["checks"]}
    assert statuses.get("database", "wrong") == "wrong"
    assert "ok" not in statuses.values()


def test_the_command_says_so_and_names_each_finding_in_every_form(world: World) -> None:
    played(world)
    assert world.meter_sync("ledger", "check").code == 0
    change(world, BROKEN["additions"])

    printed = {form: world.meter_sync("ledger", "check", "--output", form) for form in ("table", "json", "csv")}

    assert {one.code for one in printed.values()} == {4}
    (wrong,) = [one for one in printed["json"].document["checks"] if one["status"] == "wrong"]
    assert wrong["check"] == "additions"
    assert all("what was added comes to 31, and not to 30" in one.stdout for one in printed.values())
