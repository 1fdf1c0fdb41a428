"""Notifications: people are told of trouble once, again when it changes or lasts a day, and when all is well again."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from meter_sync.ledger import Scope, open_ledger
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.listening import Listener
from tests.support.ways import end_of
from tests.support.world import Outcome, World

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
AWAY = "http://127.0.0.1:9"
SECRET = "s3cr3t"
WRONG_KEY = {"STRIPE_API_KEY": "sk_test_wrong"}


def notifying(world: World, *addresses: str) -> Path:
    """Let people be told at these addresses, by a file that the configuration names."""
    file = world.folder / "notify"
    file.write_text("\n".join(["# who is told", "", *addresses]) + "\n")
    world.configure(f'[monitor]\nnotify_file = "{file}"\n')
    return file


def told(listener: Listener) -> list[str]:
    """The titles of what was told since this was last asked, without the host."""
    titles = [one.document["title"] for one in listener.heard]
    listener.clear()
    assert all(title.startswith("meter-sync: ") and f"({os.uname().nodename})" in title for title in titles)
    return [title.removeprefix("meter-sync: ").partition(" (")[0] for title in titles]


def let_it_be_earlier(world: World, by: timedelta) -> None:
    """Let all that the ledger knows have been so much earlier: its runs, and what was told."""
    with world.books() as ledger:
        was_told = json.loads(ledger.markers.told() or "{}")
    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        connection.execute("UPDATE runs SET started_at = started_at - ?", (int(by.total_seconds()),))
    if was_told:
        was_told["at"] -= int(by.total_seconds())
        with open_ledger(world.ledger, Scope("", "sandbox")) as ledger:
            ledger.markers.record_told(json.dumps(was_told))


def fallen(world: World) -> SubscriptionView:
    """Subscribe a customer whose usage has fallen since it was reported, so that it is held."""
    subscription = world.subscribe()
    world.use(subscription, 100)
    world.run()
    world.use(subscription, -60)
    world.sandbox.clock.advance(HOUR)
    return subscription


def test_trouble_is_told_once_again_when_it_changes_and_when_it_is_over(world: World, listener: Listener) -> None:
    notifying(world, f"json://{listener.address}/{SECRET}")
    held = fallen(world)
    assert told(listener) == []

    assert world.run().code == 4
    (one,) = listener.heard
    assert one.document["message"].startswith("1 item: 1 held")
    assert f"{held.items[0]}: held, decrease" in one.document["message"]
    assert told(listener) == ["someone should look"]
    assert [world.run().code, told(listener)] == [4, []]

    another = world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "missing"}))
    assert [world.run().code, told(listener)] == [4, ["someone should look"]]
    assert [world.run(**WRONG_KEY).code, told(listener)] == [78, ["the configuration, a key or the clock is wrong"]]
    assert [world.run(**WRONG_KEY).code, told(listener)] == [78, []]
    world.stripe.cancel(another.id)
    world.use(held, 100)

    assert world.run().code == 0
    assert listener.heard[0].document["type"] == "success"
    assert told(listener) == ["all is well again"]
    assert [world.run().code, told(listener)] == [0, []]


def test_while_it_lasts_it_is_told_once_a_day(world: World, listener: Listener) -> None:
    notifying(world, f"json://{listener.address}")
    fallen(world)
    said = []
    for _ in range(3):
        world.run()
        said.append(len(told(listener)))
        let_it_be_earlier(world, 13 * HOUR)

    assert said == [1, 0, 1]


def test_a_server_that_is_away_is_told_of_once_a_run_is_overdue(world: World, listener: Listener) -> None:
    notifying(world, f"json://{listener.address}")
    world.subscribe()
    world.run()
    assert [world.run(OPENMETER_URL=AWAY).code, told(listener)] == [75, []]
    let_it_be_earlier(world, 2 * HOUR)

    assert world.run(OPENMETER_URL=AWAY).code == 1
    assert "no complete run since" in listener.heard[0].document["message"]
    assert told(listener) == ["a run failed"]
    assert [world.run(OPENMETER_URL=AWAY).code, told(listener)] == [1, []]
    assert [world.run().code, told(listener)] == [0, ["all is well again"]]


def test_before_there_is_a_ledger_each_run_tells_since_nobody_knows_what_was_told(
    world: World, listener: Listener
) -> None:
    notifying(world, f"json://{listener.address}")
    for _ in range(2):
        assert world.run(STRIPE_API_KEY="pk_test_publishable").code == 78

    assert told(listener) == ["the configuration, a key or the clock is wrong"] * 2
    assert not world.ledger.exists()


def test_a_ledger_that_cannot_be_read_is_told_of_each_time(world: World, listener: Listener) -> None:
    notifying(world, f"json://{listener.address}")
    world.ledger.parent.mkdir()
    world.ledger.write_bytes(b"this is not a database, but it is long enough to look like one" * 20)

    assert [world.run().code, world.run().code] == [1, 1]
    assert told(listener) == ["a run failed"] * 2


def test_where_another_setting_is_wrong_people_are_told_all_the_same(world: World, listener: Listener) -> None:
    notifying(world, f"json://{listener.address}")
    assert world.run(METER_SYNC_SCHEDULE="often").code == 78

    assert "METER_SYNC_SCHEDULE" in listener.heard[0].document["message"]


def test_what_no_service_has_taken_is_told_again(world: World, listener: Listener) -> None:
    notifying(world, f"json://{listener.address}/{SECRET}")
    fallen(world)
    listener.status = 500

    done = world.run()

    assert done.code == 4
    (warning,) = done.stderr.splitlines()
    assert '"event": "monitor_failed"' in warning
    assert "not delivered: line 3 (json)" in warning
    assert SECRET not in done.stdout + done.stderr
    listener.status = 200
    listener.clear()
    world.run()
    assert told(listener) == ["someone should look"]


def test_one_address_that_fails_keeps_no_other_from_being_told(world: World, listener: Listener) -> None:
    notifying(world, f"json://127.0.0.1:9/{SECRET}", "nonsense", f"json://{listener.address}", f"://{SECRET}")
    fallen(world)

    done = world.run()

    assert told(listener) == ["someone should look"]
    assert "not delivered: line 3 (json), line 4, line 6" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert SECRET not in done.stdout + done.stderr
    world.run()
    assert told(listener) == []


def test_a_closing_run_tells_of_what_is_new_and_of_nothing_else(world: World, listener: Listener) -> None:
    notifying(world, f"json://{listener.address}")
    subscription = world.subscribe()
    world.use(subscription, 100)
    world.run()
    world.use(subscription, -60)

    def closing_run(before: timedelta, **overrides: str) -> Outcome:
        as_of = (end_of(world, subscription) - before).isoformat()
        return world.meter_sync("run", "--closing", "3m", "--quiet", "--as-of", as_of, **overrides)

    assert [closing_run(3 * MINUTE, OPENMETER_URL=AWAY).code, told(listener)] == [75, []]
    assert [closing_run(2 * MINUTE).code, told(listener)] == [4, ["someone should look"]]
    assert [closing_run(MINUTE).code, told(listener)] == [4, []]
    world.sandbox.clock.move_to(end_of(world, subscription) - MINUTE)
    assert [world.run().code, told(listener)] == [4, []]


@pytest.mark.parametrize("arguments", [["-n"], ["--customer", "cus_missing"]], ids=["dry", "narrowed"])
def test_what_is_no_full_run_tells_nobody(world: World, listener: Listener, arguments: list[str]) -> None:
    notifying(world, f"json://{listener.address}")
    fallen(world)
    assert world.run(*arguments).code

    assert told(listener) == []


def test_what_is_left_unbilled_is_said_when_runs_are_well_again(world: World, listener: Listener) -> None:
    notifying(world, f"json://{listener.address}")
    subscription = world.subscribe()
    world.use(subscription, 100)
    world.run()
    world.use(subscription, 7)
    world.stripe.cancel(subscription.id)
    world.sandbox.clock.advance(2 * HOUR)
    codes = [world.run().code, world.run().code, world.run().code]

    assert (codes[0], codes[-1]) == (4, 0)
    assert "meter-sync history --unbilled names it" in listener.heard[-1].document["message"]
    assert told(listener)[-1] == "runs are well again, and something is not billed"


def test_no_customer_and_no_usage_leaves_the_house(world: World, listener: Listener) -> None:
    notifying(world, f"json://{listener.address}")
    subscriptions = [world.subscribe() for _ in range(7)]
    for one in subscriptions:
        world.use(one, 123456)
    world.run()
    for one in subscriptions:
        world.use(one, -60000)
    world.sandbox.clock.advance(HOUR)

    world.run()

    (one_,) = listener.heard
    message = one_.document["message"]
    assert "cus_" not in one_.body
    assert not any(amount in message for amount in ("123456", "63456", "60000"))
    assert message.count(": held, ") == 5
    assert "and 2 more" in message


def test_without_apprise_the_warning_says_what_to_install(world: World, listener: Listener) -> None:
    notifying(world, f"json://{listener.address}")
    without = "import sys; sys.modules['apprise'] = None; from meter_sync.cli import main; main()"
    command = [sys.executable, "-c", without, "--config", str(world.config), "run", "--as-of", world.now.isoformat()]

    done = subprocess.run(command, env=world.environment(), capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout.startswith("0 items")) == (0, True)
    (warning,) = done.stderr.splitlines()
    assert "install meter-sync[notify]" in warning


@pytest.mark.parametrize(
    ("text", "said"), [("# nobody\n", "has no address"), (None, "No such file"), ("\xff", "UTF-8")]
)
def test_a_file_that_names_nobody_is_a_warning_of_each_run(world: World, text: str | None, said: str) -> None:
    file = notifying(world)
    file.unlink()
    if text is not None:
        file.write_text(text, encoding="latin-1")

    done = world.run()

    assert done.code == 0
    assert "monitor_failed" in done.stderr
    assert said in done.stderr
