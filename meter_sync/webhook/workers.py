"""Reporting for all accounts: each has a worker while there is something to do for it, and no longer."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import structlog

from meter_sync.core.outcomes import ExitCode
from meter_sync.errors import MeterSyncError
from meter_sync.net.places import places_shared
from meter_sync.net.stop import Stop
from meter_sync.net.tasks import first_error_only
from meter_sync.sync.connected import has_metadata
from meter_sync.webhook.accounts import Account, Accounts, named_in_log
from meter_sync.webhook.queue import Queue, Queues
from meter_sync.webhook.reporting import FOLLOW_UP_SECONDS, FOLLOWED_FOR, ended_by, follow_up, reporter
from meter_sync.webhook.worker import Worker, log_bug

log = structlog.get_logger()


class Workers:
    """Works off the queues of all accounts until the end is asked for.

    The ledger is asked once which accounts an earlier process has left something of. From then on nothing is begun for
    an account before somebody says that its queue has news.
    """

    def __init__(
        self,
        accounts: Accounts,
        queues: Queues,
        at_once: int,
        stop: Stop,
        *,
        follow_up_seconds: float = FOLLOW_UP_SECONDS,
        followed_for: timedelta = FOLLOWED_FOR,
    ) -> None:
        self._accounts = accounts
        self._queues = queues
        self._turns = Turns(at_once)
        self._stop = stop
        self._follow_up_seconds = follow_up_seconds
        self._followed_for = followed_for
        self._news: asyncio.Queue[str | None] = asyncio.Queue()
        self._working: dict[str, _Attendance] = {}

    @property
    def at_work(self) -> frozenset[str]:
        """The names of the accounts that something is done for, or may be soon."""
        return frozenset(self._working)

    def wake(self, account: str) -> None:
        """Say that an event of an account was queued, by its name."""
        self._news.put_nowait(account)

    async def recall(self) -> None:
        """Wake the accounts of which an earlier process has left something, or the only one.

        Something is also what is still followed up. Raise MeterSyncError where the ledger cannot be used.
        """
        found = await self._queues.accounts(self._queues.clock() - self._followed_for)
        if self._accounts.only:
            self.wake(self._accounts.only.name)
            return
        for scope in found:
            account = self._accounts.of(scope)
            if account:
                self.wake(account.name)

    async def work(self) -> None:
        """Work off the queues of the accounts that are woken, and return when the end is asked for."""
        with places_shared():
            async with first_error_only(), asyncio.TaskGroup() as group:
                group.create_task(self._end_of_news())
                while (name := await self._news.get()) is not None:
                    if name in self._working:
                        self._working[name].wake()
                    elif account := self._accounts.named(name):
                        group.create_task(self._attend(account, self._begun(account)))

    async def _end_of_news(self) -> None:
        await self._stop.wait()
        self._news.put_nowait(None)

    def _begun(self, account: Account) -> "_Attendance":
        begun = _Attendance(account, self._accounts, self._turns, self._queues, self._stop)
        self._working[account.name] = begun
        return begun

    async def _attend(self, account: Account, attendance: "_Attendance") -> None:
        with named_in_log(account.name):
            async with asyncio.TaskGroup() as group:
                working = group.create_task(attendance.worker.work())
                await attendance.follow_up(self._follow_up_seconds, self._followed_for)
                # Nothing is awaited from here on: news of the account begins it anew, and meets no worker that goes.
                del self._working[account.name]
                if not self._stop.requested:
                    working.cancel()


class _Attendance:
    """What is done for an account from its first event until nothing has come of it for so long as is followed up."""

    def __init__(self, account: Account, accounts: Accounts, turns: "Turns", queues: Queues, stop: Stop) -> None:
        self._account = account
        self._accounts = accounts
        self._turns = turns
        self._clock = queues.clock
        self._stop = stop
        self._report = reporter(account.settings, queues.clock, stop)
        self._is_wanted: bool | None = None if account.metadata else True
        self._woken_at = time.monotonic()
        self.worker = Worker(Queue(queues, account.scope), self._reported, stop)

    def wake(self) -> None:
        """Say that its queue has news."""
        self._woken_at = time.monotonic()
        self.worker.wake()

    async def follow_up(self, every_seconds: float, followed_for: timedelta) -> None:
        """Finish every so often what could not be finished before, and return when there is nothing more to follow."""
        while not self._stop.requested and not self._is_at_rest(followed_for):
            try:
                await self._stop.sleep(every_seconds)
                async with self._turns.of(self._account.name, self._stop):
                    if await self._wanted():
                        await follow_up(self._account.settings, self._clock, self._stop)
            except MeterSyncError:
                continue  # the end is asked for, or Stripe did not say whether it is wanted: the worker names that
            except Exception as error:
                log_bug(error)

    def _is_at_rest(self, followed_for: timedelta) -> bool:
        is_long_ago = time.monotonic() - self._woken_at > followed_for.total_seconds()
        return is_long_ago and self.worker.is_idle and self._account is not self._accounts.only

    async def _reported(self, subscription: str | None) -> ExitCode:
        async with self._turns.of(self._account.name, self._stop):
            code = await self._reported_in_turn(subscription)
        self._turns.note(self._account.name, code)
        return code

    async def _reported_in_turn(self, subscription: str | None) -> ExitCode:
        try:
            is_wanted = await self._wanted()
        except MeterSyncError as error:
            return ended_by(error, subscription)
        if is_wanted:
            return await self._report(subscription)
        log.info("webhook_ignored", why="it has not what connect.metadata names", subscription=subscription)
        return ExitCode.DONE

    async def _wanted(self) -> bool:
        """Say whether full runs work on the account, too. Raise MeterSyncError where Stripe does not tell."""
        if self._is_wanted is None and self._accounts.connected and self._account.stripe_account:
            platform, id = self._accounts.connected.platform, self._account.stripe_account
            self._is_wanted = await has_metadata(platform, id, self._clock, self._stop)
        return bool(self._is_wanted)


class Turns:
    """How many accounts are reported at once, and of those whose server did not answer last time half as many.

    Such a report takes a minute each time, in which it may keep others of its kind waiting, and nobody else.
    """

    def __init__(self, at_once: int) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._of_ailing = asyncio.Semaphore(max(1, at_once // 2))
        self._ailing = set[str]()

    @asynccontextmanager
    async def of(self, account: str, stop: Stop) -> AsyncIterator[None]:
        """Wait for an account's turn, and have it inside. Raise Interrupted if the end is asked for by then."""
        async with AsyncExitStack() as places:
            if account in self._ailing:
                await places.enter_async_context(self._of_ailing)
            await places.enter_async_context(self._all)
            stop.check()
            yield

    def note(self, account: str, code: ExitCode) -> None:
        """Take note of how a report has ended."""
        (self._ailing.add if code is ExitCode.TRY_AGAIN else self._ailing.discard)(account)
