"""How many requests may be under way to a server at once, for however many accounts, and from however many machines."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType


class Places:
    """The places at a server, each for a request that is under way: `async with` waits for one."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._free = asyncio.Semaphore(at_once)
        self._left = 0
        self._changing = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self._free.acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._free.release()

    async def leave_to(self, others: int) -> None:
        """Leave to each of so many others as many places as are taken here: one is, whoever there is.

        It waits until those are free that are left, and not longer for one that is taken back.
        """
        left = self._at_once - max(1, self._at_once // (others + 1))
        async with self._changing:
            while self._left < left:
                await self._free.acquire()
                self._left += 1
            while self._left > left:
                self._free.release()
                self._left -= 1


_shared: ContextVar[dict[str, Places] | None] = ContextVar("shared", default=None)
"""Where places are shared, those at each address."""


@contextmanager
def places_shared() -> Iterator[None]:
    """Let all who ask a server inside share its places: as many as whoever asked for them first.

    What a server answers at once does not depend on for how many accounts it is asked. Within such a block another one
    changes nothing.
    """
    if _shared.get() is not None:
        yield
        return
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def places_at(address: str, at_once: int) -> Places:
    """Return the places at a server."""
    places, shared = Places(at_once), _shared.get()
    return places if shared is None else shared.setdefault(address, places)
