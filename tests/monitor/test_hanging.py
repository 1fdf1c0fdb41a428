"""As cron starts it: services that hang hold the command for ten seconds at most, and change nothing of it."""

import json
import subprocess
import time

import pytest

from tests.support.listening import Listener
from tests.support.world import World

pytestmark = pytest.mark.installed


def test_services_that_hang_hold_the_command_for_ten_seconds_at_most(world: World, listener: Listener) -> None:
    world.use(world.subscribe(), 5)
    world.subscribe(world.stripe.add_price(metadata={"om_meter_id": "missing"}))
    file = world.folder / "notify"
    file.write_text(f"json://{listener.address}\n" * 3)
    command = world.command("run", "--output", "json", "--as-of", world.now.isoformat())
    began = time.monotonic()
    before = carried_out(world, command)
    without_seconds = time.monotonic() - began
    world.configure(f'[monitor]\nping_url = "http://{listener.address}/check"\nnotify_file = "{file}"\n')
    listener.may_answer.clear()

    began = time.monotonic()
    done = carried_out(world, world.command("run", "--output", "json", "--as-of", world.now.isoformat()))
    took_seconds = time.monotonic() - began

    assert json.loads(done.stdout)["run"]["id"]
    assert done.returncode == before.returncode == 4
    assert took_seconds < 10 + 2 * without_seconds  # which differ from one to the next
    warnings = [json.loads(line) for line in done.stderr.splitlines()]
    assert {one["monitor"] for one in warnings} == {"ping_url", "notify_file"}
    assert {one["event"] for one in warnings} == {"monitor_failed"}


def carried_out(world: World, command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command, env=world.environment(), cwd=world.folder, capture_output=True, text=True, timeout=60, check=False
    )
