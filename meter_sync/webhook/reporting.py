"""What the worker does for a subscription: the six steps, and what became of them in the log."""

from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from meter_sync.config import Settings
from meter_sync.core.outcomes import ExitCode, exit_code
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import MeterSyncError
from meter_sync.net.stop import Stop
from meter_sync.sync.books import execute
from meter_sync.sync.request import Execution, Request
from meter_sync.webhook.worker import Report

log = structlog.get_logger()

FOLLOW_UP_SECONDS = 600.0
FOLLOWED_FOR = timedelta(hours=2)
_NOTHING_TO_REPORT = "nothing_selected"
"""Stripe does not know the subscription, or it has no metered item."""
_NOT_CONNECTED = "stripe_account"
"""The account is not connected to the platform, or not any more."""


def reporter(settings: Settings, clock: Callable[[], datetime], stop: Stop) -> Report:
    """Return what reports a subscription and returns the exit code that `run` would end with."""

    async def report(subscription: str | None) -> ExitCode:
        # Without a subscription it is about those that the meters' error events, which are read first, are about.
        selection = Selection(subscriptions=(subscription,) if subscription else ())
        request = Request(selection=selection, is_about_rejections=subscription is None, is_beside=True)
        execution = await execute(settings, request, clock, stop)
        _log(execution, subscription)
        error = execution.report.error
        if error and error.code == _NOTHING_TO_REPORT:
            return ExitCode.DONE
        if error:
            return _tried_as(error)
        if execution.report.gave_way:  # what another writer has under way may be about an instant before the event
            return ExitCode.TRY_AGAIN
        return execution.report.exit_code

    return report


def ended_by(error: MeterSyncError, subscription: str | None) -> ExitCode:
    """Say in the log what ended a report, or kept it from beginning, and return how it is to be tried again."""
    log.warning(
        "webhook_report_ended", subscription=subscription, code=error.code, message=error.message, hint=error.hint
    )
    return _tried_as(error)


def _tried_as(error: MeterSyncError) -> ExitCode:
    """Return the error's exit code; but an account out of reach may stay so: it is not tried for ever."""
    return ExitCode.FAILED if error.code == _NOT_CONNECTED else error.exit_code


async def follow_up(settings: Settings, clock: Callable[[], datetime], stop: Stop) -> None:
    """Finish what has ended and could not be finished when its event came.

    Of a subscription that is canceled it takes an hour to know that no invoice comes, and no event says so.
    """
    _log(await execute(settings, Request(closing=FOLLOWED_FOR, is_beside=True), clock, stop), None)


def _log(execution: Execution, subscription: str | None) -> None:
    """Say what the table of a run would say: nobody sees one here."""
    error = execution.report.error
    if error and error.code == _NOTHING_TO_REPORT:
        log.info("webhook_nothing_to_report", subscription=subscription)
    elif error:
        ended_by(error, subscription)
    for one in execution.report.results:
        if exit_code([(one.outcome, one.reason)]) is not ExitCode.DONE:
            log.warning(
                "webhook_item",
                subscription=subscription,
                item=one.item.id,
                outcome=one.outcome.value,
                reason=one.reason and one.reason.value,
                message=one.message,
            )
