"""Runs of many machines share what one OpenMeter takes at once."""

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path

import pytest

from meter_sync.config import Settings, load
from meter_sync.ledger import Place, RunRecord, Scope, open_ledger
from meter_sync.net.places import places_at, places_shared
from meter_sync.sync.allowance import sharing_openmeter
from tests.support.postgres import new_ledger, server
from tests.support.tables import carry_out
from tests.support.world import NOW

pytestmark = pytest.mark.every_way

URL = "https://openmeter.example.com"


def settings_of(place: Place) -> Settings:
    environment = {"STRIPE_API_KEY": "sk_test_1", "OPENMETER_URL": URL, "METER_SYNC_LEDGER": str(place)}
    return load(None, environment, {})


def run(name: str) -> RunRecord:
    return RunRecord(name, NOW, NOW, "hourly", everything=True)


async def free_places(place: Place, *, is_seen: bool = True) -> int:
    """How many places a run has, once it has looked at the others."""
    with places_shared():
        async with sharing_openmeter(settings_of(place), run("mine"), is_seen=is_seen):
            for _ in range(10):
                await asyncio.sleep(0)
            places, found = places_at(URL, 4), 0
            with suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(0):
                        await places.__aenter__()
                    found += 1
    return found


def test_runs_of_other_machines_at_the_same_openmeter_are_left_their_places() -> None:
    assert asyncio.run(free_places(new_ledger())) == 4
    place = new_ledger()
    of_address = Scope(f"openmeter:{hashlib.sha256(URL.encode()).hexdigest()[:16]}", "")
    with open_ledger(place, of_address) as ledger:
        ledger.callers.join(run("another"))
        assert asyncio.run(free_places(place)) == 2
        ledger.callers.part(run("another"))


def test_a_ledger_that_is_a_file_is_told_nothing_of_openmeter(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.sqlite3"
    assert (asyncio.run(free_places(ledger)), ledger.exists()) == (4, False)


def test_a_dry_run_makes_no_tables_on_a_server() -> None:
    empty = server().database()
    assert asyncio.run(free_places(empty, is_seen=False)) == 4
    assert carry_out(empty, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
