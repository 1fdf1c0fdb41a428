"""The ledger's queues of events, one for each account, for use in an event loop."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from meter_sync.ledger import Ledger, Place, Scope, open_ledger
from meter_sync.ledger.webhook_queue import WebhookEvent

T = TypeVar("T")

_ANY = Scope("", "")
"""What a ledger is opened for that is asked about all accounts."""


class Queues:
    """Where all queues are.

    All is done in one thread of its own, so that a ledger that is busy elsewhere keeps nobody from being answered; and
    the ledger is opened each time, which takes 2 ms, so that an event never goes to a file that was moved away.
    Everything raises MeterSyncError where the ledger cannot be used.
    """

    def __init__(self, place: Place, clock: Callable[[], datetime]) -> None:
        self._place = place
        self.clock = clock
        self._thread = ThreadPoolExecutor(1, "webhook-queue")

    async def by_account(self) -> Mapping[Scope, int]:
        """Return how many events wait, for each account that has any."""
        return await self.in_ledger(_ANY, lambda ledger: ledger.webhook_queue.by_account())

    async def accounts(self, since: datetime) -> Collection[Scope]:
        """Return the accounts of which an event waits, or came since."""
        return await self.in_ledger(_ANY, lambda ledger: ledger.webhook_queue.accounts(since))

    async def in_ledger(self, scope: Scope, use: Callable[[Ledger], T]) -> T:
        """Return what the use of an account's books returns."""

        def opened() -> T:
            with open_ledger(self._place, scope) as ledger:
                return use(ledger)

        return await asyncio.get_running_loop().run_in_executor(self._thread, opened)

    def close(self) -> None:
        """Wait for what is under way, and end the thread."""
        self._thread.shutdown(cancel_futures=True)


class Queue:
    """Events of an account that wait in the ledger, where they outlive this process. It raises what `Queues` does."""

    def __init__(self, queues: Queues, scope: Scope) -> None:
        self._queues = queues
        self._scope = scope

    async def put(self, identifier: str, kind: str, subscription: str | None) -> bool:
        """Commit an event to the ledger, and return whether it is new."""
        event = WebhookEvent(identifier, kind, subscription, self._queues.clock())
        return await self._queues.in_ledger(self._scope, lambda ledger: ledger.webhook_queue.enqueue(event))

    async def waiting(self) -> Sequence[WebhookEvent]:
        """Return the events that wait, oldest first."""
        return await self._queues.in_ledger(self._scope, lambda ledger: ledger.webhook_queue.waiting())

    async def done(self, events: Sequence[str]) -> None:
        """Record that what these events asked for was done."""
        at = self._queues.clock()
        await self._queues.in_ledger(self._scope, lambda ledger: ledger.webhook_queue.record_done(events, at))
