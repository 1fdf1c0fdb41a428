"""The README: two screens, and the lines that a newcomer runs."""

import subprocess

import pytest

from tests.support.documents import ROOT, blocks, document, section
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


def test_the_two_lines_of_a_crontab_stand_together_wherever_they_are_shown() -> None:
    """The example has a PATH; a line by itself names the program in full, since cron's own PATH has not its folder."""
    example = ROOT.joinpath("crontab.example").read_text()
    for times in ("7 * * * *", "* * * * *"):
        assert f"\n{times} meter-sync" in example
        for name in ("README.md", "docs/getting-started.md", "docs/operation.md"):
            assert f"{times} /opt/meter-sync/bin/meter-sync run" in "".join(blocks(name, "text"))
