"""The fast tier, which the README's command runs, and the slow tier, which CI runs as well, have every test once."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import SLOW

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.project


_TOLD = """
import sys
import pytest


class Told:
    def pytest_deselected(self, items):
        for item in items:
            print("deselected", item.nodeid)


sys.exit(pytest.main(sys.argv[1:], plugins=[Told()]))
"""


def collected(*selection: str) -> tuple[set[str], set[str]]:
    """Return the tests that pytest would run, and those that it would leave to the other tier."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-c", _TOLD, "-q", "--collect-only", "-p", "no:cacheprovider", *selection]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    *names, summary = done.stdout.strip().splitlines()
    found = re.match(r"(\d+)/(\d+) tests collected", summary)
    assert found, summary
    left = {name.removeprefix("deselected ") for name in names if name.startswith("deselected ")}
    kept = {name for name in names if "::" in name and not name.startswith("deselected ")}
    assert (len(kept), len(kept) + len(left)) == (int(found[1]), int(found[2]))
    return kept, left


def of(tests: set[str], separator: str) -> set[str]:
    """Return the functions that tests belong to ("["), or their modules ("::")."""
    return {test.partition(separator)[0] for test in tests}


def test_every_promise_is_in_the_fast_tier() -> None:
    fast, slow = collected()

    assert fast
    assert slow
    only_slow = of(slow, "[") - of(fast, "[")
    assert not of(only_slow, "::") & of(fast, "::"), (
        "only whole modules are left to the slow tier: simulations, the code"
    )


def test_every_test_is_in_one_of_the_two_tiers() -> None:
    """Seen where both kinds are: what pytest does with an expression and with its opposite, it does everywhere."""
    here = "tests/net"
    (fast, left), (slow, others) = collected(here), collected("-m", "slow", here)

    assert fast
    assert slow
    assert (fast, left) == (others, slow)


def test_every_marker_of_a_tier_is_explained() -> None:
    options = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text("utf-8"))["tool"]["pytest"]["ini_options"]

    assert {line.partition(":")[0] for line in options["markers"]} == SLOW | {"slow"}
