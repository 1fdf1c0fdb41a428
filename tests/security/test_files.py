"""What the program writes is its user's alone, whatever the umask."""

import os
import sqlite3
import stat
import subprocess
from pathlib import Path

from tests.support.world import World


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_file_and_folder_is_for_its_user_only(world: World) -> None:
    world.use(world.subscribe(), 5)
    ledger = world.folder / "state" / "of" / "billing" / "ledger.sqlite3"

    done = subprocess.run(
        world.command("run", "--as-of", world.now.isoformat()),
        env=world.environment(METER_SYNC_LEDGER=str(ledger)),
        cwd=world.folder,
        umask=0,
        check=False,
        capture_output=True,
    )

    assert done.returncode == 0
    made = {path.relative_to(world.folder).as_posix(): mode(path) for path in world.folder.rglob("*")}
    assert made == {
        "state": 0o700,
        "state/of": 0o700,
        "state/of/billing": 0o700,
        "state/of/billing/ledger.sqlite3": 0o600,
        "state/of/billing/ledger.sqlite3.epoch": 0o600,
        "state/of/billing/ledger.sqlite3.lock": 0o600,
    }


def test_the_journal_is_for_its_user_only(world: World) -> None:
    """SQLite makes it with the permissions of the database, also while the umask would allow more."""
    world.use(world.subscribe(), 5)
    assert world.run().code == 0
    connection = sqlite3.connect(world.ledger, isolation_level=None)
    before = os.umask(0)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE runs SET exit_code = 1")
        journals = [path for path in world.ledger.parent.iterdir() if path.name.endswith("-journal")]
        assert [mode(path) for path in journals] == [0o600]
    finally:
        os.umask(before)
        connection.execute("ROLLBACK")
        connection.close()
