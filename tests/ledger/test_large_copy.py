"""A ledger of 100,000 rows is copied in batches: memory does not grow with it, and time no faster than it does."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from meter_sync.ledger import Place, Scope, open_ledger
from tests.support.postgres import server
from tests.support.tables import carry_out
from tests.support.world import World

pytestmark = pytest.mark.every_way

FEW, MANY = 10_000, 100_000
_MOST_BYTES_MORE = 20_000_000
_TIMES_AS_LONG = 20
"""Ten times the rows take ten times as long; twice that is a difference that no load of the machine makes."""

_ROWS = """
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?)
INSERT INTO seen_periods (account, mode, item, period_start, period_end, subscription, customer, snapshot, seen_at)
SELECT '', 'sandbox', 'si_' || n, 1748770217, 1751362217, 'sub_' || n, 'cus_' || n, 'x', 1748770217 FROM numbers
"""
_MEASURED = """
import resource, sys
from pathlib import Path
from meter_sync.cli import main

try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    (peak,) = [one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:")]
    print(used.ru_utime + used.ru_stime, peak.split()[1], file=sys.stderr)
"""


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    cpu_seconds: float
    peak_bytes: int


def copied(world: World, source: Place, target: Place, rows: int) -> Cost:
    arguments = ["ledger", "copy", "--from", str(source), "--to", str(target), "--output", "json"]
    command, environment = [sys.executable, "-c", _MEASURED, *arguments], world.environment()
    done = subprocess.run(command, env=environment, cwd=world.folder, capture_output=True, text=True, check=True)
    tables = {one["table"]: one["rows"] for one in json.loads(done.stdout)["tables"]}
    assert tables["seen_periods"] == rows
    seconds, kibibytes = done.stderr.split()[-2:]
    return Cost(float(seconds), int(kibibytes) * 1024)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not tell how much memory was used")
def test_from_a_file_to_a_server_and_back(world: World) -> None:
    costs = {}
    for rows in (FEW, MANY):
        source, between = world.folder / f"{rows}.sqlite3", server().database()
        with open_ledger(source, Scope("", "sandbox")):
            carry_out(source, _ROWS, rows)
        costs[rows] = [copied(world, source, between, rows), copied(world, between, source.with_suffix(".back"), rows)]

    for few, many in zip(costs[FEW], costs[MANY], strict=True):
        assert many.peak_bytes - few.peak_bytes < _MOST_BYTES_MORE, costs
        assert many.cpu_seconds < _TIMES_AS_LONG * few.cpu_seconds, costs
