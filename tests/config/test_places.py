"""Where the configuration file is looked for, and what is found there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from meter_sync.config import found_file, usual_places
from meter_sync.config.places import CONFIG_NAME

NOBODY = 65534


@contextmanager
def as_anybody() -> Iterator[None]:
    """Have the rights of a user who owns nothing, where this is root, to whom nothing is refused."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may look into, with all above it."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="meter-sync-test-") as made:
        path = Path(made)
        path.chmod(0o755)
        yield path
        for one in (path, *path.rglob("*")):
            one.chmod(0o755)


def test_the_last_place_is_that_of_the_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", "/home/somebody/.config")
    monkeypatch.setenv("XDG_CONFIG_DIRS", "/etc/xdg")

    assert usual_places() == (
        tmp_path / CONFIG_NAME,
        Path("/home/somebody/.config/meter-sync", CONFIG_NAME),
        Path("/etc/xdg/meter-sync", CONFIG_NAME),
        Path("/etc/meter-sync", CONFIG_NAME),
    )


def test_the_first_file_that_there_is_counts(tmp_path: Path) -> None:
    places = [tmp_path / name / CONFIG_NAME for name in ("first", "second", "third")]
    assert found_file(places) is None
    for place in reversed(places):
        place.parent.mkdir()
        place.touch()
        assert found_file(places) == place


def test_a_folder_of_the_programs_that_nobody_may_look_into_does_not_mean_the_defaults(folder: Path) -> None:
    closed = folder / "meter-sync"
    closed.mkdir(mode=0o000)

    with as_anybody():
        assert found_file([closed / CONFIG_NAME]) == closed / CONFIG_NAME


def test_the_home_of_another_user_says_nothing(folder: Path) -> None:
    home = folder / "home"
    home.mkdir(mode=0o000)

    with as_anybody():
        assert found_file([home / "meter-sync" / CONFIG_NAME]) is None


def test_a_working_directory_that_is_another_users_says_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    folder.chmod(0o000)

    with as_anybody():
        assert found_file(usual_places()[:1]) is None


def test_links_in_a_circle_do_not_mean_the_defaults(tmp_path: Path) -> None:
    circle = tmp_path / "meter-sync"
    circle.symlink_to(circle)

    assert found_file([circle / CONFIG_NAME]) == circle / CONFIG_NAME
