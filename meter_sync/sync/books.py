"""A run with its books: the lock, the instant it is about, and what the ledger says of it."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from meter_sync.config import Settings
from meter_sync.core.schedule import Schedule
from meter_sync.core.text import utc
from meter_sync.errors import ArgumentsError, ConfigurationError, MeterSyncError, TryAgainError
from meter_sync.ledger import Ledger, RunRecord, open_ledger, open_ledger_read_only, run_lock
from meter_sync.net.stop import Stop
from meter_sync.net.tally import Tally
from meter_sync.stripe_api.connection import CLOCK_TOLERANCE_SECONDS
from meter_sync.sync.clocks import at_clock, check_clock
from meter_sync.sync.job import Clock, open_job
from meter_sync.sync.overdue import once_overdue
from meter_sync.sync.progress import NoProgress, Progress
from meter_sync.sync.request import Execution, Request, RunReport, named_in_log, run_record
from meter_sync.sync.run import run as run_job

log = structlog.get_logger()


async def execute(
    settings: Settings, request: Request, clock: Clock, stop: Stop, progress: Progress | None = None
) -> Execution:
    """Carry out a run and record it. Errors that end it are in the report; nothing is raised for them."""
    began = time.monotonic()
    run = run_record(request, settings.schedule, clock())
    try:
        with named_in_log(run):
            check_clock(settings, request.test_clock)
            run, report = await _with_books(settings, request, run, clock, stop, progress or NoProgress())
    except MeterSyncError as error:
        report = RunReport(error=error)
    if isinstance(report.error, TryAgainError):
        report = replace(report, error=_once_overdue(settings, run, report.error))
    finished_at = clock() if request.test_clock is None else run.started_at
    return Execution(run, report, finished_at, time.monotonic() - began)


async def _with_books(
    settings: Settings, request: Request, run: RunRecord, clock: Clock, stop: Stop, progress: Progress
) -> tuple[RunRecord, RunReport]:
    if run.as_of > run.started_at:
        raise ArgumentsError(
            f"--as-of {utc(run.as_of)} is in the future; nothing was read or written",
            "name an instant that has passed, or leave it out for now",
        )
    asked: Tally = Counter()
    with _books(settings, request) as ledger:
        ledger.binding.check_mode()
        if request.test_clock is not None:
            run, asked = await at_clock(settings, request.test_clock, run, clock, stop)
        watched_for = timedelta(days=settings.lookback_days)
        if request.closing is not None and not ledger.listed.due(run.as_of, request.closing, watched_for):
            return run, RunReport()
        if run.is_alone and request.test_clock is None:  # which is moved by days and months
            _warn_of_missed_run(ledger, run)
        if not request.dry_run:
            run = _no_step_back(ledger, run, given=request.as_of is not None)
            _begin_epoch(ledger, run)
            ledger.runs.begin(run)
        elif ledger.epochs.is_restored():
            _warn_of_restored(
                ledger.runs.last_begun(), "this dry run takes it that nothing is known of what Stripe holds"
            )
        is_new = not request.dry_run and request.test_clock is None and ledger.runs.newest_as_of() is None
        queued = ledger.webhook_queue.waiting() if run.everything else []
        async with open_job(settings, request, run, ledger, clock, stop, progress) as job:
            report = await run_job(job)
        if not request.dry_run:
            done = [event.id for event in queued if report.looked_at(event.subscription)]
            ledger.webhook_queue.record_done(done, clock())
            # What cannot be written now, the next run writes before it does anything.
            with suppress(MeterSyncError):
                ledger.epochs.end()
        report = replace(report, is_new_to_usage=is_new and any(one.found.standing for one in report.results))
        if report.is_new_to_usage:
            _warn_of_new_ledger(settings)
        return run, replace(report, requests=report.requests + asked)


@contextmanager
def _books(settings: Settings, request: Request) -> Iterator[Ledger]:
    """Open the ledger: under the run lock, or without it beside others, or for a dry run read-only.

    What is on a test clock has books of its own in it; the lock is the same.
    """
    scope = settings.scope.on(request.test_clock)
    if request.dry_run:
        with open_ledger_read_only(settings.ledger, scope) as ledger:
            yield ledger
        return
    locked = nullcontext() if request.is_beside else run_lock(settings.ledger, settings.scope)
    with locked as lock, open_ledger(settings.ledger, scope, lock) as ledger:
        yield ledger


def _once_overdue(settings: Settings, run: RunRecord, error: TryAgainError) -> MeterSyncError | None:
    """Return what is said of what ended a run before it had its books, such as another run's lock, or after it."""
    try:
        with open_ledger_read_only(settings.ledger, settings.scope) as ledger:
            return once_overdue(error, run, ledger)
    except MeterSyncError:  # without the ledger nobody knows since when
        return error


def _no_step_back(ledger: Ledger, run: RunRecord, *, given: bool) -> RunRecord:
    """Return the run with an instant that is not older than any before: older usage would undo newer.

    Raise ArgumentsError for an older instant that was asked for, ConfigurationError for a clock that went back.
    A clock that was corrected by less than a minute is waited out by keeping the newest instant.
    """
    newest = ledger.runs.newest_as_of()
    if newest is None or run.as_of >= newest:
        return run
    if given:
        raise ArgumentsError(
            f"--as-of {utc(run.as_of)} is older than what was reported already, up to "
            f"{utc(newest)}; nothing was written",
            "leave --as-of out, or add --dry-run to look at the past",
        )
    if (newest - run.as_of).total_seconds() > CLOCK_TOLERANCE_SECONDS:
        raise ConfigurationError(
            f"this machine's clock went back: usage was reported up to {utc(newest)} already; nothing was written",
            "set the clock and run again",
            code="clock",
        )
    return replace(run, as_of=newest)


def _begin_epoch(ledger: Ledger, run: RunRecord) -> None:
    """Before anything is written: find out whether the ledger is older than what was written last, and say so."""
    last = ledger.runs.last_begun()
    if ledger.epochs.begin(run.as_of):
        ledger.kept.forget()
        _warn_of_restored(last, "what Stripe holds of the open periods is read from it again")


def _warn_of_restored(last_run: datetime | None, what_follows: str) -> None:
    log.warning(
        "ledger_restored",
        message="the ledger is older than the last run that wrote: it was restored from a backup, or moved without the "
        f"file beside it that ends with .epoch; {what_follows}",
        last_run=last_run and last_run.isoformat(),
    )


def _warn_of_new_ledger(settings: Settings) -> None:
    """Say that what stood in Stripe can only have been read from it: perhaps another ledger has reported it."""
    message = "this ledger is new, and Stripe holds usage already: is it the right one?"
    log.warning("ledger_new", message=message, ledger=str(settings.ledger))


def _warn_of_missed_run(ledger: Ledger, run: RunRecord) -> None:
    last = ledger.runs.last_complete()
    if last and Schedule(run.schedule).overdue_since(last, None, run.started_at):
        log.warning(
            "run_missed",
            message=f"the last complete run began two {run.schedule} intervals ago or earlier: look at cron or the "
            "timer, and at what the runs since then said",
            last_complete_run=last.isoformat(),
        )
