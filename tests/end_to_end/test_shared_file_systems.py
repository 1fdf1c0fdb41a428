"""Runs and doctor where the ledger's file is on a network's file system: what Linux lists says so.

The command sees another list than this process: in mounts of its own a file is mounted over the system's list.
"""

import json
import subprocess
from datetime import timedelta

import pytest

from tests.support.ways import end_of
from tests.support.world import Outcome, World, outcome_of

pytestmark = pytest.mark.installed

_WITH_OWN_MOUNTS = ("unshare", "--map-root-user", "--mount")
_LISTED_AS = 'mount --bind "$LISTED" /proc/$$/mountinfo && exec "$@"'


@pytest.fixture
def shared(world: World) -> World:
    """A world in whose folder a network's file system is mounted, as far as what Linux lists tells."""
    world.use(world.subscribe(), 5)
    listed = world.folder / "mountinfo"
    listed.write_text(f"27 1 254:0 / / rw - ext4 /dev/vda rw\n31 27 0:40 / {world.folder} rw - nfs4 files:/srv rw\n")
    try:
        subprocess.run([*_WITH_OWN_MOUNTS, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this machine lets nobody have mounts of their own (unshare -rm)")
    return world


def command(world: World, *arguments: str) -> Outcome:
    done = subprocess.run(
        [*_WITH_OWN_MOUNTS, "sh", "-c", _LISTED_AS, "sh", *world.command(*arguments)],
        env=world.environment(LISTED=str(world.folder / "mountinfo")),
        capture_output=True,
        text=True,
        check=False,
    )
    return outcome_of(done)


def test_a_run_that_takes_no_lock_does_not_begin_either(shared: World) -> None:
    subscription = shared.subscribe()
    shared.execute()
    shared.sandbox.requests.clear()
    shared.sandbox.clock.move_to(end_of(shared, subscription) - timedelta(minutes=1))

    done = command(shared, "run", "--closing", "3m", "--output", "json", "--as-of", shared.now.isoformat())

    assert (done.code, done.error_code) == (78, "ledger_shared")
    assert shared.writes == []


def test_no_run_begins_and_nothing_is_made_there(shared: World) -> None:
    done = command(shared, "run", "--output", "json", "--as-of", shared.now.isoformat())

    assert (done.code, done.error_code) == (78, "ledger_shared")
    assert f"is on {shared.folder}, a file system that machines share (nfs4)" in done.document["error"]["message"]
    assert not shared.ledger.parent.exists()
    assert shared.writes == []


def test_doctor_says_the_same(shared: World) -> None:
    done = command(shared, "doctor", "--only", "ledger", "--output", "json")

    assert done.code == 78
    (found,) = [one for one in json.loads(done.stdout)["checks"] if one["id"] == "ledger"]
    assert "a file system that machines share (nfs4)" in found["message"]
    assert "PostgreSQL" in found["remedy"]
