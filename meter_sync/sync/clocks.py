"""Test clocks of a Stripe sandbox: runs at the time of one, and what other runs do not see of them."""

from dataclasses import replace

import structlog

from meter_sync.config import Settings
from meter_sync.errors import ArgumentsError, MeterSyncError, TryAgainError
from meter_sync.ledger import RunRecord
from meter_sync.net.stop import Stop
from meter_sync.net.tally import Tally
from meter_sync.net.tasks import together
from meter_sync.stripe_api.clocks import clock_of, every_clock
from meter_sync.stripe_api.connection import StripeRefused, StripeUnavailable, unreachable
from meter_sync.sync.job import Clock, Job, open_reader

log = structlog.get_logger()

_READY = "ready"
_COUNTED = 10
"""So many test clocks are looked at, each with one request: there may be hundreds in an account that tests use."""


def check_clock(settings: Settings, test_clock: str | None) -> None:
    """Raise ArgumentsError for a test clock with a live key: live mode has none, and its time is the real one."""
    if test_clock is not None and settings.stripe.is_live:
        raise _live(test_clock)


async def at_clock(
    settings: Settings, test_clock: str, run: RunRecord, clock: Clock, stop: Stop
) -> tuple[RunRecord, Tally]:
    """Return a run at the time of a test clock, which is its now from beginning to end, and the requests it took.

    `clock` is this machine's, which is held against Stripe's answer as ever.
    Raise ArgumentsError for one of live mode, TryAgainError while it is not ready, ConfigurationError where the key may
    not read it, or MeterSyncError.
    """
    async with open_reader(settings, clock, stop) as stripe:
        try:
            found = await clock_of(stripe, test_clock)
        except StripeUnavailable as failure:
            raise unreachable(failure) from failure
        except StripeRefused as refusal:
            raise _refused(test_clock, refusal) from refusal
        asked = stripe.tally
    if found.livemode:
        raise _live(test_clock)
    if found.status != _READY:
        raise TryAgainError(
            f"test clock {test_clock} is {found.status}, not {_READY}: what is on it is between two times; nothing was "
            "written",
            "run again once Stripe shows it as ready; one that failed to advance has to be made anew",
            code="test_clock_busy",
        )
    log.info("test_clock", test_clock=test_clock, frozen_time=found.frozen_time.isoformat())
    return replace(run, started_at=found.frozen_time, as_of=found.frozen_time), asked


async def warn_of_unseen(job: Job) -> None:
    """Say in the log how many subscriptions a full run in a sandbox does not see, since they are on test clocks.

    It takes a request, and one more for each of the newest test clocks. Nothing depends on it: where the key may not
    read them, or Stripe does not answer, nothing is said.
    """
    if not job.run.everything or job.test_clock is not None or job.ledger.mode == "live":
        return
    try:
        clocks = await every_clock(job.stripe)
        counts = await together(job.lister.count_on_clock(one.id) for one in clocks[:_COUNTED])
    except (MeterSyncError, StripeRefused, StripeUnavailable) as error:
        log.info("test_clocks_not_read", message=error.message)
        return
    unseen = {one.id: count for one, count in zip(clocks, counts, strict=False) if count}
    if unseen:
        log.warning(
            "test_clocks_unseen",
            subscriptions=sum(unseen.values()),
            is_all=len(clocks) <= _COUNTED,
            test_clocks=sorted(unseen),
            message="these subscriptions are on test clocks, where a run reports them with --test-clock only",
        )


def _live(test_clock: str) -> ArgumentsError:
    return ArgumentsError(
        f"--test-clock {test_clock} is for a sandbox, and the key is of live mode; nothing was read or written",
        "leave --test-clock out, or use a key of the sandbox that the test clock is in",
    )


def _refused(test_clock: str, refusal: StripeRefused) -> MeterSyncError:
    if refusal.is_missing:
        return MeterSyncError(
            f"--test-clock {test_clock} is no test clock of this sandbox; nothing was written",
            "check its id, and that the key is of the same account; Stripe deletes test clocks after 30 days",
            code="nothing_selected",
        )
    return MeterSyncError(
        f"Stripe refused to show test clock {test_clock}: {refusal.message}; nothing was written",
        "correct what Stripe names; if it is nothing of yours, report it with this message",
        code="stripe_refused",
    )
