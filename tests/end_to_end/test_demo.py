"""The commands that need no account."""

import json
import re
import signal
from pathlib import Path

from tests.support.forked import template
from tests.support.world import World, interrupt


def test_the_demo_shows_that_invoices_equal_usage_whatever_is_configured(world: World) -> None:
    world.configure('[[meters]]\nproduct = "x"\nignore = true\n')
    before = sorted(world.folder.rglob("*"))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(world.folder), "STRIPE_API_KEY": "sk_live_not_for_the_demo"}

    done = template().run(["--config", str(world.config), "demo"], environment, world.folder)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert len(re.findall(r"\bequal\b", done.stdout)) == 2 * 36
    assert "DIFFERENT" not in done.stdout
    assert "36 items: 36 unchanged" in done.stdout
    assert "All 36 invoices say exactly what was used." in done.stdout
    assert "invoice + next period + what is named is exactly what was used." in done.stdout
    assert sorted(world.folder.rglob("*")) == before
    assert not world.sandbox.requests


def test_the_sandbox_prints_the_environment_that_run_works_with(world: World) -> None:
    serving = world.start("sandbox")
    assert serving.stdout
    lines = [serving.stdout.readline() for _ in range(5)]
    environment = dict(re.findall(r"export (\w+)='(.*)'", "".join(lines)))

    done = world.meter_sync("run", "--output", "json", **environment)
    ended = interrupt(serving, signal.SIGINT)

    assert done.code == 0, done.stderr
    assert done.document["summary"]["items"] == 36
    assert ended.code == 0
    (event,) = re.findall(r"-d '(.*)'$", ended.stderr, flags=re.MULTILINE)
    assert json.loads(event)["data"] == {"requests": 1_000_000}
    assert not Path(environment["METER_SYNC_LEDGER"]).exists()


def test_a_port_that_is_taken_is_named(world: World) -> None:
    port = world.sandbox.stripe_url.rpartition(":")[2]

    done = world.meter_sync("sandbox", "--stripe-port", port)

    assert done.code == 1
    assert "cannot serve" in done.stderr
