"""Reminding workers of events that were received: who receives them does nothing more."""

import asyncio

import structlog

from meter_sync.errors import MeterSyncError
from meter_sync.fleet.kinds import Job, Kind
from meter_sync.fleet.queue import opened_queue
from meter_sync.net.postgres_url import PostgresUrl
from meter_sync.net.stop import Stop

log = structlog.get_logger()


class Reminder:
    """Queues a job for each account of which events came. Where that fails, a worker finds them within a minute."""

    def __init__(self, place: PostgresUrl, stop: Stop) -> None:
        self._place = place
        self._stop = stop
        self._news: asyncio.Queue[str | None] = asyncio.Queue()

    def wake(self, account: str) -> None:
        """Say that an event of an account was stored, by its name."""
        self._news.put_nowait(account)

    async def work(self) -> None:
        """Remind workers until the end is asked for."""
        ending = asyncio.create_task(self._end_of_news())
        try:
            while not self._stop.requested:
                try:
                    await self._remind()
                except MeterSyncError as error:
                    log.warning("webhook_not_reminded", message=error.message)
        finally:
            ending.cancel()

    async def _remind(self) -> None:
        """Queue jobs over one connection, for as long as that holds."""
        account = await self._news.get()
        if account is None:
            return
        async with opened_queue(self._place) as queue:
            while account is not None:
                await queue.put(Job(Kind.WEBHOOK, account))
                account = await self._news.get()

    async def _end_of_news(self) -> None:
        await self._stop.wait()
        self._news.put_nowait(None)
