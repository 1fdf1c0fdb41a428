"""The lines that run any command as the service does have its user, folders, keys and variables."""

import os
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from meter_sync.cli.schedule.installation import Installation
from meter_sync.cli.schedule.systemd import by_hand, made
from tests.schedule.installations import PLAIN, changed
from tests.support.documents import ROOT, blocks, document, section

PAGE = "docs/operation.md"
DECIDING = {
    "DynamicUser",
    "User",
    "StateDirectory",
    "StateDirectoryMode",
    "UMask",
    "WorkingDirectory",
    "Environment",
    "EnvironmentFile",
    "LoadCredential",
    "PrivateTmp",
    "ProtectHome",
    "ProtectSystem",
    "ReadWritePaths",
}
"""What decides which files a command finds, may read and leaves behind."""


def line_with(word: str) -> str:
    (line,) = [line for block in blocks(PAGE, "sh") for line in block.splitlines() if line.startswith(f"sudo {word}")]
    assert line in section(PAGE, "By hand")
    return line


def deciding(lines: list[str]) -> list[str]:
    return sorted(line for line in lines if line.split("=")[0] in DECIDING)


def test_by_systemd_it_is_the_line_that_comes_with_the_units() -> None:
    assert line_with("systemd-run") == by_hand(PLAIN, "config", "show")


@pytest.mark.parametrize("of", [PLAIN, changed(ledger=Path("/srv/books/ledger.sqlite3"))], ids=["plain", "elsewhere"])
def test_by_systemd_it_is_as_in_the_unit(of: Installation) -> None:
    service = made(of, "root").files["meter-sync.service"]
    words = shlex.split(by_hand(of, "config", "show"))

    properties = [word for before, word in pairwise(words) if before == "-p"]

    assert sorted(properties) == deciding(service.splitlines())
    (program,) = re.findall(r"^ExecStart=(\S+)", service, flags=re.MULTILINE)
    assert words[-3:] == [program, "config", "show"]


def test_by_cron_it_is_as_in_the_crontab(tmp_path: Path) -> None:
    """The line is carried out, but by another sudo and another crontab."""
    example = ROOT.joinpath("crontab.example").read_text()
    tools, home = tmp_path / "bin", tmp_path / "home"
    for folder in (tools, home):
        folder.mkdir()
    for name, script in {
        "sudo": 'if [ "$1" = -H ]; then [ "$2 $3" = "-u meter-sync" ] || exit 9; shift 3; fi; exec "$@"',
        "crontab": f'[ "$*" = "-u meter-sync -l" ] && sed "s|/opt/meter-sync/bin|{tools}|" {ROOT}/crontab.example',
        "meter-sync": 'echo "$PWD $*"; exec env',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    (of_the_user,) = re.findall(r"useradd --system --home-dir (\S+) meter-sync", document(PAGE))

    done = subprocess.run(
        ["/bin/sh", "-c", line_with("-H").replace(f"-C {of_the_user} ", f"-C {home} ")],
        env={"PATH": f"{tools}:{os.defpath}", "METER_SYNC_LEDGER": "/another"},
        capture_output=True,
        text=True,
        check=True,
    )

    first, *variables = done.stdout.splitlines()
    assert first == f"{home} config show"
    expected = re.findall(r"^[A-Z_]+=.*$", example.replace("/opt/meter-sync/bin", str(tools)), flags=re.MULTILINE)
    assert "METER_SYNC_LEDGER=/var/lib/meter-sync/ledger.sqlite3" in expected
    assert set(expected) <= set(variables)
