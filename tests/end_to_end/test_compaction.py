"""Full runs keep the ledger small by themselves, and nothing that they bill, or anybody asks, is another for it."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from meter_sync.core.billing.item import Period
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.ways import end_of
from tests.support.world import World

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def column(path: Path, query: str) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(query)]


def use_and_run(world: World, subscription: SubscriptionView, times: int) -> None:
    for _ in range(times):
        world.sandbox.clock.advance(HOUR)
        world.use(subscription, 1)
        world.execute()


def written(world: World, item: str) -> list[tuple[str, str]]:
    done = world.meter_sync("history", "--item", item, "--output", "json")
    return [(one["at"], one["quantity"]) for one in done.document["entries"] if one["kind"] == "write"]


def test_a_run_in_which_nothing_changes_adds_nothing_but_itself(world: World) -> None:
    subscription = world.subscribe()
    use_and_run(world, subscription, 1)
    before = contents(world.ledger)
    world.sandbox.clock.advance(HOUR)
    assert world.verdict(subscription) == "unchanged"
    after = contents(world.ledger)

    changed = {name for name, rows in after.items() if rows != before[name]}
    assert changed == {"callers", "runs", "cursors", "epochs"}
    assert [len(after[name]) - len(before[name]) for name in sorted(changed)] == [0, 0, 0, 1]


def contents(path: Path) -> dict[str, list[tuple[object, ...]]]:
    names = column(path, "SELECT name FROM sqlite_master WHERE type = 'table'")
    with closing(sqlite3.connect(path)) as connection:
        return {str(name): connection.execute(f"SELECT * FROM {name}").fetchall() for name in names}  # noqa: S608


def test_the_first_run_of_a_day_packs_what_the_day_before_wrote(world: World) -> None:
    subscription = world.subscribe()
    use_and_run(world, subscription, 3)
    before = written(world, *subscription.items)
    world.sandbox.clock.advance(DAY)
    use_and_run(world, subscription, 1)

    assert column(world.ledger, "SELECT how_many FROM past_writes") == [3]
    assert column(world.ledger, "SELECT quantity FROM writes") == [4]
    assert written(world, *subscription.items)[:3] == before
    status = world.meter_sync("status", "--output", "json").document
    assert status["ledger"]["writes"] == 4


def test_a_run_about_a_part_a_closing_run_and_a_dry_run_leave_it_to_the_next_full_one(world: World) -> None:
    subscription = world.subscribe()
    use_and_run(world, subscription, 3)
    world.sandbox.clock.advance(DAY)
    world.run("--subscription", subscription.id)
    world.run("--dry-run")
    world.close_in_time(timedelta(days=40))
    assert column(world.ledger, "SELECT count(*) FROM past_writes") == [0]


def test_no_run_fails_since_it_cannot_pack(world: World) -> None:
    subscription = world.subscribe()
    use_and_run(world, subscription, 3)
    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER refused BEFORE INSERT ON past_writes BEGIN SELECT RAISE(ABORT, 'no room'); END"
        )
    world.sandbox.clock.advance(DAY)
    world.use(subscription, 1)
    done = world.run()
    again = world.run()

    assert (done.code, done.item["quantity"]) == (0, "4")
    assert "ledger_not_compacted" in done.stderr
    # What goes wrong with some items is not tried again on that day: the others would wait for it.
    assert (again.code, again.stderr) == (0, "")
    assert len(written(world, *subscription.items)) == 4


def test_what_was_over_history_days_ago_is_forgotten_as_by_prune(world: World) -> None:
    subscription = world.subscribe()
    starts = []
    world.configure("history_days = 0")
    for _ in range(9):
        starts.append(Period(end_of(world, subscription), end_of(world, subscription)).start)
        use_and_run(world, subscription, 1)
        world.sandbox.clock.move_to(end_of(world, subscription) + 5 * DAY)
        world.execute()
    periods = "SELECT count(*) FROM seen_periods"
    assert column(world.ledger, periods) == [10]
    world.configure("history_days = 90")
    world.execute()
    with world.books() as ledger:
        left = ledger.overview.size()["periods"]
    pruned = world.meter_sync("history", "--prune", "90d", "--output", "json")

    assert 5 <= left < 10
    assert column(world.ledger, periods) == [left]
    assert pruned.code == 0
    world.sandbox.clock.advance(HOUR)
    assert world.verdict(subscription) == "unchanged"
