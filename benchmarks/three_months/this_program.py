"""This program in the three months: its own runs, in this process, over real HTTP and by the sandbox's clock."""

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from meter_sync.config import Settings, load
from meter_sync.core.metering.mapping import LateUsage
from meter_sync.ledger import Scope, open_ledger_read_only
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Sandbox
from meter_sync.sync.books import execute
from meter_sync.sync.request import Request
from three_months.scenario import CLOSING_WITHIN
from three_months.troubles import Killed, Weather
from three_months.ways import Place, Said

_NO_LIMIT = "10000"


class ThisProgram:
    """`meter-sync run` every hour, and `meter-sync run --closing 3m` every minute."""

    def __init__(self, sandbox: Sandbox, folder: Path, weather: Weather, late_usage: LateUsage) -> None:
        self._sandbox = sandbox
        self._late_usage = late_usage
        self._ledger = folder / "ledger.sqlite3"
        self._weather = weather

    def run(self) -> None:
        """Make a full run. What is being sent when it is killed has no answer, and nothing follows."""
        self._execute(Request())

    def run_twice_at_once(self) -> None:
        """Start two full runs together."""
        self._execute(Request(), Request())

    def close(self) -> None:
        """Make a closing run."""
        self._execute(Request(closing=CLOSING_WITHIN, is_beside=True))

    def said(self) -> Said:
        """Return what `meter-sync history --unbilled` lists, and what the ledger says that was carried."""
        with open_ledger_read_only(self._ledger, Scope("", "sandbox")) as ledger:
            unbilled = ledger.remainders.unbilled()
        return Said(
            named={(one.item, one.period.start): one.open_quantity for one in unbilled if not one.waits},
            waiting={(one.item, one.period.start): one.open_quantity for one in unbilled if one.waits},
            carried=self._carried(),
        )

    def _carried(self) -> Mapping[tuple[Place, datetime], int]:
        """Return the rows as they are, without the program's own reading and adding up."""
        with closing(sqlite3.connect(self._ledger)) as connection:
            rows = connection.execute('SELECT item, period_start, "into", quantity FROM carries').fetchall()
        return {
            ((item, datetime.fromtimestamp(start, UTC)), datetime.fromtimestamp(into, UTC)): quantity
            for item, start, into, quantity in rows
        }

    def _execute(self, *requests: Request) -> None:
        clock, settings = self._sandbox.clock, self._settings()

        async def run_all() -> None:
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            self._weather.on_kill = lambda: task and loop.call_soon_threadsafe(task.cancel)
            await asyncio.gather(*(execute(settings, request, clock.now, Stop()) for request in requests))

        # The program compares its clock with the servers'.
        self._sandbox.date_skew_seconds = (clock.now() - datetime.now(UTC)).total_seconds()
        try:
            asyncio.run(run_all())
        except asyncio.CancelledError:
            raise Killed from None
        finally:
            self._weather.on_kill = lambda: None

    def _settings(self) -> Settings:
        environment = {
            **self._sandbox.environment(),
            "METER_SYNC_LEDGER": str(self._ledger),
            "METER_SYNC_RETRY_SECONDS": "0",
            "METER_SYNC_STRIPE_RATE": _NO_LIMIT,
            "METER_SYNC_STRIPE_ENDPOINT_RATE": _NO_LIMIT,
            "METER_SYNC_STRIPE_METER_EVENT_RATE": _NO_LIMIT,
        }
        return load(None, environment, {"late_usage": self._late_usage})
