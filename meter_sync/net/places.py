"""How many requests may be under way to a server at once, for however many accounts it is asked."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_shared: ContextVar[dict[str, asyncio.Semaphore] | None] = ContextVar("shared", default=None)
"""Where places are shared, those at each address."""


@contextmanager
def places_shared() -> Iterator[None]:
    """Let all who ask a server inside share its places: as many as whoever asked for them first.

    What a server answers at once does not depend on for how many accounts it is asked.
    """
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def places_at(address: str, at_once: int) -> asyncio.Semaphore:
    """Return the places at a server, each for a request that is under way."""
    places, shared = asyncio.Semaphore(at_once), _shared.get()
    return places if shared is None else shared.setdefault(address, places)
