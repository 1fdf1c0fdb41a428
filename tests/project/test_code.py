"""The checks of the code itself."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.project

ROOT = Path(__file__).parents[2]
BESIDE = Path(sys.executable).parent

CHECKS = (
    ("mypy",),
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("lint-imports", "--no-cache"),
)


@pytest.mark.parametrize("check", CHECKS, ids=" ".join)
def test_the_code_passes(check: tuple[str, ...]) -> None:
    done = subprocess.run([BESIDE / check[0], *check[1:]], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
