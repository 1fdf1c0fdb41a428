"""This program in the three months: its own runs, in this process, over real HTTP and by the sandbox's clock."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

from meter_sync.config import Settings, load
from meter_sync.ledger import Scope, open_ledger_read_only
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Sandbox
from meter_sync.sync.books import execute
from meter_sync.sync.request import Request
from three_months.scenario import CLOSING_WITHIN
from three_months.troubles import Killed, Weather
from three_months.ways import Named

_NO_LIMIT = "10000"


class ThisProgram:
    """`meter-sync run` every hour, and `meter-sync run --closing 3m` every minute."""

    def __init__(self, sandbox: Sandbox, folder: Path, weather: Weather) -> None:
        self._sandbox = sandbox
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

    def named(self) -> Named:
        """Return what `meter-sync history --unbilled` lists."""
        with open_ledger_read_only(self._ledger, Scope("", "sandbox")) as ledger:
            return {(one.item, one.period.start): one.open_quantity for one in ledger.remainders.unbilled()}

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
        return load(None, environment, {})
