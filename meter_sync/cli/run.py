"""`meter-sync run`: list, query, plan, check, report, record; and what is printed of a run."""

import asyncio
import gc
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from meter_sync.cli.ending import Words, carried_out, exit_with, stop_on_signals
from meter_sync.cli.globals import Globals, now
from meter_sync.cli.options import Duration, Instant, output, quiet, selectors, test_clock
from meter_sync.cli.printing import (
    Made,
    Results,
    costs,
    item_fields,
    items_in_words,
    outcome_fields,
    print_results,
    printable,
)
from meter_sync.cli.progress import progress
from meter_sync.core.metering.mapping import LateUsage
from meter_sync.core.outcomes import LIFTABLE, ExitCode, Outcome, Reason, exit_code
from meter_sync.core.planning.selection import Selection
from meter_sync.core.planning.stages import Result
from meter_sync.core.schedule import Schedule
from meter_sync.core.text import digits, utc

if TYPE_CHECKING:
    from meter_sync.config import Settings
    from meter_sync.ledger import Ledger
    from meter_sync.monitor.watched import Watched
    from meter_sync.sync.request import Execution, Request

_NAMED_ITEMS = 5
_BETWEEN_COLLECTIONS = (100_000, 20, 1_000)
"""Nearly all that a run makes lives to its end: looking for what does not, time and again, costs CPU for nothing.

That is objects made before the newest are looked at, and how often that is before older ones are (`gc.set_threshold`).
"""
_CHANGED = (Outcome.REPORTED, Outcome.PLANNED, Outcome.UNCHANGED)
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
    test_clock: str | None,
    full: bool,
    resend: bool,
    allow: tuple[str, ...],
    output: str,
    quiet: bool,
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
    watched = Watched(request)
    execution, below = carried_out(
        lambda: _executed(options, request, schedule, watched),
        lambda error: (failed_before_it_began(error, request, schedule or Schedule.HOURLY, now()), []),
        _WORDS,
    )
    printed = partial(print_execution, execution, output, options, dry_run=dry_run, quiet=quiet, below=below)
    told = partial(watched.end, execution, summary(execution, dry_run=dry_run))
    exit_with(execution.report.exit_code, printed, _WORDS.not_printed, told)


def _executed(
    options: Globals, request: "Request", schedule: str | None, watched: "Watched"
) -> tuple["Execution", list[str]]:
    """Load the configuration and execute; return with it what is to be said of the books. Raise MeterSyncError."""
    from meter_sync.config import needed

    gc.set_threshold(*_BETWEEN_COLLECTIONS)
    wanted = needed(for_webhook=False)
    configuration = options.read_configuration(wanted, schedule=schedule)
    watched.begin(configuration)
    settings = options.in_effect(configuration, wanted)
    execution = replace(_executed_by(settings, options, request), is_shadow=settings.is_shadow)
    below = [*_of_shadow(execution), options.not_given(configuration, settings)]
    if execution.report.is_new_to_usage:
        below.insert(0, f"This ledger is new, and Stripe holds usage already: is it the right one? {settings.ledger}")
    return execution, [line for line in below if line]


def _of_shadow(execution: "Execution") -> Iterator[str]:
    if execution.is_shadow:
        yield "Shadow mode: this is about the sandbox of [shadow]; to the account itself nothing was written."
        if not execution.report.results and execution.report.error is None:
            yield "There is no copy in it: meter-sync setup shadow makes them."


def _executed_by(settings: "Settings", options: Globals, request: "Request") -> "Execution":
    from meter_sync.ledger import open_ledger_read_only
    from meter_sync.sync.request import Execution, RunReport, run_record

    if request.closing is not None:
        # It comes every minute: where nothing ends it has nothing to do, and no SDK is imported for that.
        began, watched_for = now(), timedelta(days=settings.lookback_days)
        with open_ledger_read_only(settings.ledger, settings.scope) as ledger:
            ledger.binding.check_mode()
            _warn_of_unused(ledger, settings)
            due = ledger.listed.due(request.as_of or began, request.closing, watched_for)
        if not due:
            return Execution(run_record(request, settings.schedule, began), RunReport(), began)
    return asyncio.run(_execute(options, settings, request))


def _warn_of_unused(ledger: "Ledger", settings: "Settings") -> None:
    """Warn of a ledger that no run has used: in it nothing ever ends, and a closing run would be silent for ever."""
    import structlog

    if ledger.runs.last_begun() is None:
        message = "no run has used this ledger, so that no period ends in it: is it the one of the full runs?"
        log = structlog.get_logger()
        log.warning("closing_without_books", ledger=str(settings.ledger), message=message)


async def _execute(options: Globals, settings: "Settings", request: "Request") -> "Execution":
    from meter_sync.sync.books import execute
    from meter_sync.sync.closing import execute_in_time

    with stop_on_signals() as stop, progress(options) as shown:
        if request.closing is None:
            return await execute(settings, request, now, stop, shown)

        async def wait_until(instant: datetime) -> None:
            await stop.sleep((instant - now()).total_seconds())

        return await execute_in_time(settings, request, now, stop, wait_until, shown)


def print_execution(
    execution: "Execution", output: str, options: Globals, *, dry_run: bool, quiet: bool, below: Sequence[str] = ()
) -> None:
    """Print what became of a run; quietly, only the items that were held, were skipped with harm, or failed.

    `below` is what is said at the end of a table of the books, unless it is to be quiet.
    """
    run, report = execution.run, execution.report
    shown = [one for one in report.results if not quiet or exit_code([(one.outcome, one.reason)]) is not ExitCode.DONE]
    said = [one for one in shown if quiet and output == "table" and _was_said(one, execution)]
    named = said if run.is_alone else []
    in_words = summary(execution, dry_run=dry_run)
    carried = {"carried": "carried"} if any(one.found.carried for one in report.results) else {}
    is_said = {one.item.key for one in said}
    results = Results(
        run={
            "id": run.id,
            "started_at": utc(run.started_at),
            "finished_at": utc(execution.finished_at),
            "as_of": utc(run.as_of),
            "schedule": run.schedule,
            "dry_run": dry_run,
            **({"shadow": True} if execution.is_shadow else {}),
        },
        summary=_summary(execution),
        items=Made(report.results, _item),
        shown=Made([one for one in shown if one.item.key not in is_said], _item),
        columns="quantity,previous,carried,unbilled,carried_on,timestamp,windows_sent,windows_unchanged",
        amounts={"usage": "usage", **carried, "before": "previous", "quantity": "quantity"},
        in_words="" if named else "\n".join([in_words, *(() if quiet else map(printable, below))]),
        remarks=[f"{_as_before(named)} {in_words}"] if named else [],
        error=report.error,
    )
    print_results(results, output, options, quiet=quiet)


def _was_said(one: Result, execution: "Execution") -> bool:
    """Say whether an earlier run has said the same of an item: cron has mailed it then.

    A full run does not repeat at length what waits for a person; a closing run, which comes every minute, repeats
    nothing, nor what failed.
    """
    waits = exit_code([(one.outcome, one.reason)]) is ExitCode.ATTENTION
    return (waits or not execution.run.is_alone) and one.item.key in execution.report.said_before


def _as_before(said: Sequence[Result]) -> str:
    """Name in one line the items of which an earlier run has said the same."""
    named = [f"{one.item.id} ({one.reason})" for one in said[:_NAMED_ITEMS]]
    more = f" and {len(said) - _NAMED_ITEMS} more" if len(said) > _NAMED_ITEMS else ""
    return (
        f"As an earlier run has said, {items_in_words(len(said))} held or skipped: {', '.join(named)}{more}; a run "
        "without --quiet says why."
    )


def _summary(execution: "Execution") -> dict[str, Any]:
    report = execution.report
    return {
        "items": len(report.results),
        **{outcome.value: report.counts.get(outcome.value, 0) for outcome in Outcome},
        "exit_code": int(report.exit_code),
        "stripe_requests": report.stripe_requests,
        "openmeter_requests": report.openmeter_requests,
        "seconds": round(execution.seconds, 3),
    }


def _item(result: Result) -> dict[str, Any]:
    found, moved = result.found, result.moved
    # What was not written left what stood before.
    stands = found.quantity if result.outcome in _CHANGED or moved else found.standing
    lacking = digits(result.lacking) if result.lacking else None
    windows = {"windows": {"sent": moved.sent, "unchanged": moved.unchanged}} if moved else {}
    return {
        **item_fields(found),
        "quantity": digits(stands),
        "previous": digits(found.standing),
        "carried": digits(found.carried) if found.carried else None,
        "unbilled": lacking if result.late_usage is LateUsage.NAME else None,
        "carried_on": lacking if result.late_usage is LateUsage.CARRY else None,
        "timestamp": utc(found.timestamp) if found.timestamp else None,
        **windows,
        **outcome_fields(result.outcome, result.reason, result.message),
    }


def _counted(execution: "Execution") -> Iterator[str]:
    """Say how many items ended in each outcome, and of those that were reported, how many stood so already."""
    for outcome, count in execution.report.counts.items():
        reported = [one for one in execution.report.results if outcome == one.outcome == Outcome.REPORTED]
        again = sum(one.moved is None and one.found.standing == one.found.quantity for one in reported)
        yield f"{count} {outcome}" + (f" ({again} of them stood there already)" if again else "")


def summary(execution: "Execution", *, dry_run: bool) -> str:
    """Return what became of a run in one line."""
    results = execution.report.results
    counts = ", ".join(_counted(execution)) or (
        "nothing to bill" if execution.report.error is None else "none was looked at"
    )
    said = f"{items_in_words(len(results))}: {counts}. {costs(_summary(execution))}"
    if not dry_run:
        return said
    unknown = sum(one.outcome is Outcome.PLANNED and one.found.standing is None for one in results)
    if unknown:
        # A dry run does not ask Stripe about single items.
        open_ = f"What Stripe holds for {unknown} of these items is not in the ledger: the run itself looks first."
        said = f"{open_} {said}"
    return f"Dry run, nothing was written. {said}"
