"""Trouble that lasts: "try again later" is said only as long as a later run would be early enough."""

from meter_sync.core.schedule import Schedule
from meter_sync.core.text import utc
from meter_sync.errors import MeterSyncError, TryAgainError
from meter_sync.ledger import Ledger, RunRecord


def once_overdue(error: MeterSyncError | None, run: RunRecord, ledger: Ledger) -> MeterSyncError | None:
    """Given what ended a run, return what is said of it.

    Once a complete run is overdue, what asked to try again later (exit code 75) is a failure (1), which says since when
    nothing was billed: schedules pass over a 75, and would do so for ever. So it is for full and narrowed runs.

    It stays 75 where nobody waits for the run: a dry run bills nothing, and promises nothing. What works beside full
    runs leaves it to these to say so: a closing run would say it again every minute, and the webhook's queue goes on
    waiting by it. On a test clock time is moved by days and months, so that nothing is ever overdue.
    """
    if not isinstance(error, TryAgainError) or not run.keeps_schedule:
        return error
    since = ledger.runs.overdue_since(Schedule(run.schedule), run.started_at)
    if since is None:
        return error
    return MeterSyncError(f"{error.message}; no complete run since {utc(since)}", error.hint, code=error.code)
