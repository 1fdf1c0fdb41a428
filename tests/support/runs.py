"""What a key can do, shown by a life of a subscription of every kind with every way of running."""

import asyncio
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from meter_sync.config import Settings, load
from meter_sync.core.outcomes import ExitCode, Outcome
from meter_sync.errors import MeterSyncError
from meter_sync.net.stop import Stop
from meter_sync.sync.books import execute
from meter_sync.sync.request import Request, RunReport
from meter_sync.webhook.reporting import reporter
from tests.support.ways import WAYS, metered
from tests.support.world import NOW, World

KEY = "rk_test_restricted"
KINDS = ("record", *WAYS)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one run: what ended it, its items by outcome, and what was warned about."""

    error: MeterSyncError | None
    outcomes: Counter[Outcome]
    warnings: frozenset[str]


class Life:
    """An item on a legacy price and one on every kind of billing meter, and a key that may do only so much."""

    def __init__(
        self, folder: Path, permissions: Collection[str], *, subject: str = "customer.metadata.tenant"
    ) -> None:
        self.world = World(folder, NOW)
        self.world.configure(f'[mapping]\nsubject = "{subject}"\n')
        self.world.sandbox.stripe_key = self.world.stripe.add_restricted_key(KEY, permissions)
        self.customers = [self.world.stripe.add_customer(f"cus_{kind}", {"tenant": f"cus_{kind}"}) for kind in KINDS]
        self.subscriptions = [self._subscribed(kind) for kind in KINDS]
        self.world.stripe.add_schedule(self.subscriptions[0])
        self.use(self.world.now - HOUR)

    def _subscribed(self, kind: str) -> str:
        customer = f"cus_{kind}"
        if kind == "record":
            return self.world.subscribe(customer=customer).id
        return metered(self.world, kind, customer=customer).id

    def use(self, at: datetime) -> None:
        """Let every customer use one."""
        for customer in self.customers:
            self.world.use(customer, 1, at)

    @cached_property
    def end(self) -> datetime:
        """The end of the first period."""
        item = next(iter(self.world.stripe.state.items))
        return datetime.fromtimestamp(self.world.stripe.period(item.id).end, UTC)

    @property
    def invoiced(self) -> int:
        """What all invoices bill."""
        return sum(line.quantity for invoice in self.world.stripe.invoices for line in invoice.lines)

    def run(self, **request: Any) -> Step:
        """Do what `meter-sync run` does."""
        with capture_logs() as logged:
            report = executed(self.world, **request)
        warned = frozenset(entry["event"] for entry in logged if entry["log_level"] == "warning")
        return Step(report.error, Counter(one.outcome for one in report.results), warned)

    def webhook(self, subscription: str | None) -> ExitCode:
        """Do what `meter-sync webhook` does for an event."""

        async def report() -> ExitCode:
            return await reporter(settings(self.world), self.world.sandbox.clock.now, Stop())(subscription)

        with capture_logs():
            return asyncio.run(report())

    def lived(self) -> list[Step]:
        """Run in every way over the end of a period, and return what became of each run."""
        with self.world.sandbox.in_background():
            steps = [self.run(dry_run=True), self.run()]
            self.use(self.end - 5 * MINUTE)
            self.world.sandbox.clock.move_to(self.end - MINUTE)
            steps.append(self.run(closing=3 * MINUTE, is_beside=True))
            self.world.sandbox.clock.move_to(self.end + 3 * MINUTE)
            return [*steps, self.run()]


def settings(world: World) -> Settings:
    """The settings for a run now, by the sandbox's clock: requests are tried once, and as fast as they come."""
    world.sandbox.date_skew_seconds = (world.now - datetime.now(UTC)).total_seconds()
    file = world.config if world.config.exists() else None
    return load(file, world.environment(), {})


def executed(world: World, **request: Any) -> RunReport:
    """Do what `meter-sync run` does, by the sandbox's clock, and return what became of it."""
    return asyncio.run(execute(settings(world), Request(**request), world.sandbox.clock.now, Stop())).report
