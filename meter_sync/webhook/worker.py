"""Working off the queue: one subscription after the other."""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError
from meter_sync.net.stop import Stop
from meter_sync.webhook.queue import Queue

log = structlog.get_logger()

Report = Callable[[str | None], Awaitable[ExitCode]]
"""Reports a subscription; given None it reads the meters' error events."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0

_IS_DONE = (ExitCode.DONE, ExitCode.ATTENTION)
"""Somebody should look at what was held, but to report it again at once would hold it again."""
_WOULD_BE_THE_SAME_FOR_ALL = (ExitCode.TRY_AGAIN, ExitCode.CONFIGURATION)


@dataclass(frozen=True, slots=True)
class Due:
    """The events of one subscription that wait for one report."""

    subscription: str | None
    events: Sequence[str]


class Pause:
    """How long to leave alone what failed: twice as long each time."""

    def __init__(self, first_seconds: float) -> None:
        self._first_seconds = first_seconds
        self._until = 0.0
        self.failures = 0

    def lengthen(self) -> float:
        """Begin the next pause, and return its length in seconds."""
        seconds = min(self._first_seconds * 2.0 ** min(self.failures, 10), LONGEST_PAUSE_SECONDS)
        self.failures += 1
        self._until = time.monotonic() + seconds
        return seconds

    @property
    def remaining_seconds(self) -> float:
        """How long it still is, 0 or less when it is over."""
        return self._until - time.monotonic()


class Worker:
    """Reports what the queued events are about, until it is asked to stop.

    Several events of one subscription are one report. An event is done when a report that began after its arrival has
    ended well; until then it stays queued, also over the end of this process.
    """

    def __init__(
        self, queue: Queue, report: Report, stop: Stop, *, first_pause_seconds: float = FIRST_PAUSE_SECONDS
    ) -> None:
        self._queue = queue
        self._report = report
        self._stop = stop
        self._first_pause_seconds = first_pause_seconds
        self._news = asyncio.Event()
        self._of_all = Pause(first_pause_seconds)
        self._of_one: dict[str | None, Pause] = {}

    def wake(self) -> None:
        """Say that an event was queued."""
        self._news.set()

    async def work(self) -> None:
        """Work off what an earlier process left and what comes, and return when the end is asked for."""
        while not self._stop.requested:
            self._news.clear()
            try:
                await self._do_or_rest(await self._jobs())
            except MeterSyncError as error:  # the ledger cannot be read
                wait_seconds = self._of_all.lengthen()
                self._log_failure(error.message, wait_seconds)
                await self._rest(wait_seconds)

    async def _jobs(self) -> Sequence[Due]:
        """Return what waits, the subscription with the oldest event first."""
        events: dict[str | None, list[str]] = {}
        for event in await self._queue.waiting():
            events.setdefault(event.subscription, []).append(event.id)
        self._of_one = {subscription: pause for subscription, pause in self._of_one.items() if subscription in events}
        return [Due(subscription, ids) for subscription, ids in events.items()]

    async def _do_or_rest(self, jobs: Sequence[Due]) -> None:
        waits = [self._wait_seconds(job) for job in jobs]
        due = [job for job, seconds in zip(jobs, waits, strict=True) if seconds <= 0]
        if due:
            # What fails again and again must not keep the rest waiting.
            await self._do(min(due, key=lambda job: self._pause_of(job).failures))
        else:
            await self._rest(min([*waits, LONGEST_PAUSE_SECONDS]))

    async def _do(self, job: Due) -> None:
        try:
            code = await self._report(job.subscription)
            if code not in _IS_DONE:
                return self._try_again(job, f"exit code {int(code)}", code)
            await self._queue.done(job.events)
        except MeterSyncError as error:
            self._try_again(job, error.message, error.exit_code)
        except Exception as error:
            traceback.print_exc()
            self._try_again(job, f"meter-sync itself failed with {type(error).__name__}", ExitCode.FAILED)
        else:
            self._of_all = Pause(self._first_pause_seconds)
            self._of_one.pop(job.subscription, None)
            log.info("webhook_done", subscription=job.subscription, events=len(job.events), exit_code=int(code))

    def _try_again(self, job: Due, because: str, code: ExitCode) -> None:
        if self._stop.requested:
            log.info("webhook_left_queued", subscription=job.subscription, events=len(job.events))
            return
        wait_seconds = self._pause_of(job).lengthen()
        if code in _WOULD_BE_THE_SAME_FOR_ALL:
            wait_seconds = self._of_all.lengthen()
        self._log_failure(because, wait_seconds, subscription=job.subscription, events=len(job.events))

    def _log_failure(self, because: str, wait_seconds: float, **of: object) -> None:
        log.warning("webhook_try_again", because=because, wait_seconds=round(wait_seconds, 1), **of)

    def _pause_of(self, job: Due) -> Pause:
        return self._of_one.setdefault(job.subscription, Pause(self._first_pause_seconds))

    def _wait_seconds(self, job: Due) -> float:
        return max(self._of_all.remaining_seconds, self._pause_of(job).remaining_seconds)

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until an event is queued or the end is asked for."""
        tasks = [asyncio.create_task(self._news.wait()), asyncio.create_task(self._stop.sleep(seconds))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
