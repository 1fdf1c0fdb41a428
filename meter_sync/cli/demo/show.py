"""The acts of the demo, and what they are played on."""

import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from meter_sync.cli.globals import Globals
from meter_sync.cli.printing import Column, Row, print_table
from meter_sync.cli.run_results import print_execution, summary
from meter_sync.cli.statement.conduct import Wanted, make
from meter_sync.cli.statement.writing import written
from meter_sync.config import Settings, load
from meter_sync.core.billing.item import Period
from meter_sync.core.text import date_and_time, thousands
from meter_sync.ledger import Scope, open_ledger_read_only
from meter_sync.net.stop import Stop
from meter_sync.sandbox import Fault, Sandbox
from meter_sync.sandbox.epsilon import CUSTOMERS, Check, Epsilon
from meter_sync.sandbox.openmeter.api import OpenMeterVersion
from meter_sync.sync.books import execute
from meter_sync.sync.request import Execution, Request

_NOW = datetime(2026, 3, 27, 14, 23, 45, tzinfo=UTC)
_AN_HOUR = timedelta(hours=1)
_LONGER_THAN_A_MONTH = timedelta(days=31)
_RUN = Request()
_CLOSING = Request(closing=timedelta(minutes=3), is_beside=True)


@dataclass(frozen=True, slots=True)
class _Stage:
    """What the acts are played on."""

    options: Globals
    sandbox: Sandbox
    settings: Settings

    def title(self, title: str, detail: str) -> None:
        styled = self.options.color and sys.stdout.isatty()
        click.echo(f"\n{click.style(title, bold=styled, reset=styled)} {detail}")

    async def run(self, request: Request = _RUN) -> Execution:
        """Do what the command `run` does, by the sandbox's clock."""
        now = self.sandbox.clock.now()
        self.sandbox.date_skew_seconds = (now - datetime.now(UTC)).total_seconds()
        return await execute(self.settings, request, self.sandbox.clock.now, Stop())

    async def run_and_sum_up(self) -> Execution:
        execution = await self.run()
        click.echo(summary(execution, dry_run=False))
        return execution

    def show_checks(self, checks: Sequence[Check]) -> list[Check]:
        """Print each customer's amounts, the smallest first, and return those that are wrong."""
        columns = [Column("customer"), Column("Stripe takes")]
        columns += [Column(name, is_amount=True) for name in ("used", *checks[0].elsewhere)]
        rows = []
        for one in sorted(checks, key=lambda one: one.used):
            amounts = (thousands(one.used), *one.elsewhere.values())
            rows.append(Row((one.customer.name, one.customer.kind, *amounts, "equal" if one.is_right else "DIFFERENT")))
        print_table(self.options, [*columns, Column("")], rows)
        return [one for one in checks if not one.is_right]


async def show(options: Globals, folder: Path, openmeter_version: OpenMeterVersion) -> bool:
    """Play all acts and return whether every invoice is right."""
    sandbox = Sandbox(now=_NOW, openmeter_versions=[openmeter_version])
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
        served = f"Stripe and OpenMeter (API {openmeter_version})"
        stage.title(f"An embedded {served} serve on loopback; it is", f"{date_and_time(_NOW)} UTC.")
        epsilon.set_up()
        events = await epsilon.use_so_far()
        click.echo(
            "Epsilon costs $0.20 per package of 1,000,000 requests, begun ones included. "
            f"{CUSTOMERS} customers, whose billing periods began at odd seconds, sent their usage: "
            f"{events:,} CloudEvents over HTTP. Some have a legacy metered price, the others one on a billing meter."
        )
        return await _acts(stage, epsilon)


async def _acts(stage: _Stage, epsilon: Epsilon) -> bool:
    stage.title("1. The plan:", "meter-sync run --dry-run")
    plan = await stage.run(Request(dry_run=True))
    print_execution(plan, "table", stage.options, dry_run=True, quiet=False)
    stage.title("2. The first run:", "meter-sync run")
    await stage.run_and_sum_up()
    stage.title("3. The same again has nothing to do:", "meter-sync run")
    repeated = await stage.run_and_sum_up()
    before = stage.sandbox.clock.now()
    stage.sandbox.clock.advance(_AN_HOUR)
    events = await epsilon.use_more(since=before)
    stage.title("4. An hour later, half of the customers have used more:", f"{events:,} events, meter-sync run")
    for drop in ("after", "before"):  # Stripe has carried the request out, or never had it
        stage.sandbox.faults.add(
            Fault(server="stripe", method="POST", path="event|usage_record", skip=4, times=40, drop=drop)
        )
    await stage.run_and_sum_up()
    stage.title("5. Most answers of Stripe were lost. The next run makes up for it:", "meter-sync run")
    stage.sandbox.faults.clear()
    await stage.run_and_sum_up()
    stage.title("6. What the invoices would say now,", "next to what the customers used")
    wrong = stage.show_checks(epsilon.invoices())
    if wrong:
        click.echo(f"{len(wrong)} of {CUSTOMERS} invoices differ from the usage.", err=True)
    is_repeated = bool(repeated.report.counts.get("reported"))
    if is_repeated:
        click.echo("The second run reported again what Stripe held already.", err=True)
    is_right = not wrong and not is_repeated
    if is_right:
        click.echo(f"All {CUSTOMERS} invoices say exactly what was used.")
    return await _a_month_turns(stage, epsilon) and is_right


async def _a_month_turns(stage: _Stage, epsilon: Epsilon) -> bool:
    """Play the end of every customer's period, with usage in its last seconds and some that comes too late."""
    ends = epsilon.ends()
    stage.title("7. Every period comes to its end:", "meter-sync run --closing 3m, a minute before and after each")
    for end, customer in ends:
        stage.sandbox.clock.move_to(end - timedelta(minutes=1))
        await epsilon.use_at(customer, end - timedelta(minutes=1, seconds=5))
        await stage.run(_CLOSING)
        await epsilon.use_at(customer, end - timedelta(seconds=1))
        stage.sandbox.clock.move_to(end + timedelta(minutes=1))
        await stage.run(_CLOSING)
    stage.sandbox.clock.advance(2 * _AN_HOUR)
    for end, customer in ends[-2:]:
        await epsilon.use_at(customer, end - timedelta(hours=30))
    click.echo("Two customers' usage of the day before comes two hours after the last end: their invoices are final.")
    print_execution(await stage.run(), "table", stage.options, dry_run=False, quiet=True)
    stage.title("8. Where every unit is now:", "on an invoice, in the next period, or named by meter-sync history")
    with open_ledger_read_only(stage.settings.ledger, Scope(account="", mode="sandbox")) as ledger:
        named = {one.subscription: one.open_quantity for one in ledger.remainders.unbilled()}
    wrong = stage.show_checks(epsilon.month(named))
    if wrong:
        click.echo(f"The units of {len(wrong)} of {CUSTOMERS} customers are not where they should be.", err=True)
    else:
        click.echo(f"For all {CUSTOMERS} customers, invoice + next period + what is named is exactly what was used.")
    return await _finance_reads(stage, {end for end, _ in ends}) and not wrong


async def _finance_reads(stage: _Stage, ends: Collection[datetime]) -> bool:
    """Write the statement of the months in which periods ended, once nothing of them is watched any more."""
    stage.sandbox.clock.advance(timedelta(days=stage.settings.lookback_days, hours=1))
    await stage.run()
    time = Period(_month_of(min(ends)), _month_of(max(ends) + _LONGER_THAN_A_MONTH))
    stage.title("9. What finance reads:", f"meter-sync statement --since {time.start:%F} --until {time.end:%F}")
    found, text = make(stage.settings, Wanted(time), stage.sandbox.clock.now)
    file = Path(tempfile.mkdtemp(prefix="meter-sync-statement-")) / "statement.html"
    written(file, text)
    click.echo(found.verdict.sentence)
    click.echo(f"It is in {file}: open it in a browser.")
    return not found.whole.bridge.difference


def _month_of(instant: datetime) -> datetime:
    return instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
