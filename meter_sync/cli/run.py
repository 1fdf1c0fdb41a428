"""`meter-sync run`: list, query, plan, check, report, record."""

import asyncio
import contextlib
import os
import sys
import traceback
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import click

from meter_sync.cli.globals import Globals
from meter_sync.cli.instant import Duration, Instant
from meter_sync.cli.options import selectors
from meter_sync.core.outcomes import LIFTABLE, ExitCode, Reason

if TYPE_CHECKING:
    from meter_sync.config import Settings
    from meter_sync.errors import MeterSyncError
    from meter_sync.net.stop import Stop
    from meter_sync.sync.request import Execution, Request


@click.command()
@selectors
@click.option("--dry-run", "-n", is_flag=True, help="Show the plan and write nothing, whatever else is given.")
@click.option(
    "--schedule",
    type=click.Choice(["hourly", "daily"]),
    help="The promised cadence: when a run counts as missed. Default: hourly.  [env var: METER_SYNC_SCHEDULE]",
)
@click.option(
    "--as-of", type=Instant(), help="Read usage until this instant, not now; with --dry-run it may be any past one."
)
@click.option(
    "--closing",
    type=Duration(),
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
@click.option(
    "--output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    envvar="METER_SYNC_OUTPUT",
    show_envvar=True,
    help="How results are printed on stdout.",
)
@click.option(
    "--quiet",
    is_flag=True,
    envvar="METER_SYNC_QUIET",
    show_envvar=True,
    help="Print no table or csv unless an item was held, skipped or failed.",
)
@click.pass_obj
def run(
    options: Globals,
    customers: tuple[str, ...],
    subscriptions: tuple[str, ...],
    meters: tuple[str, ...],
    prices: tuple[str, ...],
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
    from meter_sync.cli.output import printer
    from meter_sync.core.planning.selection import Selection
    from meter_sync.sync.request import Request

    options.start_logging()
    request = Request(
        selection=Selection(customers, subscriptions, prices, meters),
        as_of=as_of,
        dry_run=dry_run,
        resend=resend,
        allowed=frozenset(Reason(reason) for reason in allow),
        closing=closing,
        is_beside=closing is not None,
    )
    if closing is not None and not request.selection.is_everything:
        raise click.UsageError("--closing goes by the ends of periods: leave the other selectors out.")
    execution = _carried_out(options, request, schedule)
    try:
        printer(output, options, quiet=quiet)(execution, dry_run=dry_run)
        sys.stdout.flush()
    except OSError as error:
        _print_no_more(error)
        sys.exit(execution.report.exit_code or ExitCode.FAILED)
    sys.exit(execution.report.exit_code)


def _print_no_more(error: OSError) -> None:
    """Say that only the output was lost, and keep Python from trying to write it once more at its exit."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 (open until the end)
    with contextlib.suppress(OSError):
        click.echo(
            f"meter-sync: the results could not be printed: {error.strerror}; the run itself was carried out and is in "
            "the ledger",
            err=True,
        )


def _carried_out(options: Globals, request: "Request", schedule: str | None) -> "Execution":
    """Load the configuration and execute; whatever goes wrong becomes part of what is printed."""
    from meter_sync.errors import Interrupted, MeterSyncError
    from meter_sync.sync.request import Execution, RunReport, failed_before_it_began, run_record

    try:
        settings = options.load_settings({"schedule": schedule})
        if request.closing is not None and _nothing_ends(settings, request.as_of or _now(), request.closing):
            now = _now()
            return Execution(run_record(request, settings.schedule, now), RunReport(), now)
        return asyncio.run(_execute(options, settings, request))
    except MeterSyncError as error:
        return failed_before_it_began(error, request, schedule or "hourly", _now())
    except KeyboardInterrupt:
        cut_off = Interrupted("the run was cut off by a second signal", "run it again; what was sent is not sent twice")
        return failed_before_it_began(cut_off, request, schedule or "hourly", _now())
    except Exception as error:
        # A bug must not cost the caller the document that was promised on every exit path.
        traceback.print_exc()
        return failed_before_it_began(_bug(error), request, schedule or "hourly", _now())


def _nothing_ends(settings: "Settings", as_of: datetime, within: timedelta) -> bool:
    """Say whether a closing run has nothing to do: it comes every minute, and no SDK is imported for that."""
    from meter_sync.ledger import Scope, open_ledger_read_only

    scope = Scope(account="", mode="live" if settings.stripe.is_live else "sandbox")
    with open_ledger_read_only(settings.ledger, scope) as ledger:
        return not ledger.listed.due(as_of.astimezone(UTC), within, timedelta(days=settings.lookback_days))


def _bug(error: Exception) -> "MeterSyncError":
    from meter_sync.errors import MeterSyncError

    return MeterSyncError(
        f"meter-sync itself failed with {type(error).__name__}; what it had intended is in the ledger",
        "report it with the lines above; the next run sets again whatever is unclear",
        code="internal",
    )


async def _execute(options: Globals, settings: "Settings", request: "Request") -> "Execution":
    from meter_sync.cli.progress import progress
    from meter_sync.cli.signals import stop_on_signals
    from meter_sync.sync.books import execute
    from meter_sync.sync.closing import execute_in_time

    with stop_on_signals() as stop, progress(options) as shown:
        if request.closing is None:
            return await execute(settings, request, _now, stop, shown)
        return await execute_in_time(settings, request, _now, stop, partial(_wait_until, stop), shown)


async def _wait_until(stop: "Stop", instant: datetime) -> None:
    await stop.sleep((instant - _now()).total_seconds())


def _now() -> datetime:
    return datetime.now(UTC)
