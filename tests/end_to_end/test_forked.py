"""A forked command is what the installed one is, so that what the other tests see of it is true."""

import signal

import pytest

from meter_sync.sandbox import Fault
from tests.support.world import Process, World, interrupt

pytestmark = pytest.mark.installed


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--version",), 0),
        (("run", "--help"), 0),
        (("run", "--output", "xml"), 2),
        (("--config", "nowhere.toml", "run"), 78),
        (("run", "--dry-run", "--output", "csv", "--as-of", "2025-06-10T12:00:00Z"), 4),
    ],
)
def test_it_prints_and_exits_like_the_installed_one(world: World, arguments: tuple[str, ...], code: int) -> None:
    world.use(world.subscribe(), 5)
    world.subscribe(world.stripe.add_price())

    forked, installed = world.meter_sync(*arguments), world.installed_meter_sync(*arguments)

    assert forked == installed
    assert forked.code == code


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_it_takes_a_signal_like_the_installed_one(world: World, how: signal.Signals) -> None:
    world.sandbox.faults.add(Fault(path="/v1/prices$", times=None, status=503))

    def signalled(process: Process) -> tuple[int, str, list[str]]:
        world.sandbox.wait_for("GET", "/v1/prices")
        world.sandbox.requests.clear()
        ended = interrupt(process, how)
        return ended.code, ended.stdout, [line for line in ended.stderr.splitlines() if not line.startswith("{")]

    command, patient = ("run", "--output", "csv"), {"METER_SYNC_RETRY_SECONDS": "60"}
    forked = signalled(world.start(*command, **patient))
    assert forked == signalled(world.start_installed(*command, **patient))
    assert (forked[0] == -signal.SIGKILL) is (how is signal.SIGKILL)


def test_it_leaves_nothing_to_the_next_one(world: World) -> None:
    world.configure('schedule = "daily"\n')

    hourly, daily = world.run("-n", METER_SYNC_SCHEDULE="hourly"), world.run("-n")

    assert [done.document["run"]["schedule"] for done in (hourly, daily)] == ["hourly", "daily"]


def test_it_works_in_its_own_folder(world: World) -> None:
    world.folder.joinpath("here.toml").write_text('schedule = "daily"\n', encoding="utf-8")

    done = world.meter_sync("--config", "here.toml", "run", "--output", "json", "--as-of", world.now.isoformat())

    assert done.document["run"]["schedule"] == "daily"
