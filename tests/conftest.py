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

_ON_BOTH_LEDGERS = frozenset(("test_reporting", "test_billing_meters", "test_closing", "test_first_sight"))
"""The end-to-end modules that the slow tier plays again with ledgers on a server: what must be billed, in short."""

SLOW = frozenset(("simulation", "project", "installed", "page", "every_way"))
"""Markers of the slow tier: a plain `pytest` runs the tests without one, `pytest -m slow` those with one, each once."""


_IN_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2**30


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that play all tests in one version of OpenMeter's API, but for those that name one, or with
    ledgers of one kind, but for those that look at the file.
    """
    parser.addoption("--openmeter", choices=["v1", "v3"], help="the version of OpenMeter's API to play tests in")
    parser.addoption(
        "--ledger", choices=["file", "server"], help="where the ledgers of tests are, on a PostgreSQL server"
    )


def pytest_configure() -> None:
    """Let the commands that are started be interrupted, also where this was started with interrupts ignored.

    What tests write need not survive a power loss: in memory, where there is room, no ledger waits for a disk.
    """
    if os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > _ROOM_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_IN_MEMORY))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Play the essentials with either kind of ledger, but for tests that look at the file."""
    is_chosen = metafunc.module.__name__.rpartition(".")[2] in _ON_BOTH_LEDGERS
    is_of_either = "ledger_kind" in metafunc.fixturenames and "ledger_file" not in metafunc.fixturenames
    if is_chosen and is_of_either and not metafunc.config.getoption("--ledger"):
        on_a_server = pytest.param("server", marks=pytest.mark.every_way)
        metafunc.parametrize("ledger_kind", ["file", on_a_server], indirect=True)


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
def ledger_kind(request: pytest.FixtureRequest) -> str:
    """Where the world's ledger is: `file`, or `server`."""
    if "ledger_file" in request.fixturenames:
        return "file"
    return str(getattr(request, "param", None) or request.config.getoption("--ledger") or "file")


@pytest.fixture
def world(tmp_path: Path, openmeter_version: OpenMeterVersion, ledger_kind: str) -> Iterator[World]:
    """A sandbox whose clock stands still, with one meter and one metered price."""
    world = World(tmp_path, NOW, openmeter_version)
    if ledger_kind == "server":
        world.place = new_ledger()
    with world.sandbox.in_background():
        yield world


@pytest.fixture
def ledger_file(world: World) -> Path:
    """The file of the world's ledger, for a test that looks at it, or takes it away: it is never played on a server."""
    return world.ledger
