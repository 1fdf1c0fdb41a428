"""The demo, which needs no account."""

import re

import pytest

from tests.support.forked import template
from tests.support.world import World

pytestmark = pytest.mark.simulation


@pytest.mark.parametrize("options", [(), ("--openmeter", "v3")], ids=["v1", "v3"])
def test_the_demo_shows_that_invoices_equal_usage_whatever_is_configured(
    world: World, options: tuple[str, ...]
) -> None:
    world.configure('[[meters]]\nproduct = "x"\nignore = true\n')
    before = sorted(world.folder.rglob("*"))
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(world.folder), "STRIPE_API_KEY": "sk_live_not_for_the_demo"}

    done = template().run(["--config", str(world.config), "demo", *options], environment, world.folder)

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"OpenMeter (API {options[-1] if options else 'v1'})" in done.stdout
    assert len(re.findall(r"\bequal\b", done.stdout)) == 2 * 36
    assert "DIFFERENT" not in done.stdout
    assert "36 items: 36 unchanged" in done.stdout
    assert "All 36 invoices say exactly what was used." in done.stdout
    assert "invoice + next period + what is named is exactly what was used." in done.stdout
    assert sorted(world.folder.rglob("*")) == before
    assert not world.sandbox.requests
