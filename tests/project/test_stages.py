"""Checked before it is written, and intent before effect: types that only one place makes."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.project

ROOT = Path(__file__).parents[2]


def makers(name: str) -> Iterator[str]:
    """Yield the modules of the program in which something is made by calling this name."""
    for path in sorted(ROOT.joinpath("meter_sync").rglob("*.py")):
        calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
        if any(isinstance(one, ast.Name) and one.id == name for one in calls):
            yield str(path.relative_to(ROOT / "meter_sync"))


@pytest.mark.parametrize(
    ("stage", "maker"),
    [("Checked", "core/planning/brakes.py"), ("Intended", "ledger/writes.py"), ("StripeWriter", "sync/job.py")],
)
def test_a_stage_that_promises_something_is_made_in_one_place(stage: str, maker: str) -> None:
    assert list(makers(stage)) == [maker]


UNCHECKED = """
from datetime import datetime
from meter_sync.core.planning.stages import Write
from meter_sync.ledger import Ledger, RunRecord
from meter_sync.sync.write import ItemWriter

def claim(ledger: Ledger, run: RunRecord, write: Write, at: datetime) -> None:
    ledger.writes.claim(run, [write], at, 0)

async def send(writer: ItemWriter, write: Write) -> None:
    await writer.write(write)
"""


def test_what_was_not_checked_cannot_be_claimed_and_what_was_not_claimed_cannot_be_sent(tmp_path: Path) -> None:
    path = tmp_path / "unchecked.py"
    path.write_text(UNCHECKED)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", str(tmp_path)]
    said = subprocess.run([*mypy, str(path)], capture_output=True, text=True, cwd=ROOT).stdout
    assert 'has incompatible type "Write"; expected "Checked"' in said
    assert 'has incompatible type "Write"; expected "Intended"' in said
