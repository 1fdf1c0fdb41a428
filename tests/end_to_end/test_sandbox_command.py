"""`meter-sync sandbox`: what it prints, and that it serves."""

import json
import re
import signal
from pathlib import Path

import pytest

from tests.support.world import World, interrupt

TOLD = "meter-sync setup price --name Zeta --meter zeta_requests --per 1000000 --amount 0.20 --currency usd"


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_the_sandbox_prints_the_environment_that_run_works_with(world: World, version: str) -> None:
    serving = world.start("sandbox", "--openmeter", version)
    assert serving.stdout
    lines = [serving.stdout.readline() for _ in range(7)]
    environment = dict(re.findall(r"export (\w+)='(.*)'", "".join(lines)))

    done = world.meter_sync("run", "--output", "json", **environment)
    setup = world.meter_sync(*TOLD.split()[1:], "--yes", "--output", "json", **environment)
    hooks = world.meter_sync("setup", "webhook", "--url", "https://hooks.example.com/webhook", "--yes", **environment)
    ended = interrupt(serving, signal.SIGINT)

    assert done.code == 0, done.stderr
    assert done.document["summary"]["items"] == 36
    assert [step["made"] for step in setup.document["steps"]] == [True] * 4
    assert hooks.code == 0, hooks.stderr
    assert ended.code == 0
    assert TOLD in ended.stderr
    assert environment["OPENMETER_URL"].endswith("/v3") == (version == "v3")
    (event,) = re.findall(r"-d '(.*)'$", ended.stderr, flags=re.MULTILINE)
    assert json.loads(event)["data"] == {"requests": 1_000_000}
    assert not Path(environment["METER_SYNC_LEDGER"]).exists()


def test_a_port_that_is_taken_is_named(world: World) -> None:
    port = world.sandbox.stripe_url.rpartition(":")[2]

    done = world.meter_sync("sandbox", "--stripe-port", port)

    assert done.code == 1
    assert "cannot serve" in done.stderr
