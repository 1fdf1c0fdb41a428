"""The end of a run that a signal asks for, and waiting that it ends."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from meter_sync.errors import Interrupted


class Stop:
    """The request to end, as a signal makes it: requests in flight finish, nothing new begins."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._put_off: ContextVar[bool] = ContextVar("put_off", default=False)

    def request(self) -> None:
        """Ask everything that waits or would begin to end."""
        self._event.set()

    @property
    def requested(self) -> bool:
        """Whether the end was asked for, and may come now."""
        return self._event.is_set() and not self._put_off.get()

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """Do what is inside to its end, in this task: what was begun in Stripe must not be left half done."""
        token = self._put_off.set(True)
        try:
            yield
        finally:
            self._put_off.reset(token)

    def check(self) -> None:
        """Raise Interrupted if the end was asked for."""
        if self.requested:
            raise Interrupted("the run was interrupted", "run it again; what was sent is not sent twice")

    async def wait(self) -> None:
        """Wait until the end is asked for."""
        await self._event.wait()

    async def sleep(self, seconds: float) -> None:
        """Wait so long. Raise Interrupted as soon as the end is asked for."""
        self.check()
        if self._put_off.get():
            await asyncio.sleep(seconds)
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)
        self.check()
