"""The README: two screens, and the lines that a newcomer runs."""

import re
import subprocess

import pytest

from tests.support.documents import blocks, document, section
from tests.support.permissions import PERMISSIONS

README = document("README.md")


def test_it_is_two_screens() -> None:
    assert len(README.encode()) < 12 * 1024
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("line", ["meter-sync demo", "pytest"])
def test_one_line_sets_up_and_runs(line: str) -> None:
    commands = [
        text for block in blocks("README.md", "sh") for text in block.splitlines() if text.startswith("python3 -m venv")
    ]
    (command,) = [command for command in commands if line in command]

    assert f"\n{command}\n" in README
    assert README.index(command) < README.index("## What a run does")
    assert subprocess.run(["/bin/sh", "-n", "-c", command], check=False).returncode == 0


def test_the_permissions_of_the_key_are_named_where_messages_say_so() -> None:
    step = section("README.md", "The way to a first safe run")

    assert [one.row for one in PERMISSIONS if one.row.removesuffix(" (Connect)") not in step] == []


@pytest.mark.parametrize("name", ["README.md", "docs/getting-started.md", "docs/operation.md"])
def test_a_schedule_is_made_by_the_command_and_not_by_hand(name: str) -> None:
    """A line that is written by hand has no log, no mail and another configuration."""
    assert "meter-sync schedule crontab --mailto" in "".join(blocks(name, "sh"))
    assert not re.search(r"^\s*[0-9*]+ \S+ \* \* \* ", document(name), flags=re.MULTILINE)
