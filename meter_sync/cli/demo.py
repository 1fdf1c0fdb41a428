"""`meter-sync demo`: the whole job against an embedded Stripe and OpenMeter."""

import asyncio
import sys
import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meter_sync.cli.globals import Globals
from meter_sync.core.outcomes import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from meter_sync.config import Settings
    from meter_sync.demo.epsilon import Epsilon, InvoiceCheck, MonthCheck
    from meter_sync.sandbox import Sandbox
    from meter_sync.sync.request import Execution, Request

_NOW = datetime(2026, 3, 27, 14, 23, 45, tzinfo=UTC)
_AN_HOUR = timedelta(hours=1)
_LOST = 40
"""So many answers are lost after Stripe has carried a request out, and as many requests before."""


@click.command()
@click.pass_obj
def demo(options: Globals) -> None:
    """Show the whole job against an embedded Stripe and OpenMeter.

    Needs no key, account, server or network. Ends with what each customer's invoice would say next to what they
    used, and fails if the two differ.
    """
    # What a run would warn of is part of the show: the clock jumps over days.
    (replace(options, log_level="error") if options.log_level == "warning" else options).start_logging()
    with tempfile.TemporaryDirectory(prefix="meter-sync-demo-") as folder:
        is_right = asyncio.run(_show(options, Path(folder)))
    sys.exit(ExitCode.DONE if is_right else ExitCode.FAILED)


async def _show(options: Globals, folder: Path) -> bool:
    """Play all acts and return whether every invoice is right."""
    from meter_sync.config import load
    from meter_sync.demo.epsilon import CUSTOMERS, Epsilon
    from meter_sync.sandbox import Sandbox

    sandbox = Sandbox(now=_NOW)
    epsilon = Epsilon(sandbox)
    async with sandbox.serving():
        environment = {
            **sandbox.environment(),
            "METER_SYNC_LEDGER": str(folder / "ledger.sqlite3"),
            "METER_SYNC_STRIPE_RATE": "100",
            "METER_SYNC_STRIPE_METER_EVENT_RATE": "1000",
            "METER_SYNC_RETRY_SECONDS": "1",
        }
        stage = _Stage(options, sandbox, load(None, environment, {}))
        stage.title("An embedded Stripe and OpenMeter serve on loopback; it is", f"{_NOW:%Y-%m-%d %H:%M:%S} UTC.")
        epsilon.set_up()
        events = await epsilon.use_so_far()
        click.echo(
            "Epsilon costs $0.20 per package of 1,000,000 requests, begun ones included. "
            f"{CUSTOMERS} customers, whose billing periods began at odd seconds, sent their usage: "
            f"{events:,} CloudEvents over HTTP. Some have a legacy metered price, the others one on a billing meter."
        )
        return await _acts(stage, epsilon)


async def _acts(stage: "_Stage", epsilon: "Epsilon") -> bool:
    stage.title("1. The plan:", "meter-sync run --dry-run")
    stage.show(await stage.run(dry_run=True), dry_run=True)
    stage.title("2. The first run:", "meter-sync run")
    stage.sum(await stage.run())
    stage.title("3. The same again has nothing to do:", "meter-sync run")
    repeated = await stage.run()
    stage.sum(repeated)
    before = stage.an_hour_passes()
    events = await epsilon.use_more(since=before)
    stage.title("4. An hour later, half of the customers have used more:", f"{events:,} events, meter-sync run")
    stage.the_network_breaks()
    stage.sum(await stage.run())
    stage.title("5. Most answers of Stripe were lost. The next run makes up for it:", "meter-sync run")
    stage.the_network_works()
    stage.sum(await stage.run())
    stage.title("6. What the invoices would say now,", "next to what the customers used")
    checks = epsilon.invoices()
    stage.show_invoices(checks)
    is_right = stage.verdict(checks, nothing_repeated=not repeated.report.counts.get("reported"))
    return await _a_month_turns(stage, epsilon) and is_right


async def _a_month_turns(stage: "_Stage", epsilon: "Epsilon") -> bool:
    """Play the end of every customer's period, with usage in its last seconds and some that comes too late."""
    ends = epsilon.ends()
    stage.title("7. Every period comes to its end:", "meter-sync run --closing 3m, a minute before and after each")
    for end, customer in ends:
        stage.sandbox.clock.move_to(end - timedelta(minutes=1))
        await epsilon.use_at(customer, end - timedelta(minutes=1, seconds=5))
        await stage.close()
        await epsilon.use_at(customer, end - timedelta(seconds=1))
        stage.sandbox.clock.move_to(end + timedelta(minutes=1))
        await stage.close()
    stage.sandbox.clock.advance(2 * _AN_HOUR)
    for end, customer in ends[-2:]:
        await epsilon.use_at(customer, end - timedelta(hours=30))
    click.echo("Two customers' usage of the day before comes two hours after the last end: their invoices are final.")
    stage.show(await stage.run(), only_noteworthy=True)
    stage.title("8. Where every unit is now:", "on an invoice, in the next period, or named by meter-sync history")
    checks = epsilon.month(stage.named())
    stage.show_month(checks)
    return stage.month_verdict(checks)


@dataclass(frozen=True, slots=True)
class _Stage:
    """What the acts are played on."""

    options: Globals
    sandbox: "Sandbox"
    settings: "Settings"

    def title(self, title: str, detail: str) -> None:
        click.echo(f"\n{click.style(title, bold=self._color, reset=self._color)} {detail}")

    @property
    def _color(self) -> bool:
        return self.options.color and sys.stdout.isatty()

    async def run(self, *, dry_run: bool = False) -> "Execution":
        """Do what the command `run` does, by the sandbox's clock."""
        from meter_sync.sync.request import Request

        return await self._execute(Request(dry_run=dry_run))

    async def close(self) -> "Execution":
        """Do what `run --closing 3m` does."""
        from meter_sync.sync.request import Request

        return await self._execute(Request(closing=timedelta(minutes=3), is_beside=True))

    async def _execute(self, request: "Request") -> "Execution":
        from meter_sync.net.stop import Stop
        from meter_sync.sync.books import execute

        now = self.sandbox.clock.now()
        self.sandbox.date_skew_seconds = (now - datetime.now(UTC)).total_seconds()
        return await execute(self.settings, request, self.sandbox.clock.now, Stop())

    def named(self) -> dict[str, int]:
        """Return what the ledger names as not billed, by subscription."""
        from meter_sync.ledger import Scope, open_ledger_read_only

        with open_ledger_read_only(self.settings.ledger, Scope(account="", mode="sandbox")) as ledger:
            return {one.subscription: one.open_quantity for one in ledger.remainders.unbilled()}

    def an_hour_passes(self) -> datetime:
        """Move the clock and return when it stood before."""
        before = self.sandbox.clock.now()
        self.sandbox.clock.advance(_AN_HOUR)
        return before

    def the_network_breaks(self) -> None:
        """Lose the answers to most of what is sent to Stripe: some of it arrives, and some does not."""
        from meter_sync.sandbox import Fault

        for drop in ("after", "before"):
            self.sandbox.faults.add(
                Fault(server="stripe", method="POST", path="event|usage_record", skip=4, times=_LOST, drop=drop)
            )

    def the_network_works(self) -> None:
        self.sandbox.faults.clear()

    def show(self, execution: "Execution", *, dry_run: bool = False, only_noteworthy: bool = False) -> None:
        from meter_sync.cli.output import printer

        printer("table", self.options, quiet=only_noteworthy)(execution, dry_run=dry_run)

    def sum(self, execution: "Execution") -> None:
        from meter_sync.cli.output import summary

        click.echo(summary(execution, dry_run=False))

    def show_invoices(self, checks: "Sequence[InvoiceCheck]") -> None:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("customer", no_wrap=True)
        table.add_column("Stripe takes", no_wrap=True)
        for name in ("used", "billed", "invoice"):
            table.add_column(name, justify="right")
        table.add_column("")
        for check in sorted(checks, key=lambda check: check.used):
            table.add_row(
                check.customer.name,
                check.customer.kind,
                f"{check.used:,f}",
                f"{check.billed:,}",
                f"${check.amount_cents / 100:,.2f}",
                "equal" if check.is_right else "DIFFERENT",
            )
        self.options.console().print(table)

    def show_month(self, checks: "Sequence[MonthCheck]") -> None:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("customer", no_wrap=True)
        table.add_column("Stripe takes", no_wrap=True)
        for name in ("used", "invoiced", "next period", "named"):
            table.add_column(name, justify="right")
        table.add_column("")
        for check in sorted(checks, key=lambda check: check.used):
            amounts = (check.used, check.invoiced, check.going_on, check.named)
            said = "equal" if check.is_right else "DIFFERENT"
            table.add_row(check.customer.name, check.customer.kind, *(f"{amount:,}" for amount in amounts), said)
        self.options.console().print(table)

    def month_verdict(self, checks: "Sequence[MonthCheck]") -> bool:
        """Say in a sentence whether every unit is somewhere, once, and return it."""
        wrong = [check for check in checks if not check.is_right]
        if wrong:
            click.echo(f"The units of {len(wrong)} of {len(checks)} customers are not where they should be.", err=True)
            return False
        click.echo(f"For all {len(checks)} customers, invoice + next period + what is named is exactly what was used.")
        return True

    def verdict(self, checks: "Sequence[InvoiceCheck]", *, nothing_repeated: bool) -> bool:
        """Say in a sentence whether all is right, and return it."""
        wrong = [check for check in checks if not check.is_right]
        if wrong:
            click.echo(f"{len(wrong)} of {len(checks)} invoices differ from the usage.", err=True)
        if not nothing_repeated:
            click.echo("The second run reported again what Stripe held already.", err=True)
        if wrong or not nothing_repeated:
            return False
        click.echo(f"All {len(checks)} invoices say exactly what was used.")
        return True
