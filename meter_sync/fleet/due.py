"""What is due for accounts, by the ledger alone."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta

import structlog

from meter_sync.config import Configuration
from meter_sync.core.outcomes import ExitCode
from meter_sync.core.scope import Scope
from meter_sync.errors import ConfigurationError, LedgerError
from meter_sync.fleet.kinds import CLOSING_WITHIN, Job, Kind
from meter_sync.ledger import Ledger
from meter_sync.ledger.turns import Turn, turns_of

Books = Callable[[Scope], Ledger]
"""Returns the books of a scope, in a ledger that is open."""

AGAIN_AFTER = timedelta(minutes=10)
"""So long after a run that failed the account's next one is due, unless its schedule says so before."""
AGAIN_SOON_AFTER = timedelta(minutes=1)
"""The same where somebody else is at work for the account, and of what is only about a few of its items."""

EVENTS_WAIT_FOR = timedelta(hours=2)
"""So long an event asks for a report of its own: after that a full run has reported what it is about, or has failed."""

log = structlog.get_logger()


def all_due(accounts: Sequence[Configuration], books: Books, now: datetime) -> Iterator[Job]:
    """Yield what is due at an instant of this machine's clock, account by account."""
    for account in accounts:
        for kind in Kind:
            job = Job(kind, account.account)
            if is_due(job, account, books, now):
                yield job


def is_due(job: Job, account: Configuration, books: Books, now: datetime) -> bool:
    """Say whether a job is to be done at an instant of this machine's clock.

    A full run is where none is complete since the account's turn of the schedule began; a closing run where a period
    ends; a report of Stripe's events where any wait. What has failed rests for a while. Where the configuration of an
    account, or its books, cannot be used, its full run is due as if it had never been: what is wrong is the run's to
    say.
    """
    last = books(turns_of(job.account)).turns.last().get(job.kind)
    if last and _rests_until(job.kind, last) > now:
        return False
    try:
        settings = account.settings(())
        ledger = books(settings.scope)
        if job.kind is Kind.CLOSING:
            return bool(ledger.listed.due(now, CLOSING_WITHIN, timedelta(days=settings.lookback_days)))
        if job.kind is Kind.WEBHOOK:
            return any(one.received_at > now - EVENTS_WAIT_FOR for one in ledger.webhook_queue.waiting())
        complete = ledger.runs.last_complete()
        return complete is None or complete < settings.schedule.turn_began(job.account, now)
    except (ConfigurationError, LedgerError) as error:
        log.warning("account_unreadable", account=job.account, message=error.message)
        return job.kind is Kind.FULL


def _rests_until(kind: Kind, last: Turn) -> datetime:
    """Return until when what was done last rests: one that was cut off, or whose worker was lost, does not."""
    if last.ended_at is None or last.exit_code is None:
        return last.begun_at
    if kind is Kind.WEBHOOK and last.exit_code in (ExitCode.DONE, ExitCode.ATTENTION):
        return last.ended_at  # an event that has come since is to be reported at once
    is_soon = kind is not Kind.FULL or last.exit_code == ExitCode.TRY_AGAIN
    return last.ended_at + (AGAIN_SOON_AFTER if is_soon else AGAIN_AFTER)
