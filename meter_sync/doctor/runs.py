"""The section of the runs: whether they come, whether one is stuck, and what they left."""

from collections.abc import Iterator
from datetime import datetime

from meter_sync.core.text import date_and_time
from meter_sync.doctor.finding import Finding, named, of_error, ok, problem, skipped, warning
from meter_sync.doctor.installation import Installation
from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Ledger, books_in_use, lock_holder, open_ledger_read_only
from meter_sync.net.postgres_url import PostgresUrl


def examine_runs(installation: Installation) -> Iterator[Finding]:
    """Yield when the last complete run was, whether one is stuck, and what is held or unbilled, by the ledger."""
    settings, now = installation.settings, installation.clock()
    try:
        with open_ledger_read_only(settings.ledger, books_in_use(settings.ledger, settings.scope)) as ledger:
            yield _last_run(installation, ledger, now)
            yield _lock(installation, ledger, now)
            yield _held(ledger)
            yield _unbilled(ledger, now)
        yield from _workers(installation)
    except MeterSyncError as error:
        # That there was no run yet is for the person to know, and no fault of the installation.
        is_new = error.code == "ledger_missing"
        yield skipped("last_run", "no run has used the ledger yet") if is_new else of_error("last_run", error)


def _last_run(installation: Installation, ledger: Ledger, now: datetime) -> Finding:
    complete = ledger.runs.last_complete()
    overdue = ledger.runs.overdue_since(installation.settings.schedule, now)
    if overdue:
        since = f"since {date_and_time(overdue)} UTC"
        said = f"no complete run {since}" if complete else f"no run was ever complete, {since}"
        remedy = "look at the schedule, and at what the last runs said: meter-sync history, and the log"
        return problem("last_run", f"{said}: nothing is billed", remedy)
    if complete is None:
        return ok("last_run", "no run was complete yet, and none is overdue")
    return ok("last_run", f"the last complete run began at {date_and_time(complete)} UTC")


def _lock(installation: Installation, ledger: Ledger, now: datetime) -> Finding:
    try:
        settings = installation.settings
        holder = lock_holder(settings.ledger, settings.scope)
    except OSError:
        return skipped("lock", "this system does not tell who holds the run lock")
    if holder is None:
        return ok("lock", "no run holds the lock")
    began = next((one.started_at for one in ledger.runs.past(None, None, 1) if one.finished_at is None), None)
    since = f" since {date_and_time(began)} UTC" if began else ""
    if began and now - began > installation.interval:
        said = f"{holder.shown} holds the run lock{since}, longer than runs are apart: all others end with 75"
        remedy = (
            f"look at what it waits for in the log; if it hangs, {holder.remedy}: the next run finishes what it began"
        )
        return problem("lock", said, remedy)
    return ok("lock", f"a run is at work: {holder.shown}{since}")


def _held(ledger: Ledger) -> Finding:
    held = ledger.overview.held()
    if not held:
        return ok("held", "nothing is held or skipped that waits for a person")
    items = named(f"{one.item} ({one.reason})" for one in held)
    said = f"{len(held)} items wait for a person, the oldest since {date_and_time(held[0].first_at)} UTC: {items}"
    return problem("held", said, "read what meter-sync status says of them, and why each is held")


def _unbilled(ledger: Ledger, now: datetime) -> Finding:
    unbilled = ledger.remainders.for_a_person()
    if not unbilled:
        return ok("unbilled", "no usage was left unbilled")
    oldest = min(one.period.end for one in unbilled)
    periods = "1 period" if len(unbilled) == 1 else f"{len(unbilled)} periods"
    said = f"usage of {periods} is not billed, the oldest of which ended {(now - oldest).days} days ago"
    return problem("unbilled", said, "bill or forgive it by hand and mark it: meter-sync history --unbilled names each")


def _workers(installation: Installation) -> Iterator[Finding]:
    """Yield whether workers carry out the account's runs; nothing where there never were any."""
    settings, account = installation.settings, installation.settings.account
    if not isinstance(settings.ledger, PostgresUrl):
        return
    try:
        from meter_sync.fleet.seen import look
    except ModuleNotFoundError:  # whoever has not the extra starts none here
        return
    seen = look(settings.ledger, settings.worker.stalled_after_seconds)
    if seen is None:
        return
    stuck = next((one for one in seen.jobs if one.is_stuck and one.job.account == account), None)
    if stuck:
        why = "its worker is lost" if stuck.is_lost else "nobody takes it"
        said = f"the {stuck.job} was queued {stuck.age.total_seconds() / 60:.0f} minutes ago, and {why}"
        yield problem("workers", said, "start meter-sync worker, or more of them, and look at their log")
    elif not seen.heard:
        said = "no worker is at work now: what is due is not queued, but by hand"
        yield warning("workers", said, "start meter-sync worker, unless cron, or a drain now and then, does the work")
    else:
        yield ok("workers", f"workers at work: {seen.heard}, and none of the account's jobs is stuck")
