"""Backups of a ledger, and the two ways of putting one back."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.ways import one_fast
from tests.support.world import World


def marker(world: World) -> Path:
    """The file beside the ledger that says which run wrote last."""
    return world.ledger.with_name("ledger.sqlite3.epoch")


def back_up(world: World) -> Path:
    """Copy the whole folder of the ledger, and return where to."""
    return Path(shutil.copytree(world.ledger.parent, world.folder / "backup", dirs_exist_ok=True))


def restore_ledger(world: World, backup: Path) -> None:
    """Put the ledger itself back, as one does who leaves the other files alone."""
    shutil.copy(backup / world.ledger.name, world.ledger)


def restore_folder(world: World, backup: Path) -> None:
    """Put everything back."""
    shutil.rmtree(world.ledger.parent)
    shutil.copytree(backup, world.ledger.parent)


Restore = Callable[[World, Path], None]
either_way = pytest.mark.parametrize(
    "restore", one_fast([restore_ledger, restore_folder], restore_ledger), ids=["the ledger", "the folder"]
)
"""The parameter of a test that repeats for both."""
