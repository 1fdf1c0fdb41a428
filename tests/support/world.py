"""What the end-to-end tests play in: a sandbox, a ledger, and the command."""

import asyncio
import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from meter_sync.config import Settings, load
from meter_sync.core.outcomes import Reason
from meter_sync.core.planning.stages import Result
from meter_sync.ledger import Ledger, Scope, open_ledger, open_ledger_read_only
from meter_sync.ledger.checking import check_ledger
from meter_sync.net.postgres_url import PostgresUrl
from meter_sync.net.stop import Stop
from meter_sync.sandbox import RequestSeen, Sandbox
from meter_sync.sandbox.openmeter.api import OpenMeterVersion
from meter_sync.sandbox.stripe.world import SubscriptionView
from meter_sync.sync.books import execute
from meter_sync.sync.closing import execute_in_time
from meter_sync.sync.request import Execution, Request
from tests.support.forked import Started, template

NOW = datetime(2025, 6, 10, 12, 0, 0, tzinfo=UTC)
PERIOD_START = datetime(2025, 6, 1, 9, 30, 17, tzinfo=UTC)
ANCHOR = int(PERIOD_START.timestamp()) + 1
METER = "api_requests"
UNHURRIED = {
    "METER_SYNC_RETRY_SECONDS": "0",
    "METER_SYNC_STRIPE_RATE": "10000",
    "METER_SYNC_STRIPE_ENDPOINT_RATE": "10000",
    "METER_SYNC_STRIPE_METER_EVENT_RATE": "10000",
}
"""Settings with which no command waits for a limit or to try again; a test of limits or of retrying says its own."""
Process: TypeAlias = "Started | subprocess.Popen[str]"
_OF_THE_PROGRAM = ("STRIPE_API_", "STRIPE_SETUP_", "STRIPE_WEBHOOK_", "OPENMETER_", "METER_SYNC_")


@dataclass(frozen=True)
class Outcome:
    """What a command did: its exit code and what it printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def items(self) -> dict[str, dict[str, Any]]:
        """The listed items by their id, in their open period; each must appear once in a period."""
        rows = self.document["items"]
        assert len({(row["subscription_item"], row["period"]["start"]) for row in rows}) == len(rows)
        return {row["subscription_item"]: row for row in rows}

    @property
    def item(self) -> dict[str, Any]:
        """The only item, in its open period."""
        (row,) = self.items.values()
        return dict(row)

    @property
    def verdict(self) -> tuple[str, str | None]:
        """What became of the only item, and why."""
        return self.item["outcome"], self.item["reason"]

    @property
    def error_code(self) -> str:
        """The code of the error that ended the run."""
        return str(self.document["error"]["code"])


class World:
    """A sandbox with the usual meter and price, a ledger of its own, and the command."""

    def __init__(self, folder: Path, now: datetime, openmeter_version: OpenMeterVersion = "v1") -> None:
        self.folder = folder
        self.ledger = folder / "state" / "ledger.sqlite3"
        self.place: Path | PostgresUrl = self.ledger
        """Where the ledger is: the file, unless a test puts it on a server."""
        self.config = folder / "meter-sync.toml"
        self.openmeter_version = openmeter_version
        self.sandbox = Sandbox(now=now, openmeter_versions=[openmeter_version])
        self.stripe = self.sandbox.stripe
        self.openmeter = self.sandbox.openmeter
        self.openmeter.add_meter(METER, aggregation="SUM")
        self.price = self.stripe.add_price(metadata={"om_meter_id": METER})
        self.last_results: list[Result] = []

    @property
    def now(self) -> datetime:
        return self.sandbox.clock.now()

    def subscribe(self, *prices: str, **details: Any) -> SubscriptionView:
        """Add a customer with one subscription, by default on the usual price from the usual period start."""
        customer = details.pop("customer", None) or self.stripe.add_customer()
        details.setdefault("period_start", PERIOD_START)
        return self.stripe.add_subscription(customer, list(prices or [self.price]), **details)

    def customer_of(self, subscription: SubscriptionView) -> str:
        return self.stripe.state.subscriptions[subscription.id].customer

    def use(
        self, subject: str | SubscriptionView, value: float | str, at: datetime | None = None, meter: str = METER
    ) -> None:
        """Let a subject, or a subscription's customer, use something; by default an hour ago."""
        name = subject if isinstance(subject, str) else self.customer_of(subject)
        self.openmeter.add_event(meter, name, at or self.now - timedelta(hours=1), value=value)

    def configure(self, toml: str) -> None:
        self.config.write_text(toml, encoding="utf-8")

    def environment(self, **overrides: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("STRIPE_", "OPENMETER_", "METER_SYNC_"))
        }
        return {
            **kept,
            **self.sandbox.environment(),
            "METER_SYNC_LEDGER": str(self.place),
            **UNHURRIED,
            **overrides,
        }

    def command(self, *arguments: str) -> list[str]:
        return [*installed_command(), *self._configured(arguments)]

    def _configured(self, arguments: Sequence[str]) -> list[str]:
        config = ["--config", str(self.config)] if self.config.exists() else []
        return [*config, *arguments]

    def meter_sync(self, *arguments: str, **overrides: str) -> Outcome:
        """Run the command to its end, in a process forked from one that has its imports.

        With variables that are not the program's own the installed command is started instead: Python or a library may
        read them while it is imported.
        """
        if not _are_of_the_program(overrides):
            return self.installed_meter_sync(*arguments, **overrides)
        return outcome_of(template().run(self._configured(arguments), self.environment(**overrides), self.folder))

    def installed_meter_sync(self, *arguments: str, **overrides: str) -> Outcome:
        """Run the installed command to its end."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(**overrides),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return outcome_of(done)

    def run(self, *arguments: str, **overrides: str) -> Outcome:
        """`meter-sync run --output json`, as of the sandbox's clock."""
        as_of = [] if "--as-of" in arguments else ["--as-of", self.now.isoformat()]
        return self.meter_sync("run", "--output", "json", *as_of, *arguments, **overrides)

    def execute(
        self, *allowed: Reason, retry_seconds: int = 0, schedule: str = "hourly", **request: Any
    ) -> dict[str, Result]:
        """Do what the command does, in this process and by the sandbox's clock; return what became of each item.

        Of an item with a period that has ended, that is what became of its open one; `last_results` has both.
        """
        settings = self._settings(retry_seconds, schedule)
        wanted = Request(allowed=frozenset(allowed), **request)
        if self.place == self.ledger and not (wanted.dry_run or self.ledger.exists()):
            self.ledger.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copy(_new_ledger(), self.ledger)
        return self._carried_out(execute(settings, wanted, self.sandbox.clock.now, Stop()))

    def close_in_time(self, within: timedelta, schedule: str = "hourly") -> dict[str, Result]:
        """Do what `run --closing` does; where it waits, the sandbox's clock is moved."""

        async def wait_until(instant: datetime) -> None:
            self.sandbox.clock.move_to(instant)
            self._agree_on_time()

        wanted = Request(closing=within, is_beside=True)
        settings, clock = self._settings(0, schedule), self.sandbox.clock.now
        return self._carried_out(execute_in_time(settings, wanted, clock, Stop(), wait_until))

    def _settings(self, retry_seconds: int, schedule: str) -> Settings:
        environment = self.environment(METER_SYNC_RETRY_SECONDS=str(retry_seconds), METER_SYNC_SCHEDULE=schedule)
        return load(self.config if self.config.exists() else None, environment, {})

    def _agree_on_time(self) -> None:
        """Let Stripe's answers have the date that the program's clock has."""
        self.sandbox.date_skew_seconds = (self.now - datetime.now(UTC)).total_seconds()

    def _carried_out(self, carrying_out: Coroutine[None, None, Execution]) -> dict[str, Result]:
        self._agree_on_time()
        done = asyncio.run(carrying_out)
        self.sandbox.date_skew_seconds = 0.0
        self.last_results = list(done.report.results)
        return {result.item.id: result for result in self.last_results}

    @contextmanager
    def books(self) -> Iterator[Ledger]:
        """Open the ledger to look at it."""
        with open_ledger_read_only(self.place, Scope("", "sandbox")) as ledger:
            yield ledger

    def wrong_in_books(self) -> dict[str, object]:
        """What `ledger check` finds wrong with the ledger, by the names of its checks."""
        checks = check_ledger(self.place, self.now)
        return {one.check: one.found or one.status for one in checks if one.status != "ok"}

    def unbilled(self) -> dict[str, int]:
        """What the ledger says that Stripe does not bill, by item."""
        found: Counter[str] = Counter()
        with self.books() as ledger:
            for one in ledger.remainders.unbilled():
                found[one.item] += one.open_quantity
        return dict(found)

    def verdict(self, subscription: SubscriptionView, *allowed: Reason, **request: Any) -> str:
        """Do what the command does; return what became of a subscription's first item: its outcome, or the reason."""
        result = self.execute(*allowed, **request)[subscription.items[0]]
        return str(result.reason or result.outcome)

    def start(self, *arguments: str, **overrides: str) -> Process:
        """Start the command, to be signalled or waited for; where it comes from, `meter_sync` says."""
        if not _are_of_the_program(overrides):
            return self.start_installed(*arguments, **overrides)
        return template().start(self._configured(arguments), self.environment(**overrides), self.folder)

    def start_installed(self, *arguments: str, **overrides: str) -> "subprocess.Popen[str]":
        """Start the installed command, to be signalled or waited for."""
        return subprocess.Popen(
            self.command(*arguments),
            env=self.environment(**overrides),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def billed(self, subscription: SubscriptionView) -> int:
        """What Stripe would bill for the first item of a subscription."""
        return self.stripe.total(subscription.items[0])

    def query_path(self, meter: str) -> str:
        """The path of a query of an OpenMeter meter: API v3 has its id in the place of its slug."""
        if self.openmeter_version == "v1":
            return f"/api/v1/meters/{meter}/query"
        return f"/api/v3/openmeter/meters/{self.openmeter.meters[meter].id}/query"

    def seen(self, method: str, path_end: str) -> list[RequestSeen]:
        """The requests that came for a route."""
        return [
            request for request in self.sandbox.requests if request.method == method and request.path.endswith(path_end)
        ]

    @property
    def writes(self) -> list[RequestSeen]:
        """Everything that was sent to change Stripe."""
        return [request for request in self.sandbox.requests if request.server == "stripe" and request.method != "GET"]


class InstalledWorld(World):
    """A world where every run is one of the installed command, as a person or a crontab starts it."""

    def meter_sync(self, *arguments: str, **overrides: str) -> Outcome:
        """Run the installed command to its end."""
        return self.installed_meter_sync(*arguments, **overrides)


def sampled_version(name: str) -> OpenMeterVersion:
    """Return the version of OpenMeter's API that something of a name is played in: each with half of the names."""
    return "v3" if zlib.crc32(name.encode()) % 2 else "v1"


@functools.cache
def _new_ledger() -> Path:
    """Make a ledger that knows nothing, once: every run of a new world would make one just like it."""
    path = Path(tempfile.mkdtemp(prefix="meter-sync-ledger-"), "ledger.sqlite3")
    atexit.register(shutil.rmtree, path.parent, ignore_errors=True)
    with open_ledger(path, Scope("", "sandbox")):
        return path


def _are_of_the_program(variables: Iterable[str]) -> bool:
    return all(name.startswith(_OF_THE_PROGRAM) for name in variables)


def outcome_of(done: "subprocess.CompletedProcess[str]") -> Outcome:
    assert "Traceback" not in done.stderr, done.stderr
    return Outcome(done.returncode, done.stdout, done.stderr)


def installed_command() -> list[str]:
    """The console script that belongs to this interpreter."""
    beside = Path(sys.executable).with_name("meter-sync")
    found = str(beside) if beside.exists() else shutil.which("meter-sync")
    assert found, "meter-sync is not installed beside this interpreter"
    return [found]


def interrupt(process: Process, how: signal.Signals = signal.SIGTERM) -> Outcome:
    """Signal a started command and wait for its end."""
    process.send_signal(how)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode is not None
    return Outcome(process.returncode, stdout, stderr)
