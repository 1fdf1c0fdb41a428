"""What the worker does for a subscription: the six steps, and what became of them in the log."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

import structlog

from meter_sync.config import Settings
from meter_sync.core.outcomes import ExitCode, exit_code
from meter_sync.core.planning.selection import Selection
from meter_sync.errors import Interrupted
from meter_sync.net.stop import Stop
from meter_sync.sync.books import execute
from meter_sync.sync.request import Execution, Request
from meter_sync.webhook.worker import Report

log = structlog.get_logger()

FOLLOW_UP_SECONDS = 600.0
FOLLOWED_FOR = timedelta(hours=2)
_NOTHING_TO_REPORT = "nothing_selected"
"""Stripe does not know the subscription, or it has no metered item."""


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
        if execution.report.gave_way:  # what another writer has under way may be about an instant before the event
            return ExitCode.TRY_AGAIN
        return execution.report.exit_code

    return report


async def follow_up(settings: Settings, clock: Callable[[], datetime], stop: Stop) -> None:
    """Finish what has ended and could not be finished when its event came, every so often until the end is asked for.

    Of a subscription that is canceled it takes an hour to know that no invoice comes, and no event says so.
    """
    while not stop.requested:
        with suppress(Interrupted):
            await stop.sleep(FOLLOW_UP_SECONDS)
            request = Request(closing=FOLLOWED_FOR, is_beside=True)
            _log(await execute(settings, request, clock, stop), None)


def _log(execution: Execution, subscription: str | None) -> None:
    """Say what the table of a run would say: nobody sees one here."""
    error = execution.report.error
    if error and error.code == _NOTHING_TO_REPORT:
        log.info("webhook_nothing_to_report", subscription=subscription)
    elif error:
        log.warning(
            "webhook_report_ended", subscription=subscription, code=error.code, message=error.message, hint=error.hint
        )
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
