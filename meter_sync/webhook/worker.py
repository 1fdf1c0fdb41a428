"""Working off the queue: one subscription after the other."""

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence

import structlog

from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError
from meter_sync.net.stop import Stop
from meter_sync.webhook.queue import Queue

log = structlog.get_logger()

Report = Callable[[str | None], Awaitable[ExitCode]]
"""Reports a subscription; given None it reads the meters' error events, and reports what these are about."""

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
ATTEMPTS = 8
"""So often in a row a subscription is tried whose own items fail: for two minutes."""

_IS_DONE = (ExitCode.DONE, ExitCode.ATTENTION)
"""Somebody should look at what was held, but to report it again at once would hold it again."""
_WOULD_BE_THE_SAME_FOR_ALL = (ExitCode.TRY_AGAIN, ExitCode.CONFIGURATION)


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
    ended well; until then it stays queued, also over the end of this process. What fails time and again is left to the
    next full run, or until another event of its subscription comes.
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
        self._left: frozenset[str] = frozenset()
        self.is_idle = False
        """Whether there was nothing to do when it looked last, but for what was left, and no event was queued since."""

    def wake(self) -> None:
        """Say that an event was queued."""
        self.is_idle = False
        self._news.set()

    async def work(self) -> None:
        """Work off what an earlier process left and what comes, and return when the end is asked for."""
        while not self._stop.requested:
            self._news.clear()
            try:
                await self._do_or_rest()
            except MeterSyncError as error:  # the ledger cannot be read
                wait_seconds = self._of_all.lengthen()
                log.warning("webhook_try_again", because=error.message, wait_seconds=round(wait_seconds, 1))
                await self._rest(wait_seconds)
            except Exception as error:  # other accounts have workers of their own, and must not lose theirs
                log_bug(error)
                await self._rest(self._of_all.lengthen())

    async def drain(self) -> list[ExitCode]:
        """Report once what waits now, and return the exit codes. What fails stays queued. Raise MeterSyncError."""
        codes, tried = list[ExitCode](), set[str]()
        while not self._stop.requested:
            waiting = {one: ids for one, ids in (await self._waiting()).items() if not tried.issuperset(ids)}
            if not waiting:
                break
            subscription, ids = next(iter(waiting.items()))
            self._of_one.setdefault(subscription, Pause(self._first_pause_seconds))
            tried.update(ids)
            codes.append(await self._do(subscription, ids))
        return codes

    async def _waiting(self) -> dict[str | None, list[str]]:
        """Return the events that wait by the subscription that they are about, the one with the oldest first."""
        events: dict[str | None, list[str]] = {}
        for event in await self._queue.waiting():
            events.setdefault(event.subscription, []).append(event.id)
        return events

    async def _do_or_rest(self) -> None:
        """Report what waits, the subscription with the oldest event first; where nothing is due, wait."""
        events = await self._waiting()
        self._left &= frozenset(id for ids in events.values() for id in ids)
        events = {one: ids for one, ids in events.items() if not self._left.issuperset(ids)}
        self.is_idle = not events and not self._news.is_set()
        self._of_one = {one: self._of_one.get(one) or Pause(self._first_pause_seconds) for one in events}
        of_all = self._of_all.remaining_seconds
        waits = {one: max(of_all, pause.remaining_seconds) for one, pause in self._of_one.items()}
        due = [one for one, seconds in waits.items() if seconds <= 0]
        if due:
            # What fails again and again must not keep the rest waiting.
            subscription = min(due, key=lambda one: self._of_one[one].failures)
            await self._do(subscription, events[subscription])
        else:
            await self._rest(min([*waits.values(), LONGEST_PAUSE_SECONDS]))

    async def _do(self, subscription: str | None, events: Sequence[str]) -> ExitCode:
        try:
            code = await self._report(subscription)
            if code not in _IS_DONE:
                self._try_again(subscription, events, f"exit code {int(code)}", code)
                return code
            await self._queue.done(events)
        except MeterSyncError as error:
            self._try_again(subscription, events, error.message, error.exit_code)
            return error.exit_code
        except Exception as error:
            because = log_bug(error, subscription=subscription)
            self._try_again(subscription, events, because, ExitCode.FAILED)
            return ExitCode.FAILED
        else:
            self._of_all = Pause(self._first_pause_seconds)
            del self._of_one[subscription]
            log.info("webhook_done", subscription=subscription, events=len(events), exit_code=int(code))
            return code

    def _try_again(self, subscription: str | None, events: Sequence[str], because: str, code: ExitCode) -> None:
        about = {"subscription": subscription, "events": len(events)}
        if self._stop.requested:
            log.info("webhook_left_queued", **about)
            return
        pause = self._of_one[subscription]
        wait_seconds = pause.lengthen()
        if pause.failures >= ATTEMPTS and code not in _WOULD_BE_THE_SAME_FOR_ALL:
            self._left |= frozenset(events)
            said = f"it failed {ATTEMPTS} times; the next full run reports it"
            log.warning("webhook_left", because=because, message=said, **about)
            return
        if code in _WOULD_BE_THE_SAME_FOR_ALL:
            wait_seconds = self._of_all.lengthen()
        log.warning("webhook_try_again", because=because, wait_seconds=round(wait_seconds, 1), **about)

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until an event is queued or the end is asked for."""
        tasks = [asyncio.create_task(self._news.wait()), asyncio.create_task(self._stop.sleep(seconds))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def log_bug(error: Exception, **about: object) -> str:
    """Say in the log which bug is being handled, which nobody foresaw, and return it in words."""
    because = f"meter-sync itself failed with {type(error).__name__}"
    log.error("webhook_failed", because=because, traceback=traceback.format_exc(), **about)
    return because
