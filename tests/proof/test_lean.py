"""What a run keeps of each item is little: the slow tier, since every allocation of it is counted."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.world import NOW, World

pytestmark = pytest.mark.simulation

_MOST_BYTES = 2_500
"""For each item, at any time, but for what the ledger knows of it. 100,000 items are to take 400 MB in all, of which 90
are the program's own."""

_COUNTED = """
import sys, tracemalloc
from meter_sync.cli import main

tracemalloc.start()
try:
    main()
finally:
    print(tracemalloc.get_traced_memory()[1], file=sys.stderr)
"""


def peak_bytes(folder: Path, items: int) -> int:
    """Return the memory that a run takes at its peak that plans for so many items, and shows each."""
    folder.mkdir()
    world = World(folder, NOW)
    with world.sandbox.in_background():
        for number in range(items):
            start = NOW - timedelta(days=9) + timedelta(seconds=number % 10)
            world.use(world.subscribe(period_start=start), 5)
        said = ["--log-level", "error", "run", "--dry-run", "--output", "json", "--as-of", world.now.isoformat()]
        command, environment = [sys.executable, "-c", _COUNTED, *said], world.environment()
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout.count('"outcome": "planned"') == items
    return int(done.stderr)


def test_an_item_more_takes_little_memory(tmp_path: Path) -> None:
    """From so many on: what is not needed any more, and not looked for yet, is some megabytes whatever they are."""
    some, more = (peak_bytes(tmp_path / str(items), items) for items in (3000, 5000))
    assert more - some < 2000 * _MOST_BYTES
