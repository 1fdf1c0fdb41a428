"""`meter-sync run`: list, query, plan, check, report, record."""

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import click

from meter_sync.cli.ending import Words, carried_out, exit_with
from meter_sync.cli.globals import Globals, now
from meter_sync.cli.options import Duration, Instant, output, quiet, selectors
from meter_sync.core.outcomes import LIFTABLE, Reason
from meter_sync.core.planning.selection import Selection
from meter_sync.core.schedule import Schedule

if TYPE_CHECKING:
    from meter_sync.config import Settings
    from meter_sync.net.stop import Stop
    from meter_sync.sync.request import Execution, Request

_WORDS = Words(
    cut_off="the run",
    then="run it again; what was sent is not sent twice",
    after_a_bug="what it had intended is in the ledger",
    report="report it with the lines above; the next run sets again whatever is unclear",
    not_printed="the run itself was carried out and is in the ledger",
)


@click.command()
@selectors
@click.option("--dry-run", "-n", is_flag=True, help="Show the plan and write nothing, whatever else is given.")
@click.option(
    "--schedule",
    type=click.Choice([each.value for each in Schedule]),
    help="The promised cadence: when a run counts as missed. Default: hourly.  [env var: METER_SYNC_SCHEDULE]",
)
@click.option(
    "--as-of", type=Instant(), help="Read usage until this instant, not now; with --dry-run it may be any past one."
)
@click.option(
    "--closing",
    type=Duration("a length of time with its unit, such as 90s, 3m or 1h", "smh"),
    metavar="WITHIN",
    help="Only items whose period ends or has ended within this time, such as 3m; for a line that runs every minute.",
)
@click.option("--resend", is_flag=True, help="Report also what the ledger says that Stripe already holds.")
@click.option(
    "--allow",
    multiple=True,
    type=click.Choice([reason.value for reason in LIFTABLE]),
    help="Lift this safety brake for this run; repeatable.",
)
@output
@quiet("was held, skipped or failed")
@click.pass_obj
def run(
    options: Globals,
    selection: Selection,
    dry_run: bool,
    schedule: str | None,
    as_of: datetime | None,
    closing: timedelta | None,
    resend: bool,
    allow: tuple[str, ...],
    output: str,
    quiet: bool,
) -> None:
    """Report the usage of metered subscription items to Stripe.

    Lists the metered items of living subscriptions, queries OpenMeter for each one's usage from its period's start
    until now, and sets that quantity in Stripe where it differs. Running it again changes nothing.
    """
    from meter_sync.cli.run.output import print_execution
    from meter_sync.sync.request import Request, failed_before_it_began

    options.start_logging()
    request = Request(
        selection=selection,
        as_of=as_of,
        dry_run=dry_run,
        resend=resend,
        allowed=frozenset(Reason(reason) for reason in allow),
        closing=closing,
        is_beside=closing is not None,
    )
    if closing is not None and not selection.is_everything:
        raise click.UsageError("--closing goes by the ends of periods: leave the other selectors out.")
    execution = carried_out(
        lambda: _executed(options, request, schedule),
        lambda error: failed_before_it_began(error, request, schedule or Schedule.HOURLY, now()),
        _WORDS,
    )
    printed = partial(print_execution, execution, output, options, dry_run=dry_run, quiet=quiet)
    exit_with(execution.report.exit_code, printed, _WORDS)


def _executed(options: Globals, request: "Request", schedule: str | None) -> "Execution":
    """Load the configuration and execute. Raise MeterSyncError."""
    from meter_sync.sync.request import Execution, RunReport, run_record

    settings = options.load_settings(schedule=schedule)
    if request.closing is not None and _nothing_ends(settings, request.as_of or now(), request.closing):
        began = now()
        return Execution(run_record(request, settings.schedule, began), RunReport(), began)
    return asyncio.run(_execute(options, settings, request))


def _nothing_ends(settings: "Settings", as_of: datetime, within: timedelta) -> bool:
    """Say whether a closing run has nothing to do: it comes every minute, and no SDK is imported for that."""
    from meter_sync.ledger import Scope, open_ledger_read_only

    with open_ledger_read_only(settings.ledger, Scope(account="", mode=settings.stripe.mode)) as ledger:
        return not ledger.listed.due(as_of, within, timedelta(days=settings.lookback_days))


async def _execute(options: Globals, settings: "Settings", request: "Request") -> "Execution":
    from meter_sync.cli.progress import progress
    from meter_sync.cli.signals import stop_on_signals
    from meter_sync.sync.books import execute
    from meter_sync.sync.closing import execute_in_time

    with stop_on_signals() as stop, progress(options) as shown:
        if request.closing is None:
            return await execute(settings, request, now, stop, shown)
        return await execute_in_time(settings, request, now, stop, partial(_wait_until, stop), shown)


async def _wait_until(stop: "Stop", instant: datetime) -> None:
    await stop.sleep((instant - now()).total_seconds())
