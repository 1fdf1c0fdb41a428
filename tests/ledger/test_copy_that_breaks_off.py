"""`meter-sync ledger copy` that breaks off, to a server and to a file: it is begun anew, and never half used."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meter_sync.errors import LedgerError, TryAgainError
from meter_sync.ledger import Place
from meter_sync.sandbox.stripe.world import SubscriptionView
from tests.ledger.test_copy import copied, played
from tests.ledger.test_server import until
from tests.support.postgres import new_ledger
from tests.support.tables import carry_out
from tests.support.world import World

pytestmark = pytest.mark.every_way

_ENDS_ITSELF = """
CREATE FUNCTION end_connection() RETURNS trigger LANGUAGE plpgsql AS
'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END'
"""
_MIDWAY = "CREATE TRIGGER ends AFTER INSERT ON writes EXECUTE FUNCTION end_connection()"
_AT_COMMIT = """
CREATE CONSTRAINT TRIGGER ends AFTER INSERT ON writes DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION end_connection()
"""
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def check_moved_after(world: World, subscription: SubscriptionView, target: Place, *, is_restored: bool) -> None:
    """Give the copy again, and see that runs go on with it as if nothing had happened."""
    world.use(subscription, 5)
    assert copied(world, target).is_restored is is_restored
    refused = world.run()
    assert (refused.code, refused.error_code) == (78, "ledger_moved")
    world.place = target
    world.execute()
    assert world.billed(subscription) == 25
    assert world.wrong_in_books() == {}


@pytest.mark.parametrize(("trigger", "is_said"), [(_MIDWAY, False), (_AT_COMMIT, True)], ids=["midway", "at commit"])
def test_a_server_that_is_lost_has_no_books_and_the_same_command_begins_anew(
    world: World, trigger: str, is_said: bool
) -> None:
    subscription, target = played(world), new_ledger()
    carry_out(target, _ENDS_ITSELF)
    carry_out(target, trigger)

    with pytest.raises(TryAgainError) as lost:
        copied(world, target)

    assert lost.value.code == "ledger_unreachable"
    assert ("same command again" in lost.value.hint) is is_said
    assert carry_out(target, "SELECT count(*) FROM item_periods") == [(0,)]
    assert world.run().code == (78 if is_said else 0)
    carry_out(target, "DROP FUNCTION end_connection CASCADE")
    check_moved_after(world, subscription, target, is_restored=is_said)


@contextmanager
def disk_full_at(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: to SQLite that is a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_of_a_file_that_the_disk_has_no_room_for_nothing_stays(world: World) -> None:
    world.place, target = new_ledger(), world.folder / "new" / "ledger.sqlite3"
    subscription = played(world)

    with disk_full_at(100_000), pytest.raises(LedgerError) as full:
        copied(world, target)

    assert full.value.code == "ledger_full"
    assert [one.name for one in target.parent.iterdir()] == ["ledger.sqlite3.lock"]
    assert world.run().code == 0
    check_moved_after(world, subscription, target, is_restored=False)


_KILLED = """
import os, signal, sys
from meter_sync import effects
from meter_sync.cli import main

left = int(sys.argv.pop(1))

def kill(place, moment):
    global left
    if moment == "comes":
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

effects.watch(kill)
main()
"""
READY, TO_BE_SAID, TO_BE_PUT_IN_PLACE = range(3)


@pytest.mark.parametrize("moment", [READY, TO_BE_SAID, TO_BE_PUT_IN_PLACE])
@pytest.mark.parametrize("to", ["server", "file"])
def test_a_copy_that_is_killed_is_begun_anew_by_the_same_command(world: World, to: str, moment: int) -> None:
    target: Place = world.folder / "new.sqlite3"
    if to == "server":
        target = new_ledger()
    else:
        world.place = new_ledger()
    subscription = played(world)
    source, is_said = world.place, moment == TO_BE_PUT_IN_PLACE

    arguments = ["ledger", "copy", "--from", str(source), "--to", str(target)]
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(moment), *arguments],
        env=world.environment(),
        cwd=world.folder,
        capture_output=True,
        check=False,
    )

    assert killed.returncode == -9, killed.stderr
    server = source if to == "file" else target
    until(lambda: carry_out(server, _OTHERS) == [(0,)])
    if isinstance(target, Path):
        assert not target.exists()
    else:
        assert carry_out(target, "SELECT count(*) FROM item_periods") == [(0,)]
    assert world.run().code == (78 if is_said else 0)
    check_moved_after(world, subscription, target, is_restored=is_said)
    assert not [*world.folder.glob("new.sqlite3.new*")]
