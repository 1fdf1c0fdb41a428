"""The record step: what became of a run, in the ledger."""

from dataclasses import replace

import structlog

from meter_sync.errors import MeterSyncError
from meter_sync.sync.job import Job
from meter_sync.sync.overdue import once_overdue
from meter_sync.sync.refused import refused_only, with_refused
from meter_sync.sync.request import RunReport

log = structlog.get_logger()


def record(job: Job, done: RunReport) -> RunReport:
    """Record how a run ended, and return its report: with the error, if the ledger could not be written any more.

    What ended it is said as it is recorded: once a complete run is overdue, as a failure.

    A dry run records nothing.
    """
    at = job.clock()
    results = [*with_refused(job.ledger, done.results), *refused_only(job.ledger, done.results)]
    report = replace(done, results=results, requests=job.stripe.tally + job.openmeter.tally)
    if job.writer is None:
        return report
    try:
        report = replace(report, error=once_overdue(report.error, job.run, job.ledger))
        said_before = job.ledger.holds.record(job.run, report.results, at, job.ledger.runs.newest_complete())
        report = replace(report, results=with_refused(job.ledger, report.results), said_before=said_before)
        job.ledger.runs.finish(job.run.id, at, report.exit_code, report.counts, report.pages)
    except MeterSyncError as error:
        return replace(report, error=report.error or error)
    log.info("record", exit_code=int(report.exit_code), **report.counts)
    return report
