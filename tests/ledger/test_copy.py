"""`meter-sync ledger copy` and `backup`: the books are at one place, all of them, and nothing is billed twice."""

import shutil
import sqlite3
import stat
from contextlib import closing
from datetime import timedelta

import pytest

from meter_sync.errors import ArgumentsError, MeterSyncError, TryAgainError
from meter_sync.ledger import Place, Scope, open_ledger, run_lock
from meter_sync.ledger.checking import check_ledger
from meter_sync.ledger.copying import Copied, CopyRequest, RowsDamaged, copy_ledger
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.support.postgres import server
from tests.support.tables import make_older
from tests.support.ways import metered
from tests.support.world import World


def played(world: World) -> SubscriptionView:
    """Play two days with a meter to which is added, and return its subscription."""
    subscription = metered(world, "additions")
    others = [metered(world, "hours"), world.subscribe()]
    for _ in range(2):
        for one in (subscription, *others):
            world.use(one, 10)
        world.execute()
        world.sandbox.clock.advance(timedelta(days=1))
    return subscription


def copied(world: World, target: Place, **how: bool) -> Copied:
    return copy_ledger(CopyRequest(world.place, target, **how), world.now)


def test_a_run_on_the_copy_goes_on_where_the_last_one_ended_and_the_ledger_before_is_refused(world: World) -> None:
    subscription = played(world)
    target = world.folder / "new" / "ledger.sqlite3"
    assert world.meter_sync("ledger", "copy", "--from", str(world.ledger), "--to", str(target)).code == 0
    world.use(subscription, 5)

    refused = world.run()
    with pytest.raises(ArgumentsError, match="books in the ledger") as again:
        copied(world, target)
    assert "were moved there before" in again.value.hint
    world.place = target
    done = world.run()

    assert (refused.code, refused.error_code) == (78, "ledger_moved")
    assert str(target) in refused.document["error"]["message"]
    assert done.code == 0
    assert "ledger_restored" not in done.stderr
    assert world.billed(subscription) == 25
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert {one.check for one in check_ledger(target, world.now) if one.status != "ok"} == set()


def test_who_had_opened_the_ledger_before_it_was_moved_writes_nothing_more(world: World) -> None:
    """A webhook's run, or a closing one: they hold no run lock."""
    played(world)
    with open_ledger(world.ledger, Scope("", "sandbox")) as ledger:
        copied(world, world.folder / "new.sqlite3")

        with pytest.raises(MeterSyncError, match="were moved"):
            ledger.markers.record_pruned(world.now)


def test_a_ledger_of_an_older_version_stays_as_it_is_where_it_stays_in_use(world: World) -> None:
    played(world)
    make_older(world.ledger)
    before, target = world.ledger.read_bytes(), world.folder / "new.sqlite3"

    assert copied(world, target, keep=True).is_restored

    assert world.ledger.read_bytes() == before
    beside = {one.name.removeprefix(world.ledger.name) for one in world.ledger.parent.iterdir()}
    assert beside == {"", ".lock", ".epoch"}


_FROM_A_FILE = "file", "file"
_OF_SERVERS = [("file", "server"), ("server", "file"), ("server", "server")]


@pytest.mark.parametrize(
    ("source", "target"), [_FROM_A_FILE, *(pytest.param(*one, marks=pytest.mark.every_way) for one in _OF_SERVERS)]
)
def test_the_copy_of_an_older_ledger_is_of_this_version_and_the_ledger_before_is_refused(
    world: World, source: str, target: str
) -> None:
    world.place = server().database() if source == "server" else world.ledger
    subscription = played(world)
    make_older(world.place)
    new: Place = server().database() if target == "server" else world.folder / "new.sqlite3"

    assert not copied(world, new).is_restored

    with pytest.raises(MeterSyncError, match="were moved"), open_ledger(world.place, Scope("", "sandbox")):
        pass
    world.place = new
    assert world.wrong_in_books() == {}
    world.use(subscription, 5)
    world.execute()
    assert world.billed(subscription) == 25


def test_a_copy_of_a_ledger_that_stays_in_use_counts_as_restored(world: World) -> None:
    played(world)
    target = world.folder / "new.sqlite3"

    assert copied(world, target, keep=True).is_restored
    assert world.run().code == 0
    world.place = target
    assert "ledger_restored" in world.run().stderr


def test_while_a_run_is_at_work_or_where_books_are_already_nothing_is_copied(world: World) -> None:
    played(world)
    target = world.folder / "new.sqlite3"
    shutil.copy(world.ledger, target)
    content = target.read_bytes()

    with run_lock(world.place, Scope("", "sandbox")), pytest.raises(TryAgainError):
        copied(world, world.folder / "other.sqlite3")
    done = world.meter_sync("ledger", "copy", "--from", str(world.ledger), "--to", str(target), "--output", "json")

    assert (done.code, done.error_code) == (2, "ledger_not_empty")
    assert target.read_bytes() == content
    assert not (world.folder / "other.sqlite3").exists()
    assert world.run().code == 0


def test_damaged_rows_are_named_one_by_one_and_left_out_only_where_that_is_asked_for(world: World) -> None:
    """What Stripe holds of their items is read from it, so that nothing is billed twice."""
    subscription = played(world)
    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        connection.execute("update additions set value = 'ten'")
        connection.execute("update holds set message = 'a' || char(0)")
    target = world.folder / "new.sqlite3"

    with pytest.raises(RowsDamaged, match=r"additions .*value is no whole number") as refused:
        copied(world, target)
    assert not target.exists()
    done = copied(world, target, without_damaged=True)

    assert done.damaged == refused.value.damaged
    world.place = target
    world.use(subscription, 5)
    world.execute()
    assert world.billed(subscription) == 25


def test_a_carry_is_never_left_out(world: World) -> None:
    played(world)
    with closing(sqlite3.connect(world.ledger)) as connection, connection:
        connection.execute("insert into carries values ('', 'sandbox', 'si_x', 1, 2, 'five')")

    with pytest.raises(RowsDamaged, match="carries") as refused:
        copied(world, world.folder / "new.sqlite3", without_damaged=True)
    assert "billed twice" in refused.value.hint


def test_a_password_in_an_argument_is_refused_and_not_repeated(world: World) -> None:
    url = "postgresql://somebody:secret@host/name"

    done = world.meter_sync("ledger", "copy", "--from", str(world.ledger), "--to", url)

    assert done.code == 2
    assert "PGPASSFILE" in done.stderr
    assert "secret" not in done.stdout + done.stderr


def test_a_backup_is_of_one_moment_and_replaces_nothing(world: World) -> None:
    played(world)
    file = world.folder / "backup.sqlite3"

    done, again = (world.meter_sync("ledger", "backup", "--to", str(file), "--output", "json") for _ in range(2))

    assert (done.code, again.code) == (0, 2)
    assert done.document["bytes"] == file.stat().st_size == world.ledger.stat().st_size
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [one.name for one in world.folder.glob("backup*")] == [file.name]
    assert {one.check for one in check_ledger(file, world.now) if one.status != "ok"} == set()
