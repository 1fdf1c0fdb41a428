"""The ledger's queue of events, for use in an event loop."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from meter_sync.ledger import Ledger, Place, Scope, open_ledger
from meter_sync.ledger.webhook_queue import WebhookEvent

T = TypeVar("T")


class Queue:
    """Events that wait in the ledger, where they outlive this process.

    All is done in one thread of its own, so that a ledger that is busy elsewhere keeps nobody from being answered; and
    the ledger is opened each time, which takes 2 ms, so that an event never goes to a file that was moved away.
    Everything raises MeterSyncError where the ledger cannot be used.
    """

    def __init__(self, place: Place, scope: Scope, clock: Callable[[], datetime]) -> None:
        self._place = place
        self._scope = scope
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "webhook-queue")

    async def put(self, identifier: str, kind: str, subscription: str | None) -> bool:
        """Commit an event to the ledger, and return whether it is new."""
        event = WebhookEvent(identifier, kind, subscription, self._clock())
        return await self._in_ledger(lambda ledger: ledger.webhook_queue.enqueue(event))

    async def waiting(self) -> Sequence[WebhookEvent]:
        """Return the events that wait, oldest first."""
        return await self._in_ledger(lambda ledger: ledger.webhook_queue.waiting())

    async def done(self, events: Sequence[str]) -> None:
        """Record that what these events asked for was done."""
        at = self._clock()
        await self._in_ledger(lambda ledger: ledger.webhook_queue.record_done(events, at))

    async def _in_ledger(self, use: Callable[[Ledger], T]) -> T:
        def opened() -> T:
            with open_ledger(self._place, self._scope) as ledger:
                return use(ledger)

        return await asyncio.get_running_loop().run_in_executor(self._thread, opened)

    def close(self) -> None:
        """Wait for what is under way, and end the thread."""
        self._thread.shutdown(cancel_futures=True)
