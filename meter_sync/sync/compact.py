"""After a full run: keeping the ledger small. Nothing that is billed depends on it, and no run fails by it."""

from datetime import datetime

import structlog

from meter_sync.errors import MeterSyncError
from meter_sync.sync.job import Job

log = structlog.get_logger()

_ROWS_A_RUN = 50_000
"""About three seconds of CPU. What is left, as in a ledger that has grown for years, is for the next runs."""
_STEPS_A_RUN = 200
_PERIODS_AT_ONCE = 200


def compact(job: Job) -> None:
    """Pack what no later run needs as rows, and forget what was over too long ago, as far as a run has time for it.

    A run that may be beside others, is about a part, or writes nothing, leaves that to the next full one.
    """
    if job.writer is None or not (job.run.everything and job.run.is_alone):
        return
    # Not by the clock: a run about an earlier instant forgets nothing that is young from there.
    as_of = job.run.as_of
    try:
        looked_at = _pack(job, as_of)
        gone = _forget(job, as_of)
    except MeterSyncError as error:
        log.warning("ledger_not_compacted", message=f"{error.message}; a later full run goes on")
        return
    log.debug("compact", rows=looked_at, forgotten=gone)


def _pack(job: Job, as_of: datetime) -> int:
    done = 0
    for _ in range(_STEPS_A_RUN):
        some = None if job.stop.requested else job.ledger.compaction.compact_some(as_of)
        if some is None:
            break
        done += some
        if done >= _ROWS_A_RUN:
            break
    return done


def _forget(job: Job, as_of: datetime) -> int:
    """Forget by the rules of `history --prune`, and return how many rows went."""
    total, markers, today = 0, job.ledger.markers, as_of.date()
    if job.history is None or markers.pruned_on() == today:
        return 0
    for _ in range(_STEPS_A_RUN):
        if job.stop.requested:
            return total
        gone = sum(job.ledger.pruning.prune(as_of - job.history, _PERIODS_AT_ONCE).values())
        if not gone:
            markers.record_pruned(as_of)
            break
        total += gone
    return total
