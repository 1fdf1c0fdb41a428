"""Holding a ledger to the Stripe account that it was first used with: another one's usage must not meet it."""

import structlog

from meter_sync.errors import MeterSyncError
from meter_sync.ledger.binding import BoundTo, bound_otherwise
from meter_sync.stripe_api.account import account_of
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable, unreachable
from meter_sync.sync.job import Job

log = structlog.get_logger()


async def bind(job: Job) -> None:
    """Bind the ledger to the key's account and mode, or make sure that it is: one request.

    A dry run binds nothing. Where the key may not read its account, only the mode is told apart.
    Raise ConfigurationError for another account, or for one that has books under another name; TryAgainError or
    MeterSyncError if it cannot be read.
    """
    ledger = job.ledger
    bound, account = ledger.binding.read(), await _account(job)
    found = BoundTo(account or "", ledger.mode)
    if bound and account and bound.stripe_account not in ("", account):
        raise bound_otherwise(bound, found)
    ledger.binding.check_alone(found)
    is_news = bound is None or (account and not bound.stripe_account)
    if is_news and job.writer is not None:
        ledger.binding.bind(found, job.clock())
        ledger.binding.check_alone(found)  # another one may have begun at the same time
        log.info("ledger_bound", stripe_account=account, mode=ledger.mode)


async def _account(job: Job) -> str | None:
    try:
        return await account_of(job.stripe)
    except StripeUnavailable as failure:
        raise unreachable(failure) from failure
    except StripeRefused as refusal:
        raise MeterSyncError(
            f"Stripe did not say which account the key is of: {refusal.message}; nothing was written",
            "run it again; if it lasts, look at Stripe's status",
            code="stripe_error",
        ) from refusal
