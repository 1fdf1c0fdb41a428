"""The installed command in a subprocess, against the embedded Stripe and OpenMeter over real HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.world import NOW, World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A sandbox whose clock stands still, with one meter and one metered price."""
    world = World(tmp_path, NOW)
    with world.sandbox.in_background():
        yield world
