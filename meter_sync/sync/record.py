"""The record step: what became of a run, in the ledger."""

from dataclasses import replace
from datetime import datetime

import structlog

from meter_sync.errors import MeterSyncError
from meter_sync.ledger import Ledger, RunRecord
from meter_sync.sync.request import RunReport

log = structlog.get_logger()


def record(ledger: Ledger, run: RunRecord, report: RunReport, at: datetime) -> RunReport:
    """Record how a run ended, and return its report: with the error, if the ledger could not be written any more."""
    try:
        ledger.holds.record(run, report.results, at)
        ledger.runs.finish(run.id, at, report.exit_code, report.counts)
    except MeterSyncError as error:
        return replace(report, error=report.error or error)
    log.info("record", run_id=run.id, exit_code=int(report.exit_code), **report.counts)
    return report
