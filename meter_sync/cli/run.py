"""`meter-sync run`: list, query, plan, check, report, record; and what is printed of a run."""

import asyncio
import gc
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import click

from meter_sync.cli.ending import Words, carried_out, exit_with, stop_on_signals
from meter_sync.cli.enqueue import queue_runs
from meter_sync.cli.fleet import with_connected
from meter_sync.cli.globals import Globals, chosen, now
from meter_sync.cli.options import Duration, Instant, accounts_of, output, quiet, selectors, test_clock
from meter_sync.cli.printing import Made
from meter_sync.cli.progress import progress, progress_of_accounts
from meter_sync.cli.run_kept import Kept
from meter_sync.cli.run_results import print_execution, print_executions, summary, sums_in_words
from meter_sync.core.outcomes import LIFTABLE, Reason, gravest
from meter_sync.core.planning.selection import Selection
from meter_sync.core.schedule import Schedule
from meter_sync.errors import MeterSyncError

if TYPE_CHECKING:
    from meter_sync.config import Configuration, SecretSetting, Settings
    from meter_sync.ledger import Ledger
    from meter_sync.monitor.watched import Watched
    from meter_sync.net.stop import Stop
    from meter_sync.sync.progress import Progress
    from meter_sync.sync.request import Execution, Request

_BETWEEN_COLLECTIONS = (100_000, 20, 1_000)
"""Nearly all that a run makes lives to its end: looking for what does not, time and again, costs CPU for nothing.

That is objects made before the newest are looked at, and how often that is before older ones are (`gc.set_threshold`).
"""
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
    "--as-of",
    type=Instant(or_date=True),
    help="Read usage until this instant, not now; with --dry-run it may be any past one. A plain date is its midnight "
    "in UTC.",
)
@click.option(
    "--closing",
    type=Duration("a length of time with its unit, such as 90s, 3m or 1h", "smh"),
    metavar="WITHIN",
    help="Only items whose period ends or has ended within this time, such as 3m; for a line that runs every minute.",
)
@test_clock(but_not=", --as-of or --closing")
@click.option(
    "--full",
    is_flag=True,
    help="Read all usage again, whatever is kept of it. The first run of a day (UTC) does so by itself.",
)
@click.option(
    "--resend",
    is_flag=True,
    help="Report also what the ledger says that Stripe already holds. Where events only add up, what stands in "
    "Stripe is read, and what lacks is added.",
)
@click.option(
    "--allow",
    multiple=True,
    type=click.Choice([reason.value for reason in LIFTABLE]),
    help="Lift this safety brake for this run; repeatable.",
)
@click.option(
    "--enqueue", is_flag=True, help="Only queue it, for workers: nothing else but --account and --closing goes with it."
)
@output
@quiet("was held, skipped or failed")
@accounts_of("Only this account, where there are several")
@click.pass_obj
def run(
    options: Globals,
    selection: Selection,
    dry_run: bool,
    schedule: str | None,
    as_of: datetime | None,
    closing: timedelta | None,
    test_clock: str | None,
    full: bool,
    resend: bool,
    allow: tuple[str, ...],
    enqueue: bool,
    output: str,
    quiet: bool,
    accounts: tuple[str, ...],
) -> None:
    """Report the usage of metered subscription items to Stripe.

    Lists the metered items of living subscriptions, queries OpenMeter for each one's usage from its period's start
    until now, and sets that quantity in Stripe where it differs. Running it again changes nothing.
    """
    from meter_sync.monitor.watched import Watched
    from meter_sync.sync.request import Request, failed_before_it_began

    options.start_logging()
    request = Request(
        selection=selection,
        as_of=as_of,
        dry_run=dry_run,
        reads_everything=full,
        resend=resend,
        allowed=frozenset(Reason(reason) for reason in allow),
        closing=closing,
        test_clock=test_clock,
        is_beside=closing is not None,
        run_id=str(uuid.uuid4()) if closing is None else None,  # a closing run may be several
    )
    if closing is not None and not selection.is_everything:
        raise click.UsageError("--closing goes by the ends of periods: leave the other selectors out.")
    if test_clock is not None and not (as_of is None and closing is None):
        raise click.UsageError("--test-clock says what now is, and stands still: leave --as-of and --closing out.")
    if enqueue:
        queue_runs(options, request, schedule, accounts, output)
    watched, kept = Watched(request), Kept(keeps_rows=output == "json" or not quiet)
    executions, below = carried_out(
        lambda: _executed(options, request, accounts, schedule, watched, kept),
        lambda error: ([failed_before_it_began(error, request, schedule or Schedule.HOURLY, now())], []),
        _WORDS,
    )
    _end(executions, kept, below, output, options, watched, dry_run=dry_run, quiet=quiet)


def _end(
    executions: Sequence["Execution"],
    kept: Kept,
    below: Sequence[str],
    output: str,
    options: Globals,
    watched: "Watched",
    *,
    dry_run: bool,
    quiet: bool,
) -> NoReturn:
    """Print what became of the run of the only account, or of each of several, tell the monitors, and exit."""
    if executions[0].account:
        rows = Made(kept.rows_of([one.account for one in executions]), lambda row: row)
        printed = partial(print_executions, executions, rows, output, options, dry_run=dry_run, quiet=quiet)
        named = {one.account: one for one in executions}
        in_words = {name: summary(one, dry_run=dry_run) for name, one in named.items()}
        told = partial(watched.end_each, named, in_words, sums_in_words(executions))
    else:
        (execution,) = executions
        printed = partial(print_execution, execution, output, options, dry_run=dry_run, quiet=quiet, below=below)
        told = partial(watched.end, execution, summary(execution, dry_run=dry_run))
    exit_with(gravest(*(one.report.exit_code for one in executions)), printed, _WORDS.not_printed, told)


def _executed(
    options: Globals,
    request: "Request",
    accounts: Sequence[str],
    schedule: str | None,
    watched: "Watched",
    kept: Kept,
) -> tuple[list["Execution"], list[str]]:
    """Load the configuration and execute; return with it what is to be said of the books. Raise MeterSyncError."""
    from meter_sync.config import needed

    gc.set_threshold(*_BETWEEN_COLLECTIONS)
    wanted = needed(for_webhook=False)
    configuration = options.read_configuration(wanted, schedule=schedule)
    watched.begin(configuration)
    asked = chosen(configuration, accounts)
    if configuration.is_of_several:
        common = options.in_effect(configuration, ())
        if configuration.connected is not None and not accounts:
            asked = asyncio.run(_with_connected(configuration, wanted))
        watched.know(asked)
        return _executed_each(options, asked, wanted, common, request, kept), []
    settings = options.in_effect(configuration, wanted)
    execution = replace(_executed_by(settings, options, request), is_shadow=settings.is_shadow)
    below = [*_of_shadow(execution), options.not_given(configuration, settings)]
    if execution.report.is_new_to_usage:
        below.insert(0, f"This ledger is new, and Stripe holds usage already: is it the right one? {settings.ledger}")
    return [execution], [line for line in below if line]


async def _with_connected(
    configuration: "Configuration", wanted: "Sequence[SecretSetting]"
) -> "Sequence[Configuration]":
    with stop_on_signals() as stop:
        return await with_connected(configuration, wanted, stop)


def _executed_each(
    options: Globals,
    accounts: "Sequence[Configuration]",
    wanted: "Sequence[SecretSetting]",
    common: "Settings",
    request: "Request",
    kept: Kept,
) -> list["Execution"]:
    from meter_sync.cli.run_accounts import found_anywhere, run_each
    from meter_sync.sync.request import failed_before_it_began

    own = replace(request, run_id=None)  # each account's run has an id of its own

    async def each() -> list["Execution"]:
        with stop_on_signals() as stop, progress_of_accounts(options, len(accounts)) as shown:

            async def run_of(settings: "Settings") -> "Execution":
                with shown.of_one() as shown_of_one:
                    done = _nothing_due(settings, own) or await _carried_out(settings, own, stop, shown_of_one)
                shown.done()
                return replace(kept.keep(settings.account, done), is_shadow=settings.is_shadow)

            def failed(error: MeterSyncError) -> "Execution":
                shown.done()
                return failed_before_it_began(error, own, common.schedule, now())

            return await run_each(accounts, wanted, common.accounts_at_once, run_of, failed, _WORDS)

    executions = asyncio.run(each())
    return executions if request.selection.is_everything else found_anywhere(executions)


def _of_shadow(execution: "Execution") -> Iterator[str]:
    if execution.is_shadow:
        yield "Shadow mode: this is about the sandbox of [shadow]; to the account itself nothing was written."
        if not execution.report.results and execution.report.error is None:
            yield "There is no copy in it: meter-sync setup shadow makes them."


def _executed_by(settings: "Settings", options: Globals, request: "Request") -> "Execution":
    return _nothing_due(settings, request) or asyncio.run(_execute(options, settings, request))


def _nothing_due(settings: "Settings", request: "Request") -> "Execution | None":
    """Return what became of a closing run that has nothing to do; None for any other run.

    It comes every minute: no SDK is imported for that. Raise MeterSyncError.
    """
    from meter_sync.ledger import open_ledger_read_only
    from meter_sync.sync.request import Execution, RunReport, run_record

    if request.closing is None:
        return None
    began, watched_for = now(), timedelta(days=settings.lookback_days)
    with open_ledger_read_only(settings.ledger, settings.scope) as ledger:
        ledger.binding.check_mode()
        _warn_of_unused(ledger, settings)
        due = ledger.listed.due(request.as_of or began, request.closing, watched_for)
    return None if due else Execution(run_record(request, settings.schedule, began), RunReport(), began)


def _warn_of_unused(ledger: "Ledger", settings: "Settings") -> None:
    """Warn of a ledger that no run has used: in it nothing ever ends, and a closing run would be silent for ever."""
    import structlog

    if ledger.runs.last_begun() is None:
        message = "no run has used this ledger, so that no period ends in it: is it the one of the full runs?"
        log = structlog.get_logger()
        log.warning("closing_without_books", ledger=str(settings.ledger), message=message)


async def _execute(options: Globals, settings: "Settings", request: "Request") -> "Execution":
    with stop_on_signals() as stop, progress(options) as shown:
        return await _carried_out(settings, request, stop, shown)


async def _carried_out(settings: "Settings", request: "Request", stop: "Stop", shown: "Progress | None") -> "Execution":
    from meter_sync.sync.books import execute
    from meter_sync.sync.closing import execute_in_time

    if request.closing is None:
        return await execute(settings, request, now, stop, shown)

    async def wait_until(instant: datetime) -> None:
        await stop.sleep((instant - now()).total_seconds())

    return await execute_in_time(settings, request, now, stop, wait_until, shown)
