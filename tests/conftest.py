"""What all tests share."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from meter_sync.sandbox.openmeter.api import OpenMeterVersion
from tests.support.forked import end_template
from tests.support.postgres import new_ledger
from tests.support.world import NOW, World, sampled_version

SLOW = frozenset(("simulation", "project", "installed", "every_way"))
"""Markers of the slow tier: a plain `pytest` runs the tests without one, `pytest -m slow` those with one, each once."""


_IN_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2**30


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that play all tests in one version of OpenMeter's API, but for those that name one, or with
    ledgers on a PostgreSQL server, but for those that look at the file.
    """
    parser.addoption("--openmeter", choices=["v1", "v3"], help="the version of OpenMeter's API to play tests in")
    parser.addoption("--ledger", choices=["file", "server"], default="file", help="where the ledgers of tests are")


def pytest_configure() -> None:
    """Let the commands that are started be interrupted, also where this was started with interrupts ignored.

    What tests write need not survive a power loss: in memory, where there is room, no ledger waits for a disk.
    """
    if os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > _ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_IN_MEMORY))
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, before tests are selected by their marks."""
    for item in items:
        if any(mark.name in SLOW for mark in item.iter_markers()):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def _template_ended() -> Iterator[None]:
    """End the process that commands are forked from before coverage collects what was measured."""
    yield
    end_template()


@pytest.fixture
def openmeter_version(request: pytest.FixtureRequest) -> OpenMeterVersion:
    """Which version of OpenMeter's API is served, and no other.

    Nothing but its adapter can tell: so a test is played in one of both, which its name decides, or `--openmeter`. A
    test that is about OpenMeter itself names both, as parameters.
    """
    version: OpenMeterVersion | None = getattr(request, "param", None) or request.config.getoption("openmeter")
    return version or sampled_version(request.node.name)


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path, openmeter_version: OpenMeterVersion) -> Iterator[World]:
    """A sandbox whose clock stands still, with one meter and one metered price."""
    world = World(tmp_path, NOW, openmeter_version)
    if request.config.getoption("--ledger") == "server":
        world.place = new_ledger()
    with world.sandbox.in_background():
        yield world
