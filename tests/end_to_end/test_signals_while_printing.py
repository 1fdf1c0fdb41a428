"""A signal that comes while results are printed: for so long as whoever reads them takes."""

import json
import signal

import pytest

from tests.support.world import NOW, Process, World, interrupt

pytestmark = pytest.mark.every_way

MORE_THAN_A_PIPE_HOLDS = 400


def printing(world: World, output: str) -> tuple[Process, str]:
    """Start a dry run over more than a pipe holds; return it with the first that it has printed."""
    for _ in range(MORE_THAN_A_PIPE_HOLDS):
        world.subscribe()
    process = world.start("run", "--dry-run", "--output", output, "--as-of", NOW.isoformat())
    assert process.stdout
    return process, process.stdout.read(1)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda how: how.name)
def test_one_signal_cuts_off_no_document(world: World, how: signal.Signals) -> None:
    process, first = printing(world, "json")
    ended = interrupt(process, how)
    assert len(json.loads(first + ended.stdout)["items"]) == MORE_THAN_A_PIPE_HOLDS
    assert (ended.code, ended.stderr) == (0, "")


def test_a_second_signal_ends_it_at_once(world: World) -> None:
    """Whoever was to read may never do so."""
    process, _ = printing(world, "csv")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (-signal.SIGTERM, "")
